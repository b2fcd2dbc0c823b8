"""An interval of time as positions of the log: the records that moved the engine's clock into it, as silver knows."""

from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import delta
from lakehouse.contracts import silver
from lakehouse.errors import RangeMissing
from lakehouse.moments import time_of
from lakehouse.spans import Span
from training.matured import clock_ms

NO_LAKE = "Run bronze.job and silver.job, or `make demo`."


class Interval(NamedTuple):
    """Half-open, by the engine's clock."""

    start_ms: int
    end_ms: int
    span: Span
    as_of_ms: int
    """The engine's clock as far as silver has come: labels are as known then."""


def interval(root: str, start_ms: int | None, end_ms: int | None) -> Interval:
    """The interval [start, end), None for all that is kept; RangeMissing where it has no payment."""
    as_of = clock_ms(root)
    rows = delta.rows(root, silver.PAYMENTS, ["topic_id", "partition", "offset", "engine_clock"])
    if as_of is None or not rows.num_rows:
        raise RangeMissing("There is no payment in silver yet.", NO_LAKE)
    if start_ms is not None and end_ms is not None and end_ms <= start_ms:
        raise RangeMissing(
            f"--end {time_of(end_ms).isoformat()} is not after --start {time_of(start_ms).isoformat()}.",
            "The interval is half-open: start belongs to it, end does not.",
        )
    topic_id, partition = _partition(rows)
    clock = pc.divide(rows.column("engine_clock").cast(pa.int64()), 1000)
    first, last = pc.min(clock).as_py(), pc.max(clock).as_py()
    start, end = first if start_ms is None else start_ms, last + 1 if end_ms is None else end_ms
    within = rows.filter(pc.and_(pc.greater_equal(clock, start), pc.less(clock, end)))
    if not within.num_rows:
        raise RangeMissing(
            f"Silver has payments from {time_of(first).isoformat()} to {time_of(last).isoformat()}; "
            f"{time_of(start).isoformat()} to {time_of(end).isoformat()} are wanted.",
            "Choose --start and --end within.",
        )
    offset = within.column("offset")
    span = Span(topic_id, partition, pc.min(offset).as_py(), pc.max(offset).as_py() + 1)
    return Interval(start, end, span, as_of)


def _partition(rows: pa.Table) -> tuple[str, int]:
    found = rows.group_by(["topic_id", "partition"]).aggregate([]).to_pylist()
    if len(found) > 1:
        names = ", ".join(sorted(f"{one['topic_id']}/{one['partition']}" for one in found))
        raise RangeMissing(
            f"Silver has payments of several logs ({names}), and their positions have no common order.",
            "Keep each log in a lake root of its own.",
        )
    return str(found[0]["topic_id"]), int(found[0]["partition"])
