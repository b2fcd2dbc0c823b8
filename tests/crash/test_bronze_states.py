"""A topic that has landed, damaged in every way, and landed again: nothing is lost, nothing is doubled.

The same states under two common recipes show that they are real: a plain append doubles, and a commit that is keyed by
batch id (`txnAppId`, `txnVersion`) loses records without an error.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession

import bronze.job
from lakehouse import broker as log
from lakehouse import topics
from lakehouse.contracts import bronze as tables
from lakehouse.errors import CheckpointDamaged
from lakehouse.jobs import Context
from lakehouse.settings import Settings
from tests.conftest import NewContext, NewSettings
from tests.crash.bronze_states import ALL, BATCH, RECORDS, STATES, Place, State
from tests.crash.table import Outcome, noted, outcome

HOP, OURS, PLAIN, BATCH_ID = "bronze", "by source position", "plain append", "batch-id txn"
SHOWN = (STATES[0], STATES[1], STATES[5], STATES[11])
"""The states under the other recipes: a sample of every kind."""
STARTS = 3
"""As an orchestrator starts it again; Spark 4.1's Kafka source needs it after a batch that was interrupted."""


@dataclass(frozen=True)
class Recorded:
    """A topic that has landed in five batches, by every recipe."""

    settings: Settings
    folder: Path

    def copy(self, folder: Path, batch: int) -> Settings:
        """Settings of a copy, read in batches of so many records."""
        shutil.copytree(self.folder, folder / "copy")
        return _in(self.settings, folder / "copy", batch)


def _in(settings: Settings, folder: Path, batch: int) -> Settings:
    return settings.model_copy(
        update={
            "lake": settings.lake.model_copy(update={"root": str(folder / "lake")}),
            "bronze": settings.bronze.model_copy(update={"batch_records": batch}),
        }
    )


def _plain(rows: DataFrame, path: Path, batch: int) -> None:
    rows.write.format("delta").mode("append").save(str(path))


def _by_batch_id(rows: DataFrame, path: Path, batch: int) -> None:
    keyed = rows.write.format("delta").mode("append").option("txnAppId", "landing").option("txnVersion", batch)
    keyed.save(str(path))


RECIPES: Mapping[str, Callable[[DataFrame, Path, int], None]] = {PLAIN: _plain, BATCH_ID: _by_batch_id}


def _landed_by(spark: SparkSession, settings: Settings, recipe: str) -> None:
    """Land the topic by another recipe, under the lake of the settings."""
    place = _place(settings, recipe)
    reader = spark.readStream.format("kafka").option("subscribe", topics.topic_name(settings, topics.EVENTS))
    reader = reader.option("kafka.bootstrap.servers", settings.kafka.bootstrap_servers)
    reader = reader.option("startingOffsets", "earliest").option("failOnDataLoss", "true")
    rows = reader.option("maxOffsetsPerTrigger", settings.bronze.batch_records).load().select("offset")
    write = RECIPES[recipe]
    stream = rows.writeStream.foreachBatch(lambda batch, number: write(batch, place.table, number))
    stream.option("checkpointLocation", str(place.checkpoint)).trigger(availableNow=True).start().awaitTermination()


def _place(settings: Settings, recipe: str) -> Place:
    root = Path(settings.lake.root)
    if recipe == OURS:
        name = tables.EVENTS.name
        return Place(root / "_checkpoints" / name, Path(tables.EVENTS.path(str(root))))
    return Place(root / recipe / "checkpoint", root / recipe / "table")


def _offsets(place: Place) -> list[int]:
    if not DeltaTable.is_deltatable(str(place.table)):
        return []
    return list(DeltaTable(str(place.table)).to_pyarrow_table(columns=["offset"]).column("offset").to_pylist())


@pytest.fixture(scope="module")
def recorded(
    broker: str,
    spark: SparkSession,
    new_settings: NewSettings,
    context: NewContext,
    tmp_path_factory: pytest.TempPathFactory,
) -> Recorded:
    """The world before it is damaged."""
    folder = tmp_path_factory.mktemp("recorded")
    settings = _in(new_settings(folder), folder, BATCH)
    topics.ensure(settings)
    _produce(settings, RECORDS)
    bronze.job.run(context(settings))
    for recipe in RECIPES:
        _landed_by(spark, settings, recipe)
    for recipe in (OURS, *RECIPES):
        place = _place(settings, recipe)
        assert sorted(_offsets(place)) == list(range(RECORDS))
        assert sorted(int(p.name) for p in (place.checkpoint / "commits").glob("[0-9]*")) == [0, 1, 2, 3, 4]
    _produce(settings, BATCH)
    return Recorded(settings, folder)


def _produce(settings: Settings, number: int) -> None:
    writer = log.producer(settings)
    for value in range(number):
        writer.produce(topics.topic_name(settings, topics.EVENTS), str(value).encode(), partition=0)
    assert writer.flush(10) == 0


def _repaired(context: Context, error: CheckpointDamaged) -> None:
    """Do what the error says."""
    found = re.search(r"Delete (\S+) and start again", error.do)
    assert found is not None, error.do
    shutil.rmtree(found[1])
    bronze.job.run(context)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_nothing_is_lost_or_doubled(recorded: Recorded, context: NewContext, tmp_path: Path, state: State) -> None:
    settings = recorded.copy(tmp_path, state.batch)
    place = _place(settings, OURS)
    state.make(place)
    now, refused = context(settings), None
    try:
        bronze.job.run(now)
    except CheckpointDamaged as error:
        refused = error
    if refused is not None:
        assert "bronze.events" in refused.what
        _repaired(now, refused)
    error = "" if refused is None else type(refused).__name__
    found = noted(HOP, state.name, OURS, outcome(_offsets(place), range(ALL), error, bool(error)))
    assert found.safe, found
    before = sorted(_offsets(place))
    bronze.job.run(now)
    assert sorted(_offsets(place)) == before


def _under(recorded: Recorded, spark: SparkSession, folder: Path, state: State, recipe: str) -> Outcome:
    settings = recorded.copy(folder, state.batch)
    place = _place(settings, recipe)
    state.make(place)
    error = ""
    for _ in range(STARTS):
        try:
            _landed_by(spark, settings, recipe)
        except StreamingQueryException as refused:
            error = type(refused).__name__
        else:
            error = ""
            break
    return noted(HOP, state.name, recipe, outcome(_offsets(place), range(ALL), error))


def test_a_plain_append_doubles_in_such_states(recorded: Recorded, spark: SparkSession, tmp_path: Path) -> None:
    found = [_under(recorded, spark, tmp_path / str(i), state, PLAIN) for i, state in enumerate(SHOWN)]
    assert [one.doubled for one in found] == [100, 100, 500, 0]
    assert found[3].error


def test_a_batch_id_loses_in_such_states_without_an_error(
    recorded: Recorded, spark: SparkSession, tmp_path: Path
) -> None:
    found = [_under(recorded, spark, tmp_path / str(i), state, BATCH_ID) for i, state in enumerate(SHOWN)]
    assert [(one.lost, one.doubled) for one in found[:3]] == [(0, 0), (100, 0), (100, 0)]
    assert [one.silent_loss for one in found[:3]] == [False, True, True]
    assert found[3].error
