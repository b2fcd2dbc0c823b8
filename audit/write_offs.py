"""lake.write_offs: ranges of topics whose loss somebody has accepted, by the table of bronze that lacks them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audit.digests import Ints
from audit.tables import NO_END, Source, Span, Table
from audit.witnesses import Flags

WRITE_OFFS = "lake.write_offs"
_COLUMNS = ("topic_id", "partition", "start_offset", "end_offset", "place", "reason", "actor", "written_off_at")


@dataclass(frozen=True, order=True)
class WriteOff:
    """A range that was written off: by whom, when, and why."""

    span: tuple[int, int]
    """Offsets [start, end)."""
    place: str
    source: Source
    by: str
    at: str
    reason: str

    @property
    def text(self) -> str:
        """One line for people."""
        start, end = self.span
        topic = self.place.split(".")[1]
        return (
            f"partition {self.source.partition}: offsets {start:,} to {end:,} of topic {topic} were written off by "
            f"{self.by} on {self.at}: {self.reason}"
        )


@dataclass(frozen=True)
class WriteOffs:
    """Everything that was written off."""

    ranges: Sequence[WriteOff]

    @staticmethod
    def of(table: Table) -> "WriteOffs":
        """The write-offs of a lake; none where the table has not been made."""
        found = []
        for batch in table.batches(_COLUMNS):
            for row in batch.to_pylist():
                source, day = Source(row["topic_id"], row["partition"]), f"{row['written_off_at']:%Y-%m-%d}"
                span = row["start_offset"], row["end_offset"]
                found.append(WriteOff(span, row["place"], source, row["actor"], day, row["reason"]))
        return WriteOffs(sorted(found))

    def of_table(self, source: Source, place: str) -> list[WriteOff]:
        """Those of a partition of a table of bronze, ascending."""
        return [one for one in self.ranges if (one.source, one.place) == (source, place)]


def within(offsets: Ints, ranges: Sequence[WriteOff]) -> Flags:
    """Which of some offsets lie in a range."""
    found = np.zeros(len(offsets), np.bool_)
    for one in ranges:
        found |= (offsets >= one.span[0]) & (offsets < one.span[1])
    return found


def around(decisions: Table, source: Source, ranges: Sequence[WriteOff]) -> list[tuple[int, int]]:
    """Offsets [start, end) of topic `events` whose decisions may have lain in each of some ranges of `decisions`.

    Decisions are made in the order of the log: between the last one before a range and the first one behind it.
    """
    if not ranges:
        return []
    rows = decisions.taken(
        Span(source, 0, NO_END), ("offset",), lambda batch: {"event": np.asarray(batch.column("offset"))}
    )
    own, event = rows.offset, rows.ints("event")
    return [
        (int(event[own < start].max(initial=-1)) + 1, int(event[own >= end].min(initial=NO_END)))
        for start, end in (one.span for one in ranges)
    ]
