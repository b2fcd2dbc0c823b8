"""The states of a hop that writes two tables a batch, under two common recipes with a stream's checkpoint.

A plain append doubles when it is killed between the two; a commit that is keyed by batch id never notices that one of
the tables was set back. The names of the states are those of `test_hop_states.py`, which prints them side by side.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tests.crash.bronze_states import Place, gone, set_back
from tests.crash.table import Outcome, noted, outcome

PLAIN, BATCH_ID = "plain append", "batch-id txn"
BATCH, BATCHES = 100, 3
TWO = ("even", "odd")


def _write(rows: DataFrame, folder: Path, batch: int, recipe: str) -> None:
    for rest, name in enumerate(TWO):
        writer = rows.where(F.col("offset") % 2 == rest).write.format("delta").mode("append")
        if recipe == BATCH_ID:
            writer = writer.option("txnAppId", "hop").option("txnVersion", batch)
        writer.save(str(folder / recipe / name))


def _run(spark: SparkSession, folder: Path, recipe: str) -> None:
    rows = spark.readStream.format("delta").option("maxFilesPerTrigger", 1).load(str(folder / "source"))
    stream = rows.writeStream.foreachBatch(lambda batch, number: _write(batch, folder, number, recipe))
    stream = stream.option("checkpointLocation", str(folder / recipe / "checkpoint"))
    stream.trigger(availableNow=True).start().awaitTermination()


def _more(spark: SparkSession, folder: Path, batch: int) -> None:
    rows = spark.range(batch * BATCH, (batch + 1) * BATCH, 1, 1).select(F.col("id").alias("offset"))
    rows.write.format("delta").mode("append").save(str(folder / "source"))


@pytest.fixture(scope="module")
def recorded(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source that was taken over in three batches by both recipes."""
    folder = tmp_path_factory.mktemp("hop")
    for batch in range(BATCHES):
        _more(spark, folder, batch)
    for recipe in (PLAIN, BATCH_ID):
        _run(spark, folder, recipe)
        assert _found(folder, recipe) == list(range(BATCHES * BATCH))
    return folder


def _found(folder: Path, recipe: str) -> list[int]:
    tables = [DeltaTable(str(folder / recipe / name)).to_pyarrow_table() for name in TWO]
    return sorted(offset for table in tables for offset in table.column("offset").to_pylist())


def _killed_between(spark: SparkSession, folder: Path, recipe: str) -> None:
    place = Place(folder / recipe / "checkpoint", folder / recipe / TWO[1])
    gone(f"commits/{BATCHES - 1}")(place)
    set_back(place.table)


def _compacted(spark: SparkSession, folder: Path, recipe: str) -> None:
    _killed_between(spark, folder, recipe)
    spark.sql(f"OPTIMIZE delta.`{folder / 'source'}`")


def _lost(spark: SparkSession, folder: Path, recipe: str) -> None:
    set_back(folder / recipe / TWO[0])


STATES: Mapping[str, Callable[[SparkSession, Path, str], None]] = {
    "killed between the commits of two tables": _killed_between,
    "killed between two tables, source compacted since": _compacted,
    "payments' newest commit lost": _lost,
}


def _outcomes(spark: SparkSession, recorded: Path, folder: Path, recipe: str) -> list[Outcome]:
    found = []
    for number, (name, make) in enumerate(STATES.items()):
        copy = folder / str(number)
        shutil.copytree(recorded, copy)
        make(spark, copy, recipe)
        _more(spark, copy, BATCHES)
        _run(spark, copy, recipe)
        found.append(noted("silver", name, recipe, outcome(_found(copy, recipe), range((BATCHES + 1) * BATCH))))
    return found


def test_a_plain_append_doubles_what_was_written_before_the_kill_and_loses_what_was_set_back(
    spark: SparkSession, recorded: Path, tmp_path: Path
) -> None:
    found = _outcomes(spark, recorded, tmp_path, PLAIN)
    assert [(one.lost, one.doubled) for one in found] == [(0, 50), (0, 50), (50, 0)]


def test_a_batch_id_survives_the_kill_and_loses_what_was_set_back_without_an_error(
    spark: SparkSession, recorded: Path, tmp_path: Path
) -> None:
    found = _outcomes(spark, recorded, tmp_path, BATCH_ID)
    assert [(one.lost, one.doubled) for one in found] == [(0, 0), (0, 0), (50, 0)]
    assert found[2].silent_loss
