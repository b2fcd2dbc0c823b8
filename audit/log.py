"""Topics: their ids and offsets by kafka-python, their records in bulk by confluent-kafka."""

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka import KafkaError as ClientError
from confluent_kafka.admin import AdminClient
from kafka import KafkaConsumer
from kafka import TopicPartition as Partition
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from audit.digests import Ints
from audit.errors import CannotLook
from audit.tables import Source

CHUNK = 20_000
_START_BROKER = "`make up` starts the local one; --without-topics compares the tables alone."


@dataclass(frozen=True)
class Records:
    """Some records of a partition, in order."""

    offset: Ints
    broker_ms: Ints
    value: list[bytes | None]
    envelope_bytes: Ints
    """Length of key, headers and value as bronze packs them before it seals them (lakehouse/README.md)."""

    def take(self, rows: Sequence[int]) -> list[bytes]:
        """The values of some rows."""
        return [self.value[row] or b"" for row in rows]


@dataclass(frozen=True)
class Topic:
    """A topic as the broker knows it now."""

    servers: str
    name: str
    topic_id: str
    kept: dict[int, tuple[int, int]]
    """By partition, the first offset that is still kept and the one after the last."""
    timeout_s: float

    def range(self, source: Source) -> tuple[int, int]:
        """Offsets [first, end) that the topic still has of a source; (0, 0) of a source of another topic id."""
        return self.kept.get(source.partition, (0, 0)) if source.topic_id == self.topic_id else (0, 0)

    def records(self, partition: int, start: int, end: int) -> Iterator[Records]:
        """The records [start, end), some thousand at a time; CannotLook when the broker stops answering."""
        if start >= end:
            return
        reader = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": f"audit-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": 65_536,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )
        try:
            reader.assign([TopicPartition(self.name, partition, start)])
            deadline = time.monotonic() + self.timeout_s
            while start < end:
                told = reader.consume(min(CHUNK, end - start), 0.2)
                got = [m for m in told if self._sound(m)]
                # The end of a partition is told with its offset, behind the broker's own marks.
                passed = max([start, *((m.offset() or 0) + (m.error() is None) for m in told)])
                if got:
                    yield _records([m for m in got if (m.offset() or 0) < end])
                if passed > start:
                    deadline, start = time.monotonic() + self.timeout_s, passed
                elif time.monotonic() > deadline:
                    raise CannotLook(f"Topic {self.name} gave nothing after offset {start}.", "Is the broker up?")
        except KafkaException as error:
            raise CannotLook(f"Topic {self.name} cannot be read: {error}.", _START_BROKER) from None
        finally:
            reader.close()

    def _sound(self, message: Message) -> bool:
        error = message.error()
        if (
            error is not None
            and error.code() != ClientError._PARTITION_EOF
            and (error.fatal() or not error.retriable())
        ):
            raise CannotLook(f"Topic {self.name} cannot be read: {error.str()}.", "Run the audit again.")
        return error is None


def _records(messages: list[Message]) -> Records:
    sizes = []
    for message in messages:
        key, value, headers = message.key(), message.value(), message.headers() or []
        size = 4 + len(key or b"") + 2 + sum(8 + len(name.encode()) + len(told or b"") for name, told in headers)
        sizes.append(size + 1 + len(value or b""))
    return Records(
        np.array([m.offset() for m in messages], np.int64),
        np.array([m.timestamp()[1] for m in messages], np.int64),
        [m.value() for m in messages],
        np.array(sizes, np.int64),
    )


def topic(servers: str, name: str, timeout_s: float) -> Topic:
    """A topic with its id and the offsets that it has; CannotLook when there is no broker or no such topic."""
    addresses, timeout_ms = servers.split(","), int(timeout_s * 1000)
    try:
        # kafka-python leaves sockets open where nobody answers.
        AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(timeout=timeout_s)
        admin = KafkaAdminClient(
            bootstrap_servers=addresses, request_timeout_ms=timeout_ms, bootstrap_timeout_ms=timeout_ms
        )
        try:
            found = admin.describe_topics([name])[0]
        finally:
            admin.close()
        if found["error_code"]:
            raise CannotLook(
                f"There is no topic {name} at {servers}.", "--events, --decisions and --shadow name the topics."
            )
        reader = KafkaConsumer(bootstrap_servers=addresses, enable_auto_commit=False)
        try:
            places = [Partition(name, one["partition_index"]) for one in found["partitions"]]
            first, end = reader.beginning_offsets(places), reader.end_offsets(places)
        finally:
            reader.close()
    except (KafkaError, KafkaException) as error:
        raise CannotLook(f"The broker at {servers} does not answer ({type(error).__name__}).", _START_BROKER) from None
    kept = {place.partition: (int(first[place]), int(end[place])) for place in places}
    return Topic(servers, name, str(found["topic_id"]), kept, timeout_s)
