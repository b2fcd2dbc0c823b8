"""`python -m lakehouse.class_archive`: what Spark and Delta load at every start, as one archive that the JVM maps.

Without it a job spends half a minute of processor time on reading, verifying and linking thirty thousand classes.
"""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import settings as conf
from lakehouse import storage
from lakehouse.contracts import bronze, gold
from lakehouse.session import ARCHIVE, build_session
from lakehouse.settings import resolve
from lakehouse.storage import Span

_TOPIC = "archive"


def _as_they_come(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    yield from batches


def _rows(spark: SparkSession) -> DataFrame:
    wanted = {
        "topic_id": F.lit(_TOPIC),
        "partition": F.lit(0),
        "offset": F.col("id"),
        "transaction_id": F.lit("t"),
        "event_time": F.current_timestamp(),
        "feature_set": F.lit(""),
        "vector": F.array(F.lit(1.0).cast("float")),
    }
    rows = spark.range(100).repartition(2, "id").sortWithinPartitions("id")
    named = rows.select(*(value.alias(name) for name, value in wanted.items()))
    return named.mapInArrow(_as_they_come, gold.VECTORS.ddl.replace(" NOT NULL", ""))


def _work(spark: SparkSession, folder: Path) -> None:
    """A little of everything that the jobs do."""
    root = str(folder)
    for table in (bronze.EVENTS, gold.VECTORS, gold.DECISIONS):
        storage.ensure(root, table)
    rows = _rows(spark)
    storage.append_once(rows, root, gold.VECTORS, [Span(_TOPIC, 0, 0, 100)], contiguous=True)
    storage.overwrite_interval(rows, root, gold.VECTORS, Span(_TOPIC, 0, 0, 100), contiguous=True)
    written = storage.read(spark, root, gold.VECTORS)
    held = written.persist()
    held.join(F.broadcast(written.select("offset")), "offset", "left").groupBy("partition").count().collect()
    held.join(written.hint("merge").select("offset"), "offset").unionByName(written).toArrow()
    spark.createDataFrame(written.limit(2).toArrow()).collect()
    storage.merge_by_key(storage.read(spark, root, gold.DECISIONS), root, gold.DECISIONS)

    def write(batch: DataFrame, _: int) -> None:
        batch.agg(F.max("offset")).collect()

    stream = spark.readStream.format("delta").load(gold.VECTORS.path(root)).writeStream.foreachBatch(write)
    stream.option("checkpointLocation", f"{root}/_checkpoint").trigger(availableNow=True).start().awaitTermination()
    held.unpersist()


def main() -> None:
    """Work a little and write the archive beside the jars."""
    settings = conf.load("local")
    archive = resolve(settings.spark.jars_folder) / ARCHIVE
    archive.unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="fraudlake-archive-"))
    try:
        spark = build_session(settings, "class archive", f"-XX:ArchiveClassesAtExit={archive} -Xlog:disable")
        _work(spark, folder)
        gateway = spark.sparkContext._gateway
        spark.stop()
        # The JVM writes the archive as it ends; it ends when its standard input does.
        assert gateway is not None
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
