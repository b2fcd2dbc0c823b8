"""Topics `events`, `decisions` and `shadow` -> a table of bronze each: as received, sealed, each record once."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pyarrow import fs
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from bronze.sealing import sealing
from bronze.spans import spans_of
from lakehouse import broker, jobs, keys, purging, storage, streams, topics
from lakehouse.contracts import bronze
from lakehouse.errors import CheckpointDamaged, RangeMissing
from lakehouse.files import filesystem
from lakehouse.jobs import Context
from lakehouse.key_age import warn_of_age
from lakehouse.log import logger
from lakehouse.streams import Stream
from lakehouse.tables import Table
from lakehouse.topics import TopicIdentity

FETCH = {
    "kafka.max.poll.records": "10000",
    "kafka.max.partition.fetch.bytes": str(16 << 20),
    "kafka.receive.buffer.bytes": str(1 << 20),
}
"""Large fetches: the consumer's defaults (500 records, 1 MiB) are for listening, not for reading whole topics."""
DENSE = (topics.EVENTS,)
"""Topics whose offsets have no holes. A transactional engine leaves some on `decisions`: the broker's own marks."""
TABLES = {topics.EVENTS: bronze.EVENTS, topics.DECISIONS: bronze.DECISIONS, topics.SHADOW: bronze.SHADOW}
DELETED = "Restore the broker's data, or see what can be written off: python -m bronze.write_offs"
"""What to do where retention was faster than this job."""


def _kafka_options(context: Context, identity: TopicIdentity) -> dict[str, str]:
    kafka = context.settings.kafka
    return {
        "kafka.bootstrap.servers": kafka.bootstrap_servers,
        "subscribe": identity.name,
        "includeHeaders": "true",
        "failOnDataLoss": "true",
        "minPartitions": str(2 * context.spark.sparkContext.defaultParallelism),
        "kafka.isolation.level": "read_committed",
        **FETCH,
    }


def _sealed(context: Context, identity: TopicIdentity, frame: DataFrame, table: Table) -> DataFrame:
    # Nested columns cost Arrow more than all others together; headers are rare and go as text.
    headers = F.when(F.size("headers") > 0, F.to_json("headers")).alias("headers")
    columns = frame.select("key", "value", headers, "partition", "offset", "timestamp")
    purged = purging.everywhere(context.root, identity.topic_id, table.name)
    seal = sealing(keys.source(context.settings), identity.topic_id, datetime.now(UTC), purged)
    return columns.mapInArrow(seal, table.ddl.replace(" NOT NULL", ""))


def again(context: Context, topic: str, span: storage.Span) -> None:
    """Land an interval of a topic again."""
    table = TABLES[topic]
    identity = topics.identify(context.settings, topic)
    bounds = {
        "startingOffsets": f'{{"{identity.name}":{{"0":{span.start}}}}}',
        "endingOffsets": f'{{"{identity.name}":{{"0":{span.end}}}}}',
    }
    frame = context.spark.read.format("kafka").options(**_kafka_options(context, identity), **bounds).load()
    storage.overwrite_interval(_sealed(context, identity, frame, table), context.root, table, span, contiguous=True)


def _refuse_ahead(context: Context, identity: TopicIdentity, table: Table, partition: int, position: int) -> None:
    """CheckpointDamaged when a stream is at a position, and records before it are on the topic but not in its table."""
    low, _ = broker.watermarks(context.settings, identity.name, partition)
    end = storage.written_ends(context.root, table).get(f"{identity.topic_id}/{partition}", low)
    if low <= end < position and _holds(context, identity, partition, end, position):
        raise CheckpointDamaged(
            f"{table.name} ends at offset {end} of partition {partition}, but its stream has gone on to {position}: "
            "the table was set back, or its checkpoint is another's.",
            streams.again(context, table.name),
        )


def _refuse_deleted(context: Context, identity: TopicIdentity, table: Table) -> None:
    """RangeMissing when a topic begins behind its table's end and no checkpoint is left.

    Spark itself compares what a checkpoint says with the topic; without one it begins where the topic begins.
    """
    offsets = fs.FileSelector("offsets", allow_not_found=True)
    if filesystem(context.checkpoint(table.name)).get_file_info(offsets):
        return
    ends = storage.written_ends(context.root, table)
    for partition in range(identity.partitions):
        held = ends.get(f"{identity.topic_id}/{partition}")
        low, _ = broker.watermarks(context.settings, identity.name, partition)
        if held is not None and held < low:
            raise RangeMissing(
                f"{table.name} ends at offset {held} of partition {partition}, topic {identity.name} begins at {low}: "
                f"offsets {held} to {low} were deleted before they were read.",
                DELETED,
            )


def _holds(context: Context, identity: TopicIdentity, partition: int, start: int, end: int) -> bool:
    """Whether records lie between two offsets, not only holes."""
    return any(broker.batches(context.settings, identity.name, partition, start, end))


def _landed(context: Context, ends: Mapping[str, Sequence[int]]) -> None:
    """CheckpointDamaged unless the tables reach the ends that the topics had, by partition."""
    for topic, offsets in ends.items():
        identity = topics.identify(context.settings, topic)
        for partition, offset in enumerate(offsets):
            _refuse_ahead(context, identity, TABLES[topic], partition, offset)


def _ends(context: Context, topic: str) -> list[int]:
    identity = topics.identify(context.settings, topic)
    return [broker.watermarks(context.settings, identity.name, p)[1] for p in range(identity.partitions)]


def landing(context: Context, topic: str) -> Stream:
    """The stream that lands a topic."""
    table, settings, log = TABLES[topic], context.settings, logger("bronze")
    identity = topics.identify(settings, topic)
    storage.ensure(context.root, table)
    for key in storage.written_ends(context.root, table):
        identity.check(key.rsplit("/", 1)[0], table.name)
    _refuse_deleted(context, identity, table)

    def opened() -> DataFrame:
        reader = context.spark.readStream.format("kafka").options(**_kafka_options(context, identity))
        reader = reader.option("startingOffsets", "earliest")
        return reader.option("maxOffsetsPerTrigger", settings.bronze.batch_records).load()

    def write(batch: DataFrame, _: int) -> None:
        topics.identify(settings, topic).check(identity.topic_id, table.name)
        # Two reads of the topic cost less than keeping what was sealed: the offsets of a batch never change.
        spans = spans_of(batch, identity.topic_id, dense=topic in DENSE)
        for span in spans:
            _refuse_ahead(context, identity, table, span.partition, span.start)
        rows = _sealed(context, identity, batch, table)
        storage.append_once(rows, context.root, table, spans, contiguous=topic in DENSE)
        for span in spans:
            log.info("landed", table=table.name, partition=span.partition, start=span.start, end=span.end)

    return Stream(table.name, opened, write, settings.bronze.trigger_s, DELETED)


def _begun(context: Context, topic: str, ends: Sequence[int]) -> bool:
    """Whether there is something to land, or something that landed to compare with; a continuous run waits for it."""
    return any(ends) or bool(storage.written_ends(context.root, TABLES[topic])) or not context.available_now


def run(context: Context) -> None:
    """Land the topics: until everything that is there has landed, for ever, or an interval of `events` again.

    A scheduled run starts no stream for a topic that nothing was ever written to: without a challenger, `shadow`.
    """
    warn_of_age(context.settings)
    if context.interval:
        identity = topics.identify(context.settings, topics.EVENTS)
        again(context, topics.EVENTS, storage.Span(identity.topic_id, 0, context.interval.start, context.interval.end))
        return
    ends = {topic: _ends(context, topic) for topic in TABLES}
    for table in TABLES.values():
        storage.ensure(context.root, table)
    streams.run(context, [landing(context, topic) for topic in TABLES if _begun(context, topic, ends[topic])])
    _landed(context, ends)


if __name__ == "__main__":
    sys.exit(jobs.main("bronze", run, __doc__, sys.argv[1:]))
