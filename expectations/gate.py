"""What may be used: gold and training refuse an interval whose score is too low, until somebody releases it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from expectations.trend import EVERYTHING, history
from expectations.windows import HELD, Tally
from lakehouse import delta
from lakehouse.contracts import quality, silver
from lakehouse.errors import QualityHeld
from lakehouse.settings import Quality
from lakehouse.spans import Span

READ_BY_GOLD = (
    EVERYTHING,
    *(table.name for table in (silver.PAYMENTS, silver.AUTHORISATIONS, silver.LABELS, silver.ANSWERS, silver.OUTCOMES)),
)


@dataclass(frozen=True)
class Held:
    """A window that nobody may use yet."""

    span: Span
    table: str
    dimension: str
    score: float

    def refusal(self, threshold: float) -> QualityHeld:
        """The error of whoever wanted to use it."""
        where = f"--from-position {self.span.start} --to-position {self.span.end}"
        partition = f" --partition {self.span.partition}" if self.span.partition else ""
        return QualityHeld(
            f"{self.table}: {self.dimension} of offsets {self.span.start} to {self.span.end} of partition "
            f"{self.span.partition} is {self.score:.3f}, below {threshold}.",
            f"silver.quarantine says why. Mend the cause and judge the interval again (python -m silver.job {where}), "
            f"or release it: python -m expectations.quality release --table {self.table} --dimension {self.dimension} "
            f"{where}{partition} --why '...'",
        )


def remaining(tallies: Sequence[Tally], released: Sequence[tuple[int, int]]) -> Tally | None:
    """What of a window nobody released, counted together; a batch is released as a whole or not at all."""
    left = [t for t in tallies if not any(start <= t.start and t.end <= end for start, end in released)]
    if not left:
        return None
    rows, good = sum(t.rows for t in left), sum(t.good for t in left)
    return Tally(left[0].start, left[-1].end, rows, good, None, None)


def held(root: str, span: Span, settings: Quality) -> list[Held]:
    """The windows that touch the span and are held back, in the order of the log; the releases are taken off."""
    partition = delta.of_partition(span.topic_id, span.partition)
    windows = delta.rows(
        root,
        quality.SCORES,
        ["offset", "window_start_offset", "table_name", "dimension"],
        partition
        & (pc.field("state") == HELD)
        & (pc.field("window_start_offset") < span.end)
        & (pc.field("offset") >= span.start)
        & pc.field("table_name").isin(READ_BY_GOLD),
    ).to_pylist()
    if not windows:
        return []
    wanted = ["table_name", "dimension", "start_offset", "end_offset"]
    released = delta.rows(root, quality.RELEASES, wanted, partition).to_pylist()
    first = min(row["window_start_offset"] for row in windows)
    tallies = history(root, span.topic_id, span.partition, pc.field("start_offset") >= first)
    found = [_judged(row, tallies, released, span, settings) for row in windows]
    return sorted((one for one in found if one is not None), key=lambda h: (h.span.end, h.span.start))


def _judged(
    row: Mapping[str, Any],
    tallies: Mapping[tuple[str, str], Sequence[Tally]],
    released: Sequence[Mapping[str, Any]],
    span: Span,
    settings: Quality,
) -> Held | None:
    key = (row["table_name"], row["dimension"])
    start, end = row["window_start_offset"], row["offset"] + 1
    mine = [t for t in tallies.get(key, ()) if start <= t.start and t.end <= end]
    free = [(r["start_offset"], r["end_offset"]) for r in released if (r["table_name"], r["dimension"]) == key]
    left = remaining(mine, free)
    if left is None or left.good / left.rows >= settings.hold_below:
        return None
    place = Span(span.topic_id, span.partition, left.start, left.end)
    return Held(place, *key, left.good / left.rows)


def refuse_held(root: str, spans: Sequence[Span], settings: Quality) -> None:
    """QualityHeld when one of the spans touches a window that is held back."""
    for span in spans:
        if found := held(root, span, settings):
            raise found[0].refusal(settings.hold_below)
