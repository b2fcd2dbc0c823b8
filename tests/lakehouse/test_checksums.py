"""Spark verifies the checksums of pages, whoever wrote the file and however it is read."""

from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse import high_water, storage
from lakehouse.high_water import FILE, recognised
from lakehouse.made import Made
from lakehouse.storage import Span
from tests.lakehouse.test_high_water import SALES, flipped, page


def damaged(spark: SparkSession, root: str, made: bool) -> Path:
    """A table of one file, in which a bit of an amount is flipped."""
    storage.ensure(root, SALES)
    rows = spark.range(0, 500, 1, 1).select(
        F.lit("T").alias("topic_id"),
        F.lit(0).alias("partition"),
        F.col("id").alias("offset"),
        (F.hash("id").cast("bigint") * F.hash(F.col("id") + 1)).alias("amount_minor"),
    )
    frame = Made(rows, lambda batches: batches, SALES) if made else rows
    storage.append_once(frame, root, SALES, [Span("T", 0, 0, 500)])
    (name,) = high_water.paths(DeltaTable(SALES.path(root)))
    path = Path(SALES.path(root)) / name
    # Hadoop's local files have a checksum of their own beside them; object stores and HDFS have not.
    path.with_name(f".{name}.crc").unlink(missing_ok=True)
    flipped(path, page(path)[1] - 100)
    return path


@pytest.mark.parametrize("made", [False, True], ids=["written by Spark", "written by workers"])
@pytest.mark.parametrize("vectorised", ["true", "false"])
def test_spark_refuses_a_flipped_bit_in_a_page(
    spark: SparkSession, tmp_path: Path, made: bool, vectorised: str
) -> None:
    root, option = str(tmp_path), "spark.sql.parquet.enableVectorizedReader"
    path = damaged(spark, root, made)
    before = spark.conf.get(option)
    spark.conf.set(option, vectorised)
    try:
        with pytest.raises(Exception, match="CRC checksum verification failed") as raised:
            storage.read(spark, root, SALES).agg(F.sum("amount_minor")).collect()
    finally:
        spark.conf.set(option, str(before))
    told = recognised(root, raised.value)
    assert str(told).startswith(f"test.sales is damaged: {FILE}: {path.name}.")


def test_it_is_the_setting_that_refuses_it(spark: SparkSession, tmp_path: Path) -> None:
    root, option = str(tmp_path), "parquet.page.verify-checksum.enabled"
    damaged(spark, root, made=True)
    spark.conf.set(option, "false")
    said = ""
    try:
        storage.read(spark, root, SALES).agg(F.sum("amount_minor")).collect()
    except Exception as error:  # what decodes the page may fall over the bit, or not
        said = str(error)
    finally:
        spark.conf.set(option, "true")
    assert "CRC" not in said
