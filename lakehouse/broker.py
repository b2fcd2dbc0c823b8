"""Producers and consumers of the log, set up the one way that keeps its promises.

Writers are idempotent with acks=all, so a partition keeps the order of the calls and has no holes. Readers assign
partitions at explicit offsets; nothing is committed to the broker.
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


def producer(settings: Settings, linger_ms: float = 0.0, compression: str = "none") -> Producer:
    """An idempotent producer; `linger_ms` trades latency for batches."""
    return Producer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": linger_ms,
            "socket.nagle.disable": True,
            "compression.type": compression,
            "queue.buffering.max.messages": 500_000,
            "message.timeout.ms": 120_000,
            "log_level": 2,
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


def consumer(settings: Settings, name: str, partition: int, offset: int, low_latency: bool = False) -> Consumer:
    """A reader of one partition from `offset` on; an offset that no longer exists is an error, never a jump.

    With `low_latency` every record comes at once; else the broker collects for up to 100 ms, which is far less work.
    """
    reader = Consumer(
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
            "log_level": 2,
        }
    )
    reader.assign([TopicPartition(name, partition, offset)])
    return reader


_SOON = (KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART)
"""What a broker answers for a moment after it made a topic."""
_SOON_S = 0.1


def watermarks(settings: Settings, name: str, partition: int) -> tuple[int, int]:
    """(first offset still kept, offset after the last record)."""
    reader = consumer(settings, name, partition, 0)
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
    """Asks, again and again, where a partition ends; one connection for all questions."""

    def __init__(self, settings: Settings, name: str, partition: int) -> None:
        self._client = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0})
        self._place = TopicPartition(name, partition)

    def offset(self, timeout_s: float) -> int | None:
        """The offset after the last record; None when the broker does not answer in time."""
        asked = self._client.list_offsets({self._place: OffsetSpec.latest()}, request_timeout=timeout_s)
        try:
            return int(asked[self._place].result().offset)
        except KafkaException:
            return None


def take(reader: Consumer, at_most: int, wait_s: float) -> list[Message]:
    """What is there, at once: waits for the first record only. RangeMissing where retention overtook the reader."""
    first = reader.poll(wait_s)
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
    return good


def batches(
    settings: Settings, name: str, partition: int, start: int, end: int, chunk: int = 20_000
) -> Iterator[list[Message]]:
    """The records [start, end) of a partition in order, at most `chunk` at a time; all, or BrokerUnavailable."""
    reader = consumer(settings, name, partition, start)
    deadline = time.monotonic() + settings.kafka.request_timeout_s
    try:
        while start < end:
            got = take(reader, min(chunk, end - start), 0.2)
            if got:
                deadline = time.monotonic() + settings.kafka.request_timeout_s
                start = got[-1].offset() + 1
                yield [message for message in got if message.offset() < end]
            elif time.monotonic() > deadline:
                raise BrokerUnavailable(f"Topic {name} gave nothing after offset {start}.", "Is the broker up?")
    finally:
        reader.close()


def read_range(
    settings: Settings, name: str, partition: int, start: int, end: int, chunk: int = 20_000
) -> list[Message]:
    """The records [start, end) of a partition, all of them, in order."""
    return [message for batch in batches(settings, name, partition, start, end, chunk) for message in batch]
