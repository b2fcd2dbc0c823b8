"""Labels that are on the log and not yet to be known, and the merging of their effect into the order of the log.

A label takes effect just before the first record, after its own place, at which the engine's clock has reached its
time. Labels that take effect before the same record do so in the order (time, place).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from features.inputs import Placed
from features.records import Records, concatenated, empty


def _nobody() -> Placed:
    return Placed(empty(0), np.zeros(0, np.int64), np.zeros(0, np.int64))


def joined(parts: list[Placed]) -> Placed:
    """Placed records of several kinds, in the order of the log."""
    parts = [part for part in parts if len(part.offset)]
    if len(parts) < 2:
        return parts[0] if parts else _nobody()
    offset = np.concatenate([part.offset for part in parts])
    clock = np.concatenate([part.clock_ms for part in parts])
    records = concatenated([part.records for part in parts])
    order = np.argsort(offset, kind="stable")
    return Placed(records.take(order), offset[order], clock[order])


@dataclass
class WaitingRoom:
    """Labels in waiting, ordered by (time of effect, place)."""

    labels: Placed = field(default_factory=_nobody)

    def admit(self, labels: Placed) -> None:
        """Let labels in."""
        if len(labels.offset) == 0:
            return
        everybody = [self.labels, labels] if len(self.labels.offset) else [labels]
        offset = np.concatenate([part.offset for part in everybody])
        clock = np.concatenate([part.clock_ms for part in everybody])
        records = concatenated([part.records for part in everybody])
        order = np.lexsort((offset, records.event_ms))
        self.labels = Placed(records.take(order), offset[order], clock[order])

    def merged(self, events: Placed, labels: Placed) -> Records:
        """Payments and authorisations with the labels that take effect among them; the others stay here."""
        self.admit(labels)
        n = len(events.offset)
        if len(self.labels.offset) == 0 or n == 0:
            return events.records
        at = np.maximum(
            np.searchsorted(events.clock_ms, self.labels.records.event_ms, side="left"),
            np.searchsorted(events.offset, self.labels.offset, side="right"),
        )
        due = np.flatnonzero(at < n)
        if len(due) == 0:
            return events.records
        released = self.labels.records.take(due)
        together = concatenated([events.records, released])
        # A released label stands before the event at its place: half a step earlier, labels among themselves as listed.
        step = np.concatenate([np.arange(n) * 2 + 1, at[due] * 2])
        stays = np.flatnonzero(at >= n)
        self.labels = Placed(self.labels.records.take(stays), self.labels.offset[stays], self.labels.clock_ms[stays])
        return together.take(np.argsort(step, kind="stable"))

    def due(self, offset: int, clock_ms: int) -> Records:
        """The labels that have taken effect by a record at `offset` with that clock; the others stay here."""
        labels = self.labels
        here = (labels.records.event_ms <= clock_ms) & (labels.offset < offset)
        leave, stay = np.flatnonzero(here), np.flatnonzero(~here)
        self.labels = Placed(labels.records.take(stay), labels.offset[stay], labels.clock_ms[stay])
        return labels.records.take(leave)

    def saved(self) -> dict[str, npt.NDArray[Any]]:
        """The labels in waiting, as arrays."""
        records = self.labels.records
        return {
            "event_ms": records.event_ms,
            "amount": records.amount,
            "who": records.who,
            "flags": records.flags,
            "label_id": records.label_id,
            "reverses": records.reverses,
            "what": records.what,
            "offset": self.labels.offset,
            "clock_ms": self.labels.clock_ms,
        }

    @staticmethod
    def loaded(saved: dict[str, npt.NDArray[Any]]) -> "WaitingRoom":
        """The room that `saved` holds."""
        names = ("event_ms", "amount", "who", "flags", "label_id", "reverses", "what")
        records = empty(len(saved["offset"]))._replace(**{name: saved[name] for name in names})
        return WaitingRoom(Placed(records, saved["offset"], saved["clock_ms"]))
