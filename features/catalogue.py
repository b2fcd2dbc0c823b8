"""Every feature, in order: the feature set, its hash, and the programs that compute it."""

import hashlib
from collections.abc import Mapping
from functools import cache

import numpy as np
import numpy.typing as npt
import orjson

from features.clusters import MOST_CUSTOMERS
from features.entities import CLUSTER, ENTITIES, PAIRS
from features.expressions import Operation
from features.families import behaviour, device, geography, history, ring, velocity
from features.feature import PATTERNS, Feature
from features.ring import EVENTS_AN_ENTRY, MERGE_FROM, RESOLUTION
from features.statistics import PAYMENT, cluster_places, entity_places, pair_places, payment_places
from features.windows import LABEL_WINDOWS, WINDOWS

FEATURES: tuple[Feature, ...] = (
    *velocity.FEATURES,
    *device.FEATURES,
    *behaviour.FEATURES,
    *geography.FEATURES,
    *history.FEATURES,
    *ring.FEATURES,
)
NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)

KERNEL_VERSION = 3
"""Raised when the kernel's arithmetic changes: it makes another feature set."""

_OPERANDS = {Operation.VALUE: 1, Operation.RATIO: 2, Operation.ZSCORE: 3, Operation.SURPLUS: 2}


def _places(entity: str) -> Mapping[str, int]:
    """Place of every statistic that an entity's features may use; the payment's own come first."""
    own = {f"payment.{name}": at for name, at in payment_places().items()}
    if entity == "payment":
        return own
    if entity == CLUSTER.name:
        others = cluster_places()
    elif any(pair.name == entity for pair in PAIRS):
        others = pair_places()
    else:
        others = entity_places(next(e for e in ENTITIES if e.name == entity))
    return {**own, **{name: at + len(PAYMENT) for name, at in others.items()}}


def program(entity: str) -> npt.NDArray[np.int64]:
    """The features of an entity, pair or the payment: (n, 5) of operation, three operands, column of the vector."""
    rows = []
    places = _places(entity)
    for column, feature in enumerate(FEATURES):
        if feature.entity != entity:
            continue
        operands = [places[name] for name in feature.inputs]
        assert len(operands) == _OPERANDS[feature.operation], feature.name
        rows.append([int(feature.operation), *operands, *[0] * (3 - len(operands)), column])
    return np.array(rows, np.int64).reshape(-1, 5)


@cache
def feature_set_hash() -> str:
    """SHA-256 (hex) of everything that makes the numbers: features, windows, kernel version."""
    content = {
        "kernel": KERNEL_VERSION,
        "ring": [MERGE_FROM, RESOLUTION, EVENTS_AN_ENTRY],
        "windows": dict(WINDOWS),
        "label_windows": dict(LABEL_WINDOWS),
        "entities": [[e.name, *e.counterparts] for e in ENTITIES],
        "cluster": [MOST_CUSTOMERS, dict(CLUSTER.limits)],
        "pairs": [[p.name, p.first, p.second] for p in PAIRS],
        "features": [[f.name, f.entity, int(f.operation), *f.inputs] for f in FEATURES],
    }
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


assert len(set(NAMES)) == len(NAMES), "a feature name is used twice"
assert all(feature.pattern in PATTERNS for feature in FEATURES), "a feature serves no known pattern"
