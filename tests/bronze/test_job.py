"""What stops the landing of a topic, and what does not: every stop is one of our errors and names what to do."""

import shutil
import time
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable
from pyspark.sql import SparkSession

import bronze.job
from bronze.missing import missing
from bronze.spans import spans_of
from bronze.write_offs import write_off
from lakehouse import broker as log
from lakehouse import topics
from lakehouse.contracts import bronze as tables
from lakehouse.errors import CheckpointDamaged, RangeMissing, TopicReplaced
from lakehouse.jobs import Context, Interval
from lakehouse.settings import Settings
from lakehouse.storage import Span
from lakehouse.tables import Table
from tests.conftest import NewContext
from tests.crash.bronze_states import set_back


@pytest.fixture
def landed(broker: str, settings: Settings, context: NewContext) -> Context:
    """A world of which ten events have landed."""
    topics.ensure(settings)
    _produce(settings, 10)
    made = context(settings)
    bronze.job.run(made)
    assert _offsets(made) == list(range(10))
    return made


def _produce(settings: Settings, number: int, topic: str = topics.EVENTS) -> None:
    writer = log.producer(settings)
    for value in range(number):
        writer.produce(topics.topic_name(settings, topic), str(value).encode(), partition=0)
    assert writer.flush(10) == 0


def _offsets(context: Context, of: Table = tables.EVENTS) -> list[int]:
    table = DeltaTable(of.path(context.root)).to_pyarrow_table(columns=["offset"])
    return sorted(table.column("offset").to_pylist())


def _delete_below(settings: Settings, offset: int, topic: str = topics.EVENTS) -> None:
    client = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    place = TopicPartition(topics.topic_name(settings, topic), 0, offset)
    client.delete_records([place])[place].result()


def _replace(settings: Settings) -> None:
    client = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    topics.delete(settings)
    while topics.topic_name(settings, topics.EVENTS) in client.list_topics(timeout=5).topics:
        time.sleep(0.05)
    topics.ensure(settings)


def _lose_checkpoints(context: Context) -> None:
    shutil.rmtree(Path(context.root) / "_checkpoints")


def test_a_topic_that_was_replaced_stops_the_job_with_or_without_its_checkpoint(landed: Context) -> None:
    _replace(landed.settings)
    _produce(landed.settings, 5)
    with pytest.raises((TopicReplaced, RangeMissing)):
        bronze.job.run(landed)
    _lose_checkpoints(landed)
    with pytest.raises(TopicReplaced, match=r"bronze\.events was reading topic .* with id .*; the broker now has id"):
        bronze.job.run(landed)
    assert _offsets(landed) == list(range(10))


def test_a_topic_that_was_replaced_by_one_of_the_same_length_stops_the_job(landed: Context) -> None:
    _replace(landed.settings)
    _produce(landed.settings, 10)
    with pytest.raises(TopicReplaced, match=r"start a new lake root .*if not, restore the broker's data"):
        bronze.job.run(landed)


def test_a_table_that_was_set_back_stops_the_job_even_without_new_records(
    landed: Context, context: NewContext, tmp_path: Path
) -> None:
    # A copy: Spark remembers the log of a table that it has seen.
    shutil.copytree(landed.root, tmp_path / "copy")
    lake = landed.settings.lake.model_copy(update={"root": str(tmp_path / "copy")})
    landed = context(landed.settings.model_copy(update={"lake": lake}))
    set_back(Path(tables.EVENTS.path(landed.root)))
    with pytest.raises(CheckpointDamaged, match=r"bronze\.events ends at offset 0 .* gone on to 10.* Delete .*_checkp"):
        bronze.job.run(landed)
    shutil.rmtree(Path(landed.root) / "_checkpoints" / tables.EVENTS.name)
    bronze.job.run(landed)
    assert _offsets(landed) == list(range(10))


def test_retention_that_overtook_the_job_stops_it_with_the_missing_range(landed: Context) -> None:
    _produce(landed.settings, 10)
    _delete_below(landed.settings, 14)
    with pytest.raises(
        RangeMissing, match=r"bronze\.events: records were deleted from the topic .*offset \[1\d, 1\d\)"
    ):
        bronze.job.run(landed)
    _lose_checkpoints(landed)
    with pytest.raises(RangeMissing, match=r"bronze\.events ends at offset 10 of partition 0, topic .* begins at 14"):
        bronze.job.run(landed)
    assert _offsets(landed) == list(range(10))


@pytest.mark.parametrize("left", [20, 14], ids=["records are left", "nothing is left"])
def test_retention_that_overtook_a_topic_with_holes_stops_the_job_without_its_checkpoint_too(
    landed: Context, left: int
) -> None:
    _produce(landed.settings, 10, topics.DECISIONS)
    bronze.job.run(landed)
    _lose_checkpoints(landed)
    _produce(landed.settings, left - 10, topics.DECISIONS)
    _delete_below(landed.settings, 14, topics.DECISIONS)
    with pytest.raises(RangeMissing, match=r"bronze\.decisions ends at offset 10 .*: offsets 10 to 14 were deleted"):
        bronze.job.run(landed)
    assert _offsets(landed, tables.DECISIONS) == list(range(10))


def test_a_range_that_was_written_off_is_passed_over_and_the_topic_goes_on(landed: Context) -> None:
    _produce(landed.settings, 10, topics.SHADOW)
    bronze.job.run(landed)
    _produce(landed.settings, 10, topics.SHADOW)
    _delete_below(landed.settings, 14, topics.SHADOW)
    with pytest.raises(
        RangeMissing, match=r"deleted from the topic .*what can be written off: python -m bronze\.write"
    ):
        bronze.job.run(landed)
    (lost,) = missing(landed.settings, topics.SHADOW)
    write_off(landed.settings, lost, "the disk was full")
    bronze.job.run(landed)
    assert _offsets(landed, tables.SHADOW) == [*range(10), *range(14, 20)]
    assert missing(landed.settings, topics.SHADOW) == []


def test_an_interval_that_is_landed_again_closes_a_gap(landed: Context, context: NewContext) -> None:
    _produce(landed.settings, 10)
    bronze.job.run(context(landed.settings, Interval(8, 15)))
    assert _offsets(landed) == list(range(15))
    bronze.job.run(landed)
    assert _offsets(landed) == list(range(20))


def test_a_batch_with_a_hole_is_refused(spark: SparkSession) -> None:
    def batch(*places: tuple[int, int]) -> list[Span]:
        return spans_of(spark.createDataFrame(places, "partition int, offset bigint"), "T")

    assert batch((0, 5), (1, 3), (0, 4), (0, 6), (1, 2)) == [Span("T", 0, 4, 7), Span("T", 1, 2, 4)]
    with pytest.raises(RangeMissing, match="Offsets 4 to 7 of partition 0 hold 3 records"):
        batch((0, 4), (0, 5), (0, 7))
