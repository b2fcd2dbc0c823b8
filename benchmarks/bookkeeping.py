"""What exactly-once costs a batch: `append_once` beside a plain Delta append of the same rows, in turns.

The rows are sealed records as bronze has them. `bookkeeping_ms` is the difference of the medians; it may be the larger
of a tenth of the plain append and 300 ms.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks import place, report
from lakehouse import delta, storage
from lakehouse.contracts import bronze
from lakehouse.session import build_session
from lakehouse.spans import Span

RECORD_BYTES = 280
PLAIN = replace(bronze.EVENTS, name="bronze.plain")
TOPIC_ID = "benchmark"


def batch(spark: SparkSession, rows: int) -> DataFrame:
    """Rows of bronze at offsets from 0, held in memory, so that making them is not timed."""
    made = {
        "topic_id": F.lit(TOPIC_ID),
        "partition": F.lit(0),
        "offset": F.col("id"),
        "broker_time": F.timestamp_millis(F.col("id")),
        "schema_id": F.lit(1),
        "record_bytes": F.lit(RECORD_BYTES),
        "payload_digest": F.unhex(F.substring(F.sha2(F.col("id").cast("string"), 256), 1, 32)),
        "sealed": F.encode(F.repeat(F.sha2(F.col("id").cast("string"), 512), RECORD_BYTES // 128 + 1), "utf-8"),
        "sealing_key": F.lit("bronze|2026-01-01|g1"),
        "ingested_at": F.timestamp_millis(F.lit(0)),
        "ingest_date": F.date_from_unix_date(F.lit(0)),
        "repairs": F.lit(None).cast("string"),
    }
    found = spark.range(rows).select(*(made[name].alias(name) for name in bronze.EVENTS.column_names)).persist()
    assert found.count() == rows
    return found


def moved(rows: DataFrame, by: int) -> DataFrame:
    """The same rows at later offsets."""
    return rows.withColumn("offset", F.col("offset") + by)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _plain(rows: DataFrame, root: str) -> None:
    rows.write.format("delta").mode("append").save(PLAIN.path(root))


def _once(rows: DataFrame, root: str, start: int, end: int) -> None:
    storage.append_once(rows, root, bronze.EVENTS, [Span(TOPIC_ID, 0, start, end)], contiguous=True)


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    parser = report.parser("bookkeeping", __doc__, 100_000, "rows a batch")
    parser.set_defaults(runs=9)
    given = parser.parse_args(argv)
    with TemporaryDirectory(prefix="fraudlake-benchmark-") as folder, place.apart(Path(folder)) as settings:
        spark, root = build_session(settings, "benchmark"), str(settings.lake.root)
        storage.make_root(root)
        rows = batch(spark, given.size)
        for table in (PLAIN, bronze.EVENTS):
            storage.ensure(root, table)
        found = []
        for number in range(given.runs + 2):
            start = number * given.size
            here = moved(rows, start)
            ways = {
                "plain_ms": partial(_plain, here, root),
                "once_ms": partial(_once, here, root, start, start + given.size),
            }
            order = list(ways) if number % 2 else list(reversed(ways))
            found.append({name: 1000 * _seconds(ways[name]) for name in order})
            print(f"batch {number}: " + ", ".join(f"{n} {s:.0f}" for n, s in sorted(found[-1].items())), flush=True)
        assert delta.count(root, bronze.EVENTS) == given.size * (given.runs + 2)
        figures = report.medians(found[2:])
        cost = round(figures["once_ms"] - figures["plain_ms"], 1)
        allowed = round(max(300.0, figures["plain_ms"] / 10), 1)
        report.finish("bookkeeping", given.runs, {**figures, "bookkeeping_ms": cost, "allowed_ms": allowed})


if __name__ == "__main__":
    main(sys.argv[1:])
