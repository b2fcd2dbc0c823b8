"""Kafka to bronze: sealed rows committed to Delta per second, beside the same rows written raw in the same run."""

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import place, report
from benchmarks.filling import fill
from bronze import job
from lakehouse import streams, topics
from lakehouse.contracts.bronze import EVENTS
from lakehouse.jobs import Context
from lakehouse.session import build_session
from lakehouse.settings import Settings
from lakehouse.storage import make_root


def _sealed(context: Context) -> float:
    began = time.monotonic()
    streams.run(context, [job.landing(context, topics.EVENTS)])
    return time.monotonic() - began


def _raw(context: Context, name: str) -> float:
    began = time.monotonic()
    target = f"{context.root}/raw"
    reader = context.spark.readStream.format("kafka").option("subscribe", name).option("startingOffsets", "earliest")
    reader = reader.option("kafka.bootstrap.servers", context.settings.kafka.bootstrap_servers)
    reader = reader.option("minPartitions", 2 * context.spark.sparkContext.defaultParallelism)
    writer = reader.load().writeStream.format("delta").option("checkpointLocation", f"{context.root}/_checkpoints/raw")
    writer.trigger(availableNow=True).start(target).awaitTermination()
    return time.monotonic() - began


def _once(settings: Settings, root: Path, records: int) -> dict[str, float]:
    shutil.rmtree(root, ignore_errors=True)
    made = settings.model_copy(update={"lake": settings.lake.model_copy(update={"root": str(root)})})
    context = Context(made, build_session(made, "benchmark"), True, None)
    make_root(context.root)
    sealed, raw = _sealed(context), _raw(context, topics.topic_name(settings, topics.EVENTS))
    spark = context.spark
    landed = spark.read.format("delta").load(EVENTS.path(context.root)).count()
    assert landed == records == spark.read.format("delta").load(f"{context.root}/raw").count(), (landed, records)
    return {"rows_per_s": records / sealed, "raw_rows_per_s": records / raw}


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    options = report.parser("bronze", __doc__, 200_000, "payments in the topic").parse_args(argv)
    with place.place() as settings:
        filled = fill(settings, options.size, options.seed)
        print(f"{filled.records:,} records in the topic; one run to warm up, {options.runs} counted")
        root = Path(settings.lake.root)
        runs = [_once(settings, root, filled.records) for _ in range(options.runs + 1)][1:]
        for run in runs:
            print(f"sealed {run['rows_per_s']:,.0f} rows/s, raw {run['raw_rows_per_s']:,.0f} rows/s")
        report.finish("bronze", options.runs, report.medians(runs))


if __name__ == "__main__":
    main(sys.argv[1:])
