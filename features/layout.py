"""What the kernel's state is made of: records of keys, labels, and what a plan says about an entity."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.windows import DAY_MS

RECORD = np.dtype(
    [
        ("key", np.int64),
        ("clock", np.int64),  # running maximum of event times, ms
        ("at", np.int64),  # block of single events
        ("merged_at", np.int64),  # block of merged entries
        ("length", np.int32),
        ("merged_length", np.int32),
        ("label_head", np.int32),
        ("days", np.int32),
        ("first", np.int64),  # clock at the first payment
        ("last", np.int64),  # clock at the last payment
        ("count", np.int64),
        ("sum", np.int64),
        ("max", np.int64),
        ("mean", np.float64),
        ("m2", np.float64),
        ("last_amount", np.int64),
        ("x", np.float64),  # sum of unit vectors of past places
        ("y", np.float64),
        ("z", np.float64),
        ("located_at", np.int64),  # true event time of the last located payment
        ("last_x", np.float64),  # its place
        ("last_y", np.float64),
        ("last_z", np.float64),
        ("country", np.int64),
        ("merchant", np.int64),
        ("device", np.int64),
        ("ip", np.int64),
        ("category", np.int64),
        ("fraud_amount", np.int64),
        ("last_fraud", np.int64),
        ("last_day", np.int32),
        ("located", np.int32),
        ("rising", np.int32),
        ("small", np.int32),
        ("repeat", np.int32),
        ("declines", np.int32),
        ("life_declined", np.int32),
        ("life_remote", np.int32),
        ("life_foreign", np.int32),
        ("life_fraud", np.int32),
        ("hours", np.uint16, (24,)),  # payments by hour of day, UTC
        ("weekdays", np.uint16, (7,)),
        ("size_class", np.int8),
        ("merged_class", np.int8),
    ]
)
"""What is known of a key. In one piece: a payment touches most of it, and reaching for it costs more than reading."""

PAIR_RECORD = np.dtype(
    [
        ("key", np.int64),
        ("owner", np.int64),  # key of the first entity, in whose shard the pair lives
        ("first", np.int64),  # ms
        ("last", np.int64),  # running maximum of event times, ms
        ("count", np.int64),
        ("sum", np.int64),
        ("max", np.int64),
    ]
)

LABEL = np.dtype([("at", np.int64), ("id", np.int64), ("amount", np.int64), ("next", np.int64), ("standing", np.int64)])
"""`standing`: 1 a fraud label that counts, 0 one that was taken back, -1 a reversal that came before its label."""

FIRST_LABELS = 256
LABEL_MEMORY_MS = 400 * DAY_MS


class EntityArrays(NamedTuple):
    """The state of one entity."""

    table: npt.NDArray[np.void]
    record: npt.NDArray[np.void]
    events: npt.NDArray[np.void]
    merged: npt.NDArray[np.void]
    labels: npt.NDArray[np.void]
    counters: npt.NDArray[np.int64]
    blank: npt.NDArray[np.void]
    """One record of zeros."""
    fresh: npt.NDArray[np.void]
    """Scratch: one merged entry."""
    statistics: npt.NDArray[np.float64]
    """Scratch: the statistics of one payment."""
    counts: npt.NDArray[np.float64]
    """Scratch: payments per bound."""


class PairArrays(NamedTuple):
    """The state of one pair."""

    table: npt.NDArray[np.void]
    record: npt.NDArray[np.void]
    counters: npt.NDArray[np.int64]
    statistics: npt.NDArray[np.float64]
    """Scratch: the statistics of one payment."""


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
    distinct_bounds: int
    """So many of the bounds, the nearest, have distinct counts that a feature uses; the others' are not made."""
    program: npt.NDArray[np.int64]
    """(features, 5): operation, three operands, column of the result."""
