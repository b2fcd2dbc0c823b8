"""What workers read by themselves is what Spark reads."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import high_water, storage
from lakehouse.high_water import FILE, recognised
from lakehouse.made import Made
from lakehouse.scanned import scanned
from lakehouse.storage import Span
from lakehouse.tables import POSITION, Column, Table
from tests.lakehouse.test_checksums import damaged
from tests.lakehouse.test_high_water import SALES

VISITS = Table(
    name="test.visits",
    meaning="Visits by source position.",
    grain="one visit",
    key=("topic_id", "partition", "offset"),
    columns=(*POSITION, Column("at", "timestamp", "when"), Column("note", "string", "what", nullable=True)),
)
DDL = "topic_id string, partition int, offset bigint, at timestamp, note string"


def visits(spark: SparkSession, start: int, end: int, topic_id: str = "T", partition: int = 0) -> DataFrame:
    """A visit at every offset of a range, every third with a note."""
    return spark.range(start, end, 1, 2).select(
        F.lit(topic_id).alias("topic_id"),
        F.lit(partition).alias("partition"),
        F.col("id").alias("offset"),
        F.timestamp_micros(F.col("id") * 1_234_567).alias("at"),
        F.when(F.col("id") % 3 == 0, F.concat(F.lit("note "), "id")).alias("note"),
    )


@pytest.fixture
def root(spark: SparkSession, tmp_path: Path) -> str:
    """A lake with visits 0 to 100 of two partitions, in files of Spark's and of workers'."""
    root = str(tmp_path)
    storage.ensure(root, VISITS)
    storage.append_once(visits(spark, 0, 40), root, VISITS, [Span("T", 0, 0, 40)])
    rest = Made(visits(spark, 40, 100), lambda batches: batches, VISITS)
    storage.append_once(rest, root, VISITS, [Span("T", 0, 40, 100)])
    storage.append_once(visits(spark, 0, 100, partition=1), root, VISITS, [Span("T", 1, 0, 100)])
    return root


def found(spark: SparkSession, root: str, span: Span, columns: tuple[str, ...] = VISITS.column_names) -> pa.Table:
    rows = scanned(spark, root, VISITS, span, columns).mapped(lambda batches: batches, DDL)
    return rows.orderBy("offset").toArrow()


@pytest.mark.parametrize(("start", "end"), [(0, 100), (13, 41), (40, 41), (99, 500), (100, 200)])
def test_workers_read_the_rows_of_a_span_as_spark_reads_them(
    spark: SparkSession, root: str, start: int, end: int
) -> None:
    rows = found(spark, root, Span("T", 0, start, end)).to_pylist()
    here = (F.col("partition") == 0) & (F.col("offset") >= start) & (F.col("offset") < end)
    expected = storage.read(spark, root, VISITS).where(here).orderBy("offset").toArrow().to_pylist()
    assert rows == expected
    assert [row["offset"] for row in rows] == list(range(start, min(end, 100)))


def test_files_beyond_the_span_are_not_opened(spark: SparkSession, root: str) -> None:
    whole, some = (
        scanned(spark, root, VISITS, Span("T", 0, *at), ["offset"]).files.count() for at in ((0, 100), (0, 5))
    )
    assert 0 < some < whole


def test_of_a_topic_that_was_replaced_and_of_a_table_that_was_not_made_there_is_nothing(
    spark: SparkSession, root: str, tmp_path: Path
) -> None:
    assert found(spark, root, Span("U", 0, 0, 100)).num_rows == 0
    assert found(spark, str(tmp_path / "elsewhere"), Span("T", 0, 0, 100)).num_rows == 0


@pytest.mark.parametrize("lost", [False, True], ids=["a flipped bit", "a lost file"])
def test_a_file_that_cannot_be_read_is_named(spark: SparkSession, tmp_path: Path, lost: bool) -> None:
    root = str(tmp_path)
    path = damaged(spark, root, made=True)
    if lost:
        path.unlink()
    rows = scanned(spark, root, SALES, Span("T", 0, 0, 500), ["offset", "amount_minor"])
    with pytest.raises(Exception, match=FILE) as raised:
        rows.mapped(lambda batches: batches, "offset bigint, amount_minor bigint").collect()
    assert str(recognised(root, raised.value)).startswith(f"test.sales is damaged: {FILE}: {path.name}.")
    assert high_water.paths(DeltaTable(SALES.path(root))) == [path.name]
