"""The state of every entity and pair, its growing, and the one way to take records in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features import kernel, pairs
from features.catalogue import NAMES, program
from features.entities import ENTITIES, PAIRS, WHO, Entity, Pair
from features.layout import (
    LABEL,
    PAIR_RECORD,
    RECORD,
    ROOM_FOR_LABELS,
    ROOM_IN_POOL,
    EntityArrays,
    PairArrays,
    Plan,
)
from features.records import Records
from features.ring import CLASSES, ENTRY, FIRST_CAPACITY, FREE_BLOCKS, KEYS, LABEL_FREE, LABELS_USED, NONE, POOL_USED
from features.table import fill, grown
from features.windows import DAY_MS, LABEL_WINDOWS, WINDOWS

Matrix = npt.NDArray[np.float32]

FIRST_KEYS = 1024
SEEN_PLACES = 1 << 14
"""Scratch for distinct counts: twice the longest possible ring. Merging leaves at most 64 ln(37 days / 1 ms) < 1,500
entries, and a ring doubles only while it is three quarters full, so 8,192 entries bound it."""
LONGEST_STAMP = (1 << 32) - 2


@dataclass(frozen=True)
class Spec:
    """The settings that change numbers."""

    label_delay_d: int
    record_retention_d: int
    max_keys: int


def _bounds(spec: Spec) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(lengths in ms ascending, place of each window among them or NONE, delayed windows as pairs of bounds)."""
    delay = spec.label_delay_d * DAY_MS
    lengths = sorted({*WINDOWS.values(), *(delay + w for w in LABEL_WINDOWS.values()), *([delay] if delay else [])})
    windows = list(WINDOWS.values())
    window_of = [windows.index(length) if length in windows else NONE for length in lengths]
    # With no delay the nearer bound is the moment itself: a bound of zero, whose count is zero.
    if not delay:
        lengths, window_of = [0, *lengths], [NONE, *window_of]
    delayed = [[lengths.index(delay), lengths.index(delay + w)] for w in LABEL_WINDOWS.values()]
    return np.array(lengths, np.int64), np.array(window_of, np.int64), np.array(delayed, np.int64)


def plan_of(subject: Entity | Pair, spec: Spec) -> Plan:
    """What the kernel is to compute for an entity or pair."""
    bounds, window_of, delayed = _bounds(spec)
    whom = (subject.name, *subject.counterparts) if isinstance(subject, Entity) else (subject.first, subject.second)
    return Plan(
        np.array([WHO.index(name) for name in whom], np.int64),
        bounds,
        window_of,
        np.array(list(LABEL_WINDOWS.values()), np.int64),
        delayed,
        spec.record_retention_d * DAY_MS,
        spec.max_keys,
        program(subject.name),
    )


def _counters() -> npt.NDArray[np.int64]:
    counters = np.zeros(FREE_BLOCKS + CLASSES, np.int64)
    counters[FREE_BLOCKS:] = NONE
    counters[LABEL_FREE] = NONE
    return counters


class EntityState:
    """The rings and records of one entity."""

    def __init__(self, entity: Entity, spec: Spec) -> None:
        self.name = entity.name
        self.plan = plan_of(entity, spec)
        self.arrays = EntityArrays(
            table_key=np.zeros(2 * FIRST_KEYS, np.int64),
            table_slot=np.full(2 * FIRST_KEYS, NONE, np.int32),
            record=np.zeros(FIRST_KEYS, RECORD),
            hours=np.zeros((FIRST_KEYS, 24), np.uint16),
            weekdays=np.zeros((FIRST_KEYS, 7), np.uint16),
            block=np.zeros(FIRST_KEYS, np.int64),
            length=np.zeros(FIRST_KEYS, np.int32),
            size_class=np.zeros(FIRST_KEYS, np.int8),
            label_head=np.full(FIRST_KEYS, NONE, np.int32),
            pool=np.zeros(FIRST_KEYS * FIRST_CAPACITY * 4, ENTRY),
            labels=np.zeros(256, LABEL),
            counters=_counters(),
            blank=np.zeros(1, RECORD),
            seen=np.zeros((4, SEEN_PLACES), np.uint64),
            stamp=np.zeros(1, np.int64),
        )
        self.capped = np.zeros(1, np.int64)

    def advance(self, records: Records, result: Matrix) -> None:
        """Take records in, in order; write the features of payments into their rows of `result`."""
        if self.arrays.stamp[0] > LONGEST_STAMP - len(records.what):
            self.arrays.seen[:] = 0
            self.arrays.stamp[0] = 0
        begin = 0
        while begin < len(records.what):
            begin, lacking = kernel.advance(self.arrays, self.plan, records, begin, result, self.capped)
            if lacking:
                self._grow(lacking)

    def _grow(self, lacking: int) -> None:
        s = self.arrays
        if lacking == ROOM_IN_POOL:
            self.arrays = s._replace(pool=grown(s.pool, 2 * len(s.pool)))
        elif lacking == ROOM_FOR_LABELS:
            self.arrays = s._replace(labels=grown(s.labels, 2 * len(s.labels)))
        else:
            self.arrays = with_keys(s, 2 * len(s.record))

    @property
    def keys(self) -> int:
        """Keys held."""
        return int(self.arrays.counters[KEYS])

    def bytes_held(self) -> int:
        """Bytes of what a snapshot would hold: tables and scratch left out."""
        return sum(array.nbytes for array in self.saved().values())

    def saved(self) -> dict[str, npt.NDArray[Any]]:
        """The used part of every array that makes up the state."""
        s, n = self.arrays, self.keys
        return {
            "record": s.record[:n],
            "hours": s.hours[:n],
            "weekdays": s.weekdays[:n],
            "block": s.block[:n],
            "length": s.length[:n],
            "size_class": s.size_class[:n],
            "label_head": s.label_head[:n],
            "pool": s.pool[: s.counters[POOL_USED]],
            "labels": s.labels[: s.counters[LABELS_USED]],
            "counters": s.counters,
        }

    def load(self, saved: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what `saved` holds."""
        n = len(saved["record"])
        room = max(FIRST_KEYS, 1 << int(n * 1.25).bit_length())
        pool, labels = saved["pool"], saved["labels"]
        self.arrays = with_keys(
            self.arrays._replace(
                record=saved["record"].copy(),
                hours=saved["hours"].copy(),
                weekdays=saved["weekdays"].copy(),
                block=saved["block"].copy(),
                length=saved["length"].copy(),
                size_class=saved["size_class"].copy(),
                label_head=saved["label_head"].copy(),
                pool=grown(pool, max(len(pool) + len(pool) // 4, FIRST_KEYS)),
                labels=grown(labels, max(2 * len(labels), 256)),
                counters=saved["counters"].copy(),
            ),
            room,
        )


def with_keys(s: EntityArrays, room: int) -> EntityArrays:
    """The same state with room for so many keys."""
    n = int(s.counters[KEYS])
    table_key, table_slot = _table(s.record["key"][:n], room)
    head = np.full(room, NONE, np.int32)
    head[:n] = s.label_head[:n]
    return s._replace(
        table_key=table_key,
        table_slot=table_slot,
        record=grown(s.record[:n], room),
        hours=grown(s.hours[:n], room),
        weekdays=grown(s.weekdays[:n], room),
        block=grown(s.block[:n], room),
        length=grown(s.length[:n], room),
        size_class=grown(s.size_class[:n], room),
        label_head=head,
    )


def _table(keys: npt.NDArray[np.int64], room: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    table_key, table_slot = np.zeros(2 * room, np.int64), np.full(2 * room, NONE, np.int32)
    fill(table_key, table_slot, np.ascontiguousarray(keys))
    return table_key, table_slot


class PairState:
    """What two entities did together."""

    def __init__(self, pair: Pair, spec: Spec) -> None:
        self.name = pair.name
        self.plan = plan_of(pair, spec)
        self.arrays = PairArrays(
            table_key=np.zeros(2 * FIRST_KEYS, np.int64),
            table_slot=np.full(2 * FIRST_KEYS, NONE, np.int32),
            record=np.zeros(FIRST_KEYS, PAIR_RECORD),
            counters=_counters(),
        )
        self.capped = np.zeros(1, np.int64)

    def advance(self, records: Records, result: Matrix) -> None:
        """Take payments in, in order; write the pair's features into their rows of `result`."""
        begin = 0
        while begin < len(records.what):
            begin, lacking = pairs.advance_pairs(self.arrays, self.plan, records, begin, result, self.capped)
            if lacking:
                self._with_keys(2 * len(self.arrays.record))

    def _with_keys(self, room: int) -> None:
        s, n = self.arrays, self.keys
        table_key, table_slot = _table(s.record["key"][:n], room)
        self.arrays = s._replace(table_key=table_key, table_slot=table_slot, record=grown(s.record[:n], room))

    @property
    def keys(self) -> int:
        """Keys held."""
        return int(self.arrays.counters[KEYS])

    def bytes_held(self) -> int:
        """Bytes of what a snapshot would hold."""
        return sum(array.nbytes for array in self.saved().values())

    def saved(self) -> dict[str, npt.NDArray[Any]]:
        """The used part of every array that makes up the state."""
        return {"record": self.arrays.record[: self.keys], "counters": self.arrays.counters}

    def load(self, saved: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what `saved` holds."""
        self.arrays = self.arrays._replace(record=saved["record"].copy(), counters=saved["counters"].copy())
        self._with_keys(max(FIRST_KEYS, 1 << int(self.keys * 1.25).bit_length()))


def subjects() -> Iterable[Entity | Pair]:
    """Every entity and pair, in the order of their states."""
    return (*ENTITIES, *PAIRS)


def new_state(subject: Entity | Pair, spec: Spec) -> EntityState | PairState:
    """The empty state of an entity or pair."""
    return EntityState(subject, spec) if isinstance(subject, Entity) else PairState(subject, spec)


def no_features(rows: int) -> Matrix:
    """A result in which everything is missing."""
    return np.full((rows, len(NAMES)), np.nan, np.float32)
