"""The entities that have a history, and the pairs of entities that have one together."""

from collections.abc import Mapping
from dataclasses import dataclass, field

WHO = ("card", "customer", "merchant", "device", "ip", "country", "issuer_country", "category", "email")
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


@dataclass(frozen=True)
class Cluster:
    """Who is joined with whom, by which tokens; a token that more customers name than its limit joins nobody."""

    name: str
    member: str
    limits: Mapping[str, int] = field(hash=False)


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
CLUSTER = Cluster("cluster", "customer", {"card": 8, "device": 16, "email": 8, "ip": 4})
"""Limits: a household's card or mail box, a handed-on or hired phone, a home's address; beyond, the token is public."""
Subject = Entity | Pair | Cluster
"""What has a state of its own."""
PLURALS = {
    "card": "cards",
    "customer": "customers",
    "merchant": "merchants",
    "device": "devices",
    "ip": "ips",
    "country": "countries",
    "issuer_country": "issuer_countries",
}
