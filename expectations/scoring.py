"""Counting what came in: a tally per batch, table and dimension, from silver's own tables, and the trend of scores.

What was refused counts, else a table of accepted records would always be perfect. Repeats count for uniqueness only.
`silver.batch` writes the scores of a range before its balance, so whoever reads silver by balance finds them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from expectations.dimensions import (
    COMPLETENESS,
    CONSISTENCY,
    TIMELINESS,
    UNIQUENESS,
    VALIDITY,
    dimension_of_reason,
)
from expectations.trend import EVERYTHING, Key, history, milliseconds, recent
from expectations.windows import ALERT, HELD, Tally, Window, state, window
from lakehouse import delta, storage
from lakehouse.contracts import quality, silver
from lakehouse.errors import SettingsError
from lakehouse.files import arrow_schema
from lakehouse.log import logger
from lakehouse.settings import Quality
from lakehouse.spans import Span, holes

SCHEMA = arrow_schema(quality.SCORES)
PROMPT = ("payment", "authorisation")
"""Kinds that come as they happen. A label is about a payment of weeks ago."""


@dataclass(frozen=True)
class Counted:
    """The tallies of one batch."""

    span: Span
    tallies: Mapping[Key, Tally]


def counted(root: str, span: Span, settings: Quality) -> Counted:
    """Count a range of offsets that lies in silver."""
    here = delta.within(span)
    refused = delta.rows(root, silver.QUARANTINE, ["kind", "reasons"], here).to_pylist()
    repeated = Counter(delta.rows(root, silver.DUPLICATES, ["kind"], here).column("kind").to_pylist())
    found: dict[Key, tuple[int, int]] = {}
    clocks: list[datetime] = []
    for kind, table in silver.BY_KIND.items():
        expected = [name for name in table.column_names if f"{table.name}.{name}" in settings.expected_columns]
        late = ["seconds_late"] if kind in PROMPT else []
        accepted = delta.rows(root, table, ["engine_clock", *late, *expected], here)
        if accepted.num_rows:
            clocks += pc.min_max(accepted.column("engine_clock")).as_py().values()
        bad = Counter(
            dimension
            for row in refused
            if row["kind"] == kind
            for dimension in {dimension_of_reason(reason) for reason in row["reasons"]}
        )
        bad[COMPLETENESS] += _lacking(accepted, expected)
        for name in late:
            bad[TIMELINESS] += int(pc.sum(pc.greater(accepted.column(name), settings.late_after_s)).as_py() or 0)
        looked_at = accepted.num_rows + sum(row["kind"] == kind for row in refused)
        for dimension in (COMPLETENESS, VALIDITY, TIMELINESS, CONSISTENCY):
            found[table.name, dimension] = (looked_at, looked_at - bad[dimension])
        found[table.name, UNIQUENESS] = (looked_at + repeated[kind], looked_at)
    foreign = sum(row["kind"] is None for row in refused)
    found[EVERYTHING, VALIDITY] = (span.end - span.start, span.end - span.start - foreign)
    first, last = (milliseconds(min(clocks)), milliseconds(max(clocks))) if clocks else (None, None)
    tallies = {key: Tally(span.start, span.end, rows, good, first, last) for key, (rows, good) in found.items() if rows}
    return Counted(span, tallies)


def _check_expected(settings: Quality) -> None:
    nullable = {f"{t.name}.{c.name}" for t in silver.BY_KIND.values() for c in t.columns if c.nullable}
    if unknown := sorted(set(settings.expected_columns) - nullable):
        raise SettingsError(
            f"quality.expected_columns names {', '.join(unknown)}.", "Name columns of silver that may be null."
        )


def _lacking(accepted: pa.Table, expected: Sequence[str]) -> int:
    """Rows that lack a value in one of the expected columns."""
    if not expected or not accepted.num_rows:
        return 0
    lacks = pc.is_null(accepted.column(expected[0]))
    for name in expected[1:]:
        lacks = pc.or_(lacks, pc.is_null(accepted.column(name)))
    return int(pc.sum(lacks).as_py())


class Scores:
    """Writes the scores of ranges, and alerts where one is low."""

    def __init__(self, root: str, settings: Quality) -> None:
        _check_expected(settings)
        for table in (quality.SCORES, quality.RELEASES):
            storage.ensure(root, table)
        self._root, self._settings = root, settings
        self._log = logger("quality")

    def take(self, span: Span) -> None:
        """Score a range that was added to silver; one that was scored before is left alone."""
        done = storage.written_ends(self._root, quality.SCORES).get(span.key, 0)
        fresh = Span(span.topic_id, span.partition, max(span.start, done), span.end)
        if fresh.start >= fresh.end:
            return
        found = counted(self._root, fresh, self._settings)
        before = recent(self._root, span.topic_id, span.partition)
        rows = self._rows(before, [found])
        storage.append_once(pa.Table.from_pylist(rows, SCHEMA), self._root, quality.SCORES, [fresh])
        self._alert(rows)

    def again(self, span: Span) -> None:
        """Count the batches of a repaired range again, and every window that they are in.

        What of the range lies in no batch, because its scores were lost, is counted as one.
        """
        before = history(self._root, span.topic_id, span.partition)
        batches = sorted({(t.start, t.end) for tallies in before.values() for t in tallies})
        touched = [(a, b) for a, b in batches if a < span.end and b > span.start]
        touched = sorted([*touched, *holes(touched, span.start, span.end)])
        changed = [Span(span.topic_id, span.partition, a, b) for a, b in touched]
        first, end = changed[0].start, changed[-1].end
        later = [b for b in batches if b[0] >= end]
        kept = {key: [t for t in tallies if t.end <= first] for key, tallies in before.items()}
        after = [counted(self._root, batch, self._settings) for batch in changed] + [
            Counted(
                Span(span.topic_id, span.partition, *batch),
                {key: t for key, tallies in before.items() for t in tallies if (t.start, t.end) == batch},
            )
            for batch in later
        ]
        rows = self._rows(kept, after)
        whole = Span(span.topic_id, span.partition, first, later[-1][1] if later else end)
        storage.overwrite_interval(pa.Table.from_pylist(rows, SCHEMA), self._root, quality.SCORES, whole)
        self._alert(rows)

    def _rows(self, before: Mapping[Key, Sequence[Tally]], batches: Iterable[Counted]) -> list[dict[str, Any]]:
        held = {key: list(tallies) for key, tallies in before.items()}
        rows = []
        for batch in batches:
            for key, tally in batch.tallies.items():
                held.setdefault(key, []).append(tally)
                found = window(held[key], self._settings)
                rows.append(_row(batch.span, key, tally, found, state(found, self._settings)))
        return rows

    def _alert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            if row["state"] in (ALERT, HELD):
                self._log.warning(
                    "quality is low",
                    code=f"QUALITY_{row['state'].upper()}",
                    table=row["table_name"],
                    dimension=row["dimension"],
                    score=round(row["score"], 4),
                    start=row["window_start_offset"],
                    end=row["offset"] + 1,
                )


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def _row(span: Span, key: Key, tally: Tally, found: Window, state_: str) -> dict[str, Any]:
    return {
        "topic_id": span.topic_id,
        "partition": span.partition,
        "offset": tally.end - 1,
        "start_offset": tally.start,
        "table_name": key[0],
        "dimension": key[1],
        "rows": tally.rows,
        "good": tally.good,
        "clock_start": _time(tally.clock_start_ms),
        "clock_end": _time(tally.clock_end_ms),
        "window_start_offset": found.start,
        "window_rows": found.rows,
        "window_good": found.good,
        "score": found.score,
        "state": state_,
    }
