"""Producers and consumers of the log, set up the one way that keeps its promises.

Writers are idempotent with acks=all, so a partition keeps the order of the calls; topic `events` has no holes. On topic
`decisions` a transactional engine leaves some: the broker's own marks, and what was never committed. Readers assign
partitions at explicit offsets and see only what was committed; nothing is committed to the broker by them.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from lakehouse.errors import BrokerUnavailable, RangeMissing
from lakehouse.settings import Settings
from lakehouse.topics import unavailable

Delivered = Callable[[KafkaError | None, Message], None]


TRANSACTION_MS = 30_000
"""An open transaction of a writer that stands still is aborted after so long, or by its successor."""
UNWRITTEN_MS = 120_000
"""A record that the broker has not acknowledged for so long has failed."""


class Reader(Consumer):  # type: ignore[misc]
    """A consumer of one partition that knows how far it is."""

    next = 0
    """The offset behind everything that was handed over, and behind the broker's marks where it reached the end."""


def producer(
    settings: Settings,
    linger_ms: float = 0.0,
    compression: str = "none",
    transactional_id: str | None = None,
    failures_only: bool = False,
    expires: bool = True,
) -> Producer:
    """An idempotent producer; `linger_ms` trades latency for batches.

    With a transactional id records are written in transactions, and whoever opens the same id later ends this one.
    With `failures_only` nobody is called for a record that was written. Without `expires` a record waits for ever, so
    that none is written behind one that expired; whoever writes gives up by `purge`.
    """
    transactions: dict[str, object] = {"message.timeout.ms": UNWRITTEN_MS if expires else 0}
    if transactional_id is not None:
        timeouts = ("message.timeout.ms", "transaction.timeout.ms")
        transactions = {"transactional.id": transactional_id, **dict.fromkeys(timeouts, TRANSACTION_MS)}
    return Producer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": linger_ms,
            "socket.nagle.disable": True,
            "compression.type": compression,
            "queue.buffering.max.messages": 500_000,
            "log_level": 2,
            "delivery.report.only.error": failures_only,
            **transactions,
        }
    )


def placed(
    settings: Settings,
    writer: Producer,
    name: str,
    partition: int,
    record: bytes,
    headers: Sequence[tuple[str, bytes]] = (),
) -> int | None:
    """Write one record and wait for it; its offset, None when the broker has not acknowledged it in time."""
    found: list[int] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is None:
            found.append(message.offset())

    writer.produce(name, record, partition=partition, headers=list(headers), on_delivery=delivered)
    writer.flush(settings.kafka.request_timeout_s)
    return found[0] if found else None


def _reader(settings: Settings, low_latency: bool) -> Reader:
    """A reader of nothing yet."""
    return Reader(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "group.id": f"fraudlake-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "socket.nagle.disable": True,
            "fetch.wait.max.ms": 100,
            "fetch.queue.backoff.ms": 1 if low_latency else 100,
            "fetch.min.bytes": 1 if low_latency else 65_536,
            "queued.max.messages.kbytes": 65_536,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "log_level": 2,
        }
    )


def consumer(settings: Settings, name: str, partition: int, offset: int, low_latency: bool = False) -> Reader:
    """A reader of one partition from `offset` on; an offset that no longer exists is an error, never a jump.

    With `low_latency` every record comes at once; else the broker collects for up to 100 ms, which is far less work.
    """
    reader = _reader(settings, low_latency)
    reader.next = offset
    reader.assign([TopicPartition(name, partition, offset)])
    return reader


_SOON = (KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART)
"""What a broker answers for a moment after it made a topic."""
_SOON_S = 0.1


def watermarks(settings: Settings, name: str, partition: int) -> tuple[int, int]:
    """(first offset still kept, offset after the last record)."""
    # Of no partition: nothing to fetch. One that fetched from an offset that is gone was seen not to close.
    reader = _reader(settings, low_latency=False)
    deadline = time.monotonic() + settings.kafka.request_timeout_s
    try:
        while True:
            left = max(deadline - time.monotonic(), _SOON_S)
            try:
                low, high = reader.get_watermark_offsets(TopicPartition(name, partition), timeout=left, cached=False)
                return low, high
            except KafkaException as error:
                if error.args[0].code() not in _SOON or time.monotonic() > deadline:
                    raise unavailable(settings, error) from None
            time.sleep(_SOON_S)
    finally:
        reader.close()


class End:
    """Asks, again and again, where a partition ends; one connection for all questions that are answered."""

    def __init__(self, settings: Settings, name: str, partition: int) -> None:
        self._options = {"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0}
        self._client = AdminClient(self._options)
        self._place = TopicPartition(name, partition)

    def offset(self, timeout_s: float) -> int | None:
        """The offset after the last record; None when the broker does not answer in time."""
        asked = self._client.list_offsets({self._place: OffsetSpec.latest()}, request_timeout=timeout_s)
        try:
            return int(asked[self._place].result().offset)
        except KafkaException:
            # A client that once saw no such partition, as of a broker that was just going, says so for many minutes.
            self._client = AdminClient(self._options)
            return None


def take(reader: Reader, at_most: int, wait_s: float) -> list[Message]:
    """What is there, at once: waits for the first record only. RangeMissing where retention overtook the reader."""
    deadline = time.monotonic() + wait_s
    first = reader.poll(wait_s)
    while first is not None and _at_end(reader, first):
        first = reader.poll(max(0.0, deadline - time.monotonic()))
    if first is None:
        return []
    messages = [first, *reader.consume(at_most - 1, 0)] if at_most > 1 else [first]
    good = []
    for message in messages:
        error = message.error()
        if error is None:
            good.append(message)
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise RangeMissing(
                f"Topic {message.topic()} no longer has offset {message.offset()}: {error.str()}.",
                "Records were deleted before they were read; restore them or rebuild from silver.",
            )
        elif error.fatal():
            raise BrokerUnavailable(f"Reading {message.topic()} failed: {error.str()}.", "Start again.")
    if good:
        reader.next = good[-1].offset() + 1
    _at_end(reader, messages[-1])
    return good


def _at_end(reader: Reader, message: Message) -> bool:
    """Whether a message is none, but says that the reader is at the end."""
    error = message.error()
    if error is None or error.code() != KafkaError._PARTITION_EOF:
        return False
    reader.next = max(reader.next, message.offset())
    return True


def delete_below(settings: Settings, name: str, partition: int, end: int) -> int:
    """Delete the records of a partition below an offset, for every reader; the first offset that is still kept."""
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0})
    place = TopicPartition(name, partition, end)
    try:
        asked = admin.delete_records([place], request_timeout=settings.kafka.request_timeout_s)
        return int(asked[TopicPartition(name, partition)].result().low_watermark)
    except KafkaException as error:
        raise unavailable(settings, error) from None


def batches(
    settings: Settings, name: str, partition: int, start: int, end: int, chunk: int = 20_000
) -> Iterator[list[Message]]:
    """The committed records [start, end) of a partition in order, at most `chunk` at a time; all of them.

    BrokerUnavailable where they do not come.
    """
    reader = consumer(settings, name, partition, start)
    deadline = time.monotonic() + settings.kafka.request_timeout_s
    try:
        while start < end:
            got = take(reader, min(chunk, end - start), 0.2)
            wanted = [message for message in got if message.offset() < end]
            if wanted:
                yield wanted
            if reader.next > start:
                deadline = time.monotonic() + settings.kafka.request_timeout_s
                start = reader.next
            elif time.monotonic() > deadline:
                raise BrokerUnavailable(f"Topic {name} gave nothing after offset {start}.", "Is the broker up?")
    finally:
        reader.close()


def read_range(
    settings: Settings, name: str, partition: int, start: int, end: int, chunk: int = 20_000
) -> list[Message]:
    """The committed records [start, end) of a partition, all of them, in order."""
    return [message for batch in batches(settings, name, partition, start, end, chunk) for message in batch]
