"""What the kernel's state is made of: records of keys, labels, and what a plan says about an entity."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.windows import DAY_MS

RECORD = np.dtype(
    [
        ("key", np.int64),
        ("clock", np.int64),  # running maximum of event times, ms
        ("first", np.int64),  # clock at the first payment
        ("last", np.int64),  # clock at the last payment
        ("count", np.int64),
        ("sum", np.int64),
        ("max", np.int64),
        ("mean", np.float64),
        ("m2", np.float64),
        ("last_amount", np.int64),
        ("last_day", np.int64),
        ("days", np.int64),
        ("x", np.float64),  # sum of unit vectors of past places
        ("y", np.float64),
        ("z", np.float64),
        ("located", np.int64),
        ("located_at", np.int64),  # true event time of the last located payment
        ("latitude", np.float64),
        ("longitude", np.float64),
        ("country", np.int64),
        ("merchant", np.int64),
        ("device", np.int64),
        ("ip", np.int64),
        ("category", np.int64),
        ("rising", np.int64),
        ("small", np.int64),
        ("repeat", np.int64),
        ("declines", np.int64),
        ("life_declined", np.int64),
        ("life_remote", np.int64),
        ("life_foreign", np.int64),
        ("life_fraud", np.int64),
        ("fraud_amount", np.int64),
        ("last_fraud", np.int64),
    ]
)

PAIR_RECORD = np.dtype(
    [
        ("key", np.int64),
        ("owner", np.int64),  # key of the first entity, in whose shard the pair lives
        ("clock", np.int64),
        ("first", np.int64),
        ("last", np.int64),
        ("count", np.int64),
        ("sum", np.int64),
        ("max", np.int64),
    ]
)

LABEL = np.dtype([("at", np.int64), ("id", np.int64), ("amount", np.int64), ("next", np.int64), ("standing", np.int64)])
"""`standing`: 1 a fraud label that counts, 0 one that was taken back, -1 a reversal that came before its label."""

LABEL_MEMORY_MS = 400 * DAY_MS
ROOM_FOR_KEYS, ROOM_IN_POOL, ROOM_FOR_LABELS = 1, 2, 3


class EntityArrays(NamedTuple):
    """The state of one entity; `seen` is scratch."""

    table_key: npt.NDArray[np.int64]
    table_slot: npt.NDArray[np.int32]
    record: npt.NDArray[np.void]
    hours: npt.NDArray[np.uint16]
    weekdays: npt.NDArray[np.uint16]
    block: npt.NDArray[np.int64]
    length: npt.NDArray[np.int32]
    size_class: npt.NDArray[np.int8]
    label_head: npt.NDArray[np.int32]
    pool: npt.NDArray[np.void]
    labels: npt.NDArray[np.void]
    counters: npt.NDArray[np.int64]
    blank: npt.NDArray[np.void]
    """One record of zeros."""
    seen: npt.NDArray[np.uint64]
    stamp: npt.NDArray[np.int64]


class PairArrays(NamedTuple):
    """The state of one pair."""

    table_key: npt.NDArray[np.int64]
    table_slot: npt.NDArray[np.int32]
    record: npt.NDArray[np.void]
    counters: npt.NDArray[np.int64]


class Plan(NamedTuple):
    """What to compute for one entity or pair: windows, whom to count, and its features as a program."""

    columns: npt.NDArray[np.int64]
    """Columns of Records.who: the key (two for pairs), then the four counterparts of an entity."""
    bounds: npt.NDArray[np.int64]
    window_of: npt.NDArray[np.int64]
    label_windows: npt.NDArray[np.int64]
    delayed: npt.NDArray[np.int64]
    """(label windows, 2): bounds whose counts are subtracted to give the payments of a delayed window."""
    retention_ms: int
    max_keys: int
    program: npt.NDArray[np.int64]
    """(features, 5): operation, three operands, column of the result."""
