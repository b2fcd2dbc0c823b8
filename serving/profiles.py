"""Profiles: what the features of an entity were at its last decided payment, taken from the decision's record."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from features.catalogue import FEATURES, NAMES, feature_set_hash
from features.entities import ENTITIES

Name = tuple[str, str]
"""An entity: its kind and its token; a merchant's token is its plain id."""

KINDS = tuple(entity.name for entity in ENTITIES)
_FIELD = {kind: "merchant_id" if kind == "merchant" else f"{kind}_token" for kind in KINDS}
_COLUMNS = {kind: np.array([at for at, one in enumerate(FEATURES) if one.entity == kind], np.int64) for kind in KINDS}
_NAMES = {kind: [NAMES[at] for at in columns] for kind, columns in _COLUMNS.items()}


@dataclass(frozen=True, slots=True)
class DecidedPayment:
    """A decided payment with its whole vector; times in milliseconds."""

    topic_id: str
    partition: int
    offset: int
    transaction_id: str
    event_time_ms: int
    decided_at_ms: int
    vector: bytes

    def newer_than(self, other: "DecidedPayment | None") -> bool:
        """Whether it comes later on the log; a payment of another topic takes the place of any."""
        return other is None or self.topic_id != other.topic_id or self.offset > other.offset


@dataclass(frozen=True)
class Profile:
    """The features of one entity as of a payment, which they do not include; None is unknown."""

    topic_id: str
    partition: int
    offset: int
    transaction_id: str
    as_of_ms: int
    decided_at_ms: int
    feature_set: str
    values: Mapping[str, float | None]

    def to_json(self) -> bytes:
        """The profile as JSON."""
        return orjson.dumps(self)

    @staticmethod
    def from_json(text: bytes) -> "Profile":
        """The profile that `to_json` wrote."""
        return Profile(**orjson.loads(text))


def has_vector(decision: Mapping[str, Any]) -> bool:
    """Whether a decision has features: a rejected payment has none."""
    return decision["vector"] is not None


def is_readable(decision: Mapping[str, Any]) -> bool:
    """Whether its vector is of the feature set that this code knows."""
    return bool(decision["feature_set"] == feature_set_hash()) and len(decision["vector"]) == 4 * len(NAMES)


def payment_of(decision: Mapping[str, Any]) -> DecidedPayment:
    """The payment of a decision with a readable vector."""
    return DecidedPayment(
        decision["topic_id"],
        decision["partition"],
        decision["offset"],
        decision["transaction_id"],
        decision["event_time"],
        decision["decided_at"],
        decision["vector"],
    )


def entities(decision: Mapping[str, Any]) -> list[Name]:
    """Everybody whom a decision's payment names."""
    return [(kind, decision[field]) for kind, field in _FIELD.items() if decision[field] is not None]


def profile(kind: str, payment: DecidedPayment) -> Profile:
    """The profile of the payment's entity of a kind."""
    values = np.frombuffer(payment.vector, "<f4")[_COLUMNS[kind]].tolist()
    return Profile(
        payment.topic_id,
        payment.partition,
        payment.offset,
        payment.transaction_id,
        payment.event_time_ms,
        payment.decided_at_ms,
        feature_set_hash(),
        {name: value if math.isfinite(value) else None for name, value in zip(_NAMES[kind], values, strict=True)},
    )
