"""The entities that have a history, and the pairs of entities that have one together."""

from dataclasses import dataclass

WHO = ("card", "customer", "merchant", "device", "ip", "country", "issuer_country", "category")
"""Whom and what a record names, as columns of 64-bit hashes; zero where it names nobody."""


@dataclass(frozen=True)
class Entity:
    """An entity with a ring of recent events and a long-term record; `counterparts` are counted distinctly."""

    name: str
    counterparts: tuple[str, str, str, str]


@dataclass(frozen=True)
class Pair:
    """Two entities and what they did together; kept in the shard of the first."""

    name: str
    first: str
    second: str


ENTITIES = (
    Entity("card", ("merchant", "device", "ip", "country")),
    Entity("customer", ("merchant", "device", "ip", "country")),
    Entity("merchant", ("card", "device", "ip", "issuer_country")),
    Entity("device", ("card", "customer", "ip", "merchant")),
    Entity("ip", ("card", "customer", "device", "merchant")),
)
PAIRS = (
    Pair("customer_merchant", "customer", "merchant"),
    Pair("customer_device", "customer", "device"),
    Pair("customer_ip", "customer", "ip"),
    Pair("customer_country", "customer", "country"),
    Pair("customer_category", "customer", "category"),
    Pair("card_device", "card", "device"),
)
PLURALS = {
    "card": "cards",
    "customer": "customers",
    "merchant": "merchants",
    "device": "devices",
    "ip": "ips",
    "country": "countries",
    "issuer_country": "issuer_countries",
}
