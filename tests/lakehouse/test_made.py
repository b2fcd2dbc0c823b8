"""Files that workers write are what Spark would have written: the same rows, read with the same skipping."""

import datetime as dt
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from lakehouse import storage
from lakehouse.made import Made
from lakehouse.storage import Span
from lakehouse.tables import POSITION, Column, Table

NOTES = Table(
    name="test.notes",
    meaning="Notes by source position.",
    grain="one note",
    key=("topic_id", "partition", "offset"),
    columns=(
        *POSITION,
        Column("at", "timestamp", "when"),
        Column("text", "string", "what", nullable=True),
        Column("numbers", "array<float>", "some"),
    ),
)
TIMES = pa.timestamp("us", "UTC")
AT = dt.datetime(2026, 3, 1, 12, 0, 0, 123456, dt.UTC)

Batches = Iterable[pa.RecordBatch]


def making(change: Callable[[dict[str, pa.Array]], dict[str, pa.Array]] = dict) -> Callable[[Batches], Batches]:
    """Makes notes at the offsets of a range: every second without a text, later by a microsecond each."""

    def made(batches: Batches) -> Batches:
        for batch in batches:
            offset = batch.column("id").to_pylist()
            columns = {
                "topic_id": pa.array(["T"] * len(offset)),
                "partition": pa.array([0] * len(offset), pa.int32()),
                "offset": pa.array(offset, pa.int64()),
                "at": pa.array([AT + dt.timedelta(microseconds=n) for n in offset], TIMES),
                "text": pa.array([f"note {n}" if n % 2 else None for n in offset], pa.string()),
                "numbers": pa.array([[n / 2, float("nan")] for n in offset], pa.list_(pa.float32())),
            }
            columns = change(columns)
            yield pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))

    return made


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A lake with the table, empty."""
    storage.ensure(str(tmp_path), NOTES)
    return str(tmp_path)


def test_spark_and_delta_rs_read_what_workers_wrote(spark: SparkSession, root: str) -> None:
    storage.append_once(Made(spark.range(0, 100, 1, 3), making(), NOTES), root, NOTES, [Span("T", 0, 10, 90)])
    by_spark = storage.read(spark, root, NOTES).orderBy("offset").toArrow().to_pylist()
    by_delta_rs = DeltaTable(NOTES.path(root)).to_pyarrow_table().sort_by("offset").to_pylist()
    assert [row["offset"] for row in by_spark] == list(range(10, 90))
    assert str(by_spark) == str(by_delta_rs)
    assert by_spark[1]["text"] == "note 11"
    assert by_spark[2]["text"] is None
    assert by_spark[3]["at"] == AT + dt.timedelta(microseconds=13)
    assert by_spark[3]["numbers"][0] == 6.5


def test_delta_is_told_of_every_file_what_skipping_needs(spark: SparkSession, root: str) -> None:
    storage.append_once(Made(spark.range(0, 100, 1, 1), making(), NOTES), root, NOTES, [Span("T", 0, 0, 100)])
    log = Path(NOTES.path(root)) / "_delta_log" / f"{1:020d}.json"
    (add,) = [json.loads(line)["add"] for line in log.read_text().splitlines() if "add" in line]
    assert json.loads(add["stats"]) == {
        "numRecords": 100,
        "minValues": {
            "topic_id": "T", "partition": 0, "offset": 0, "at": "2026-03-01T12:00:00.123Z", "text": "note 1",
        },
        "maxValues": {
            "topic_id": "T", "partition": 0, "offset": 99, "at": "2026-03-01T12:00:00.124Z", "text": "note 99",
        },
        "nullCount": {"topic_id": 0, "partition": 0, "offset": 0, "at": 0, "text": 50},
    }  # fmt: skip
    assert (Path(NOTES.path(root)) / add["path"]).stat().st_size == add["size"]


def test_an_interval_is_done_again_with_the_same_rows(spark: SparkSession, root: str) -> None:
    made = Made(spark.range(0, 30), making(), NOTES)
    storage.append_once(made, root, NOTES, [Span("T", 0, 0, 30)])
    before = str(storage.read(spark, root, NOTES).orderBy("offset").collect())
    storage.overwrite_interval(made, root, NOTES, Span("T", 0, 5, 20))
    assert str(storage.read(spark, root, NOTES).orderBy("offset").collect()) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: {**c, "more": c["offset"]}, "differ from its contract"),
        (lambda c: {**c, "partition": c["offset"]}, "differ from its contract"),
        (lambda c: {**c, "at": pa.array([None] * len(c["at"]), TIMES)}, "lack at"),
    ],
)
def test_rows_that_are_not_the_tables_are_refused(
    spark: SparkSession, root: str, change: Callable[[dict[str, pa.Array]], dict[str, pa.Array]], words: str
) -> None:
    with pytest.raises(Exception, match=f"Rows made for test.notes {words}"):
        storage.append_once(Made(spark.range(0, 9), making(change), NOTES), root, NOTES, [Span("T", 0, 0, 9)])
    assert storage.written_ends(root, NOTES) == {}
    assert DeltaTable(NOTES.path(root)).version() == 0
