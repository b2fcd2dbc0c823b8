"""The trend of scores as quality.scores holds it, read without Spark."""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from expectations.windows import Tally
from lakehouse import delta
from lakehouse.contracts import bronze, quality
from lakehouse.spans import Span

EVERYTHING = bronze.EVENTS.name
"""Records of no known kind belong to no table of silver: they count as invalid records of the topic."""

Key = tuple[str, str]
"""(table, dimension)."""


def milliseconds(value: datetime | None) -> int | None:
    """Milliseconds since 1970."""
    return None if value is None else round(value.timestamp() * 1000)


_KEPT = ("table_name", "dimension", "start_offset", "offset", "rows", "good", "clock_start", "clock_end")


def history(root: str, topic_id: str, partition: int, where: pc.Expression | None = None) -> dict[Key, list[Tally]]:
    """The tallies of a partition by table and dimension, in the order of the log."""
    here = delta.of_partition(topic_id, partition)
    return _tallies(delta.rows(root, quality.SCORES, _KEPT, here if where is None else here & where))


def scored(root: str) -> list[Span]:
    """Everything that has been scored, by partition."""
    return delta.spans(root, quality.SCORES)


def recent(root: str, topic_id: str, partition: int) -> dict[Key, list[Tally]]:
    """The same, as far back as the newest windows reach: later windows begin no earlier."""
    here = delta.of_partition(topic_id, partition)
    rows = delta.rows(root, quality.SCORES, [*_KEPT, "window_start_offset"], here)
    if not rows.num_rows:
        return {}
    key = ["table_name", "dimension"]
    newest = rows.select([*key, "window_start_offset"]).group_by(key).aggregate([("window_start_offset", "max")])
    rows = rows.join(newest, key)
    return _tallies(rows.filter(pc.greater_equal(rows["start_offset"], rows["window_start_offset_max"])))


def _tallies(rows: pa.Table) -> dict[Key, list[Tally]]:
    out: dict[Key, list[Tally]] = {}
    for row in sorted(rows.to_pylist(), key=lambda r: r["offset"]):
        tally = Tally(
            row["start_offset"],
            row["offset"] + 1,
            row["rows"],
            row["good"],
            milliseconds(row["clock_start"]),
            milliseconds(row["clock_end"]),
        )
        out.setdefault((row["table_name"], row["dimension"]), []).append(tally)
    return out
