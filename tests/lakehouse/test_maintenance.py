"""Tables are put in order behind their writers' backs, and nothing that somebody needs goes."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import delta, high_water, storage
from lakehouse import settings as conf
from lakehouse.contracts.gold import TRAINING_SET
from lakehouse.contracts.register import TABLES
from lakehouse.damage import look
from lakehouse.expired import EXPIRED, expired_ends
from lakehouse.files import arrow_schema
from lakehouse.maintenance import Upkeep, clean_log, plan
from lakehouse.moments import DAY_MS
from lakehouse.storage import Span
from tests.lakehouse.test_high_water import SALES, sales

SETTINGS = conf.load("test").maintenance


def frame(spark: SparkSession, start: int, end: int) -> DataFrame:
    return spark.range(start, end, 1, 1).select(
        F.lit("T").alias("topic_id"),
        F.lit(0).alias("partition"),
        F.col("id").alias("offset"),
        (F.col("id") + 100).alias("amount_minor"),
    )


def offsets(root: str) -> list[int]:
    return sorted(delta.rows(root, SALES, ["offset"]).column("offset").to_pylist())


def now_ms() -> int:
    return int(time.time() * 1000)


def test_appends_go_on_while_a_table_is_put_in_order(spark: SparkSession, tmp_path: Path) -> None:
    root = str(tmp_path)
    storage.ensure(root, SALES)
    for start in range(0, 30, 3):
        storage.append_once(frame(spark, start, start + 3), root, SALES, [Span("T", 0, start, start + 3)])
    stop, failures = threading.Event(), []

    def append() -> None:
        start = 30
        while not stop.is_set():
            try:
                storage.append_once(frame(spark, start, start + 3), root, SALES, [Span("T", 0, start, start + 3)])
            except Exception as error:
                failures.append(error)
            start += 3

    writer = threading.Thread(target=append)
    writer.start()
    few = SETTINGS.model_copy(update={"join_files": 2})
    try:
        for cluster in (False, True):
            Upkeep(spark, root, few).do(plan(root, SALES, few, cluster, now_ms()))
    finally:
        stop.set()
        writer.join()
    assert failures == []
    end = storage.written_ends(root, SALES)["T/0"]
    assert end > 30
    assert offsets(root) == list(range(end))
    operations = {commit["operation"] for commit in DeltaTable(SALES.path(root)).history()}
    assert "OPTIMIZE" in operations
    mark = high_water.held(root, SALES)
    assert mark is not None
    assert (mark.rows, mark.amount) == (end, sum(range(100, 100 + end)))
    assert look(root, SALES) == []


def test_a_plan_changes_nothing(tmp_path: Path) -> None:
    root = str(tmp_path)
    for start in range(20):
        delta.append(root, SALES, sales(start, start + 1))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    found = plan(root, SALES, SETTINGS, False, now_ms())
    assert found.text() == "test.sales: join 20 small files; write a checkpoint; keep the log from version 0"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def training_set_from(root: str, version: int) -> None:
    """A commit of gold.training_set that records a version of our table."""
    storage.ensure(root, TRAINING_SET)
    reader = delta.opened(root, TRAINING_SET)
    told = {"userMetadata": json.dumps({storage.SOURCES: {"versions": {SALES.name: version}}})}
    reader.create_write_transaction([], "append", reader.schema(), commit_properties=CommitProperties(told, 0))
    delta.followed(root, TRAINING_SET)


def rewritten(root: str, times: int) -> None:
    """The table, replaced so many times by other rows."""
    for n in range(times):
        rows = pa.Table.from_pylist(sales(n, n + 2), arrow_schema(SALES))
        write_deltalake(SALES.path(root), rows, mode="overwrite")


def test_what_a_recorded_training_set_was_made_from_stays_readable(tmp_path: Path) -> None:
    root = str(tmp_path)
    storage.ensure(root, SALES)
    rewritten(root, 3)
    DeltaTable(SALES.path(root)).create_checkpoint()
    rewritten(root, 12)
    training_set_from(root, 7)
    at_once = SETTINGS.model_copy(update={"vacuum_after_h": 0})
    found = plan(root, SALES, at_once, False, now_ms() + 60 * DAY_MS)
    assert (found.keep_versions, found.unused_files > 0, found.keep_log_from) == ((7,), True, 7)
    Upkeep(None, root, at_once).do(replace(found, small_files=0))  # type: ignore[arg-type]
    held = DeltaTable(SALES.path(root), version=7).to_pyarrow_table().column("offset").to_pylist()
    assert sorted(held) == [3, 4]
    with pytest.raises(FileNotFoundError):
        DeltaTable(SALES.path(root), version=8).to_pyarrow_table()
    assert delta.count(root, SALES) == 2
    assert look(root, SALES) == []
    much_later = plan(root, SALES, at_once, False, now_ms() + 401 * DAY_MS)
    assert (much_later.keep_versions, much_later.unused_files) == ((), 1)


def test_a_clean_log_still_tells_the_positions(spark: SparkSession, tmp_path: Path) -> None:
    root = str(tmp_path)
    storage.ensure(root, SALES)
    storage.append_once(frame(spark, 0, 5), root, SALES, [Span("T", 0, 0, 9)])
    DeltaTable(SALES.path(root)).create_checkpoint()
    spark.sql(f"ALTER TABLE delta.`{SALES.path(root)}` SET TBLPROPERTIES ('note' = 'x')")
    found = plan(root, SALES, SETTINGS, False, now_ms() + 60 * DAY_MS)
    assert found.keep_log_from == 1
    assert clean_log(root, SALES, found.keep_log_from) > 0
    assert not (Path(SALES.path(root)) / high_water.commit_name(0)).exists()
    assert storage.written_ends(root, SALES) == {"T/0": 9}
    assert look(root, SALES) == []


def test_a_clean_log_still_tells_what_retention_took(tmp_path: Path) -> None:
    root = str(tmp_path)
    delta.append(root, SALES, sales(0, 9))
    told = {"userMetadata": json.dumps({EXPIRED: {"T/0": 5}})}
    DeltaTable(SALES.path(root)).delete("`offset` < 5", commit_properties=CommitProperties(told))
    # Nothing came for so long that the next records find no young commit.
    storage.note_ends(root, SALES, {"T/0": 9})
    DeltaTable(SALES.path(root)).create_checkpoint()
    found = plan(root, SALES, SETTINGS, False, now_ms() + 60 * DAY_MS)
    assert found.keep_log_from == 2
    clean_log(root, SALES, found.keep_log_from)
    assert expired_ends(DeltaTable(SALES.path(root))) == {"T/0": 5}


@pytest.mark.parametrize(
    "name",
    [
        "00000000000000000009.checkpoint.4c0e8a7d-5b1e-4d38-9f4e-0a3f5c1d2e6b.parquet.tmp",
        ".00000000000000000009.checkpoint.parquet.crc",
        "00000000000000000009.checkpoint.0000000001.0000000002.parquet",
        "00000000000000000009.checkpoint.parquet",
    ],
    ids=["a writer's own file", "a checksum", "one part of two", "half of it"],
)
def test_nothing_is_cleaned_behind_what_is_no_whole_checkpoint(tmp_path: Path, name: str) -> None:
    root, log = str(tmp_path), Path(SALES.path(str(tmp_path))) / "_delta_log"
    for start in range(6):
        delta.append(root, SALES, sales(start, start + 1))
    DeltaTable(SALES.path(root)).create_checkpoint()
    for start in range(6, 10):
        delta.append(root, SALES, sales(start, start + 1))
    whole = next(log.glob("*.checkpoint.parquet"))
    assert whole.name == "00000000000000000006.checkpoint.parquet"
    (log / name).write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    clean_log(root, SALES, 10)
    (log / name).unlink()
    commits = sorted(int(path.stem) for path in log.glob("*.json"))
    assert commits == [6, 7, 8, 9, 10]
    assert delta.count(root, SALES) == 10


def test_properties_of_a_table_that_was_made_before_become_the_contracts(spark: SparkSession, tmp_path: Path) -> None:
    root = str(tmp_path)
    storage.ensure(root, SALES)
    DeltaTable(SALES.path(root)).alter.set_table_properties({"delta.dataSkippingNumIndexedCols": "32"})
    found = plan(root, SALES, SETTINGS, False, now_ms())
    assert found.properties == {"delta.dataSkippingNumIndexedCols": "8"}
    Upkeep(spark, root, SETTINGS).do(found)
    assert plan(root, SALES, SETTINGS, False, now_ms()).properties == {}


def test_every_column_of_a_position_has_statistics() -> None:
    for table in TABLES.values():
        indexed = int(delta.properties(table)["delta.dataSkippingNumIndexedCols"] or 0)
        assert set(table.position or ()) <= set(table.column_names[:indexed]), table.name
