"""The state of every entity and pair, its growing, and the one way to take records in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features import kernel, pairs
from features.catalogue import FEATURES, NAMES, program
from features.cluster_state import ClusterState
from features.entities import CLUSTER, ENTITIES, PAIRS, WHO, Cluster, Entity, Pair, Subject
from features.feature import window_in
from features.layout import FIRST_LABELS, LABEL, PAIR_RECORD, RECORD, EntityArrays, PairArrays, Plan
from features.packing import copied
from features.records import Records
from features.ring import (
    EVENT,
    EVENTS_AN_ENTRY,
    EVENTS_USED,
    KEYS,
    LABELS_USED,
    MERGED,
    MERGED_USED,
    NONE,
    ROOM_FOR_EVENTS,
    ROOM_FOR_LABELS,
    ROOM_FOR_MERGED,
    no_counters,
)
from features.statistics import ENTITY, PAIR
from features.table import FIRST_PLACES, grown, places_for, tabled
from features.windows import DAY_MS, LABEL_WINDOWS, WINDOWS

Matrix = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

FIRST_EVENTS = 16_384
"""Half a megabyte an entity to begin with; pools double from there."""


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


def _distinct_bounds(subject: Entity | Pair, bounds: npt.NDArray[np.int64]) -> int:
    inputs = {name for f in FEATURES if f.entity == subject.name for name in f.inputs if "_distinct_" in name}
    longest = max((WINDOWS[window] for window in map(window_in, inputs) if window), default=0)
    return int(np.searchsorted(bounds, longest, side="right")) if longest else 0


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
        _distinct_bounds(subject, bounds),
        program(subject.name),
    )


class EntityState:
    """The rings and records of one entity."""

    def __init__(self, entity: Entity, spec: Spec) -> None:
        self.name = entity.name
        self.plan = plan_of(entity, spec)
        table, record = tabled(np.zeros(0, RECORD), FIRST_PLACES)
        self.arrays = EntityArrays(
            table=table,
            record=record,
            events=np.zeros(FIRST_EVENTS, EVENT),
            merged=np.zeros(FIRST_EVENTS // EVENTS_AN_ENTRY, MERGED),
            labels=np.zeros(FIRST_LABELS, LABEL),
            counters=no_counters(),
            blank=np.zeros(1, RECORD),
            fresh=np.zeros(1, MERGED),
            statistics=np.zeros(len(ENTITY)),
            counts=np.zeros(len(self.plan.bounds)),
        )

    def advance(self, records: Records, result: Matrix, capped: Flags) -> None:
        """Take records in, in order; write the features of payments into their rows of `result`.

        `capped` is set for those whose key found no place below the cap: their features are missing.
        """
        begin = 0
        while begin < len(records.what):
            begin, lacking = kernel.advance(self.arrays, self.plan, records, begin, result, capped)
            if lacking:
                self._grow(lacking)

    def _grow(self, lacking: int) -> None:
        s = self.arrays
        if lacking == ROOM_FOR_EVENTS:
            self.arrays = s._replace(events=grown(s.events, 2 * len(s.events)))
        elif lacking == ROOM_FOR_MERGED:
            self.arrays = s._replace(merged=grown(s.merged, 2 * len(s.merged)))
        elif lacking == ROOM_FOR_LABELS:
            self.arrays = s._replace(labels=grown(s.labels, 2 * len(s.labels)))
        else:
            self._with_places(2 * len(s.table))

    def _with_places(self, places: int) -> None:
        table, record = tabled(self.arrays.record[: self.keys], places)
        self.arrays = self.arrays._replace(table=table, record=record)

    @property
    def keys(self) -> int:
        """Keys held."""
        return int(self.arrays.counters[KEYS])

    def bytes_held(self) -> int:
        """Bytes in use: keys, their table, every block with its free places."""
        s = self.arrays
        used = (s.record[: self.keys], s.events[: s.counters[EVENTS_USED]], s.merged[: s.counters[MERGED_USED]])
        return sum(array.nbytes for array in (*used, s.labels[: s.counters[LABELS_USED]], s.table))

    def saved(self) -> dict[str, npt.NDArray[Any]]:
        """The state without free places: arrays that `load` takes."""
        return copied([(self.arrays.record[: self.keys], self.arrays._asdict())])

    def load(self, saved: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what `saved` holds."""
        held = copied([(saved["record"], saved)], roomy=True, slack=0.25)
        self.arrays = self.arrays._replace(
            record=held["record"],
            events=at_least(held["events"], FIRST_EVENTS),
            merged=at_least(held["merged"], FIRST_EVENTS // EVENTS_AN_ENTRY),
            labels=at_least(held["labels"], FIRST_LABELS),
            counters=held["counters"],
        )
        self._with_places(places_for(self.keys))


def at_least(array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """The array, with room for so many."""
    return array if len(array) >= length else grown(array, length)


class PairState:
    """What two entities did together."""

    def __init__(self, pair: Pair, spec: Spec) -> None:
        self.name = pair.name
        self.plan = plan_of(pair, spec)
        table, record = tabled(np.zeros(0, PAIR_RECORD), FIRST_PLACES)
        self.arrays = PairArrays(
            table=table,
            record=record,
            counters=no_counters(),
            statistics=np.zeros(len(PAIR)),
        )

    def advance(self, records: Records, result: Matrix, capped: Flags) -> None:
        """Take payments in, in order; write the pair's features into their rows of `result`."""
        begin = 0
        while begin < len(records.what):
            begin, lacking = pairs.advance_pairs(self.arrays, self.plan, records, begin, result, capped)
            if lacking:
                self._with_places(2 * len(self.arrays.table))

    def _with_places(self, places: int) -> None:
        table, record = tabled(self.arrays.record[: self.keys], places)
        self.arrays = self.arrays._replace(table=table, record=record)

    @property
    def keys(self) -> int:
        """Keys held."""
        return int(self.arrays.counters[KEYS])

    def bytes_held(self) -> int:
        """Bytes in use: pairs and their table."""
        return int(self.arrays.record[: self.keys].nbytes + self.arrays.table.nbytes)

    def saved(self) -> dict[str, npt.NDArray[Any]]:
        """The used part of every array that makes up the state."""
        return {"record": self.arrays.record[: self.keys], "counters": self.arrays.counters}

    def load(self, saved: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what `saved` holds."""
        self.arrays = self.arrays._replace(record=saved["record"], counters=saved["counters"].copy())
        self._with_places(places_for(self.keys))


State = EntityState | PairState | ClusterState


def subjects() -> Iterable[Subject]:
    """All of them, in the order of their states."""
    return (*ENTITIES, *PAIRS, CLUSTER)


def new_state(subject: Subject, spec: Spec) -> State:
    """The empty state of a subject."""
    if isinstance(subject, Cluster):
        return ClusterState(subject, spec.record_retention_d, spec.max_keys)
    return EntityState(subject, spec) if isinstance(subject, Entity) else PairState(subject, spec)


def no_features(rows: int) -> Matrix:
    """A result in which everything is missing."""
    return np.full((rows, len(NAMES)), np.nan, np.float32)
