"""Taking office and staying in it: the epoch, what was decided before, and the writing of decisions.

An engine's epoch is the offset of its own start record, read back before it decides anything. It reads what was decided
since its snapshot and does not emit that again. A newer start record on the topic ends it.
"""

import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from decisions.record import Body, Envelope, sealed, start_record
from lakehouse import broker, topics
from lakehouse.crash import crash_point
from lakehouse.errors import BrokerUnavailable, EngineFenced, RangeMissing
from lakehouse.fencing import Fence
from lakehouse.moments import now_ms
from lakehouse.registry import PREFIX_BYTES, registry, schema_ids
from lakehouse.settings import Settings
from lakehouse.texts import Texts
from lakehouse.version import VERSION

_DECISIONS = {schema.id: schema for schema in registry().versions("decision")}
"""An engine of an older release may have decided before this one."""
_START = registry().latest("engine_start").id
_TRIES = 3
"""Of a step of a transaction that may be tried again, each as long as `kafka.request_timeout_s`."""
_FENCED = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)


def _ended(error: KafkaException) -> BrokerUnavailable | EngineFenced:
    """Why a writer cannot go on: another has its transactional id, or the broker did not take a transaction."""
    if error.args[0].code() in _FENCED:
        return EngineFenced("Another engine writes this partition's transactions.", "This one ends.")
    return BrokerUnavailable(f"A decision was not written: {error.args[0].str()}.", "Start the engine again.")


class Writer:
    """Writes to topic `decisions`, in order, each record acknowledged.

    With `engine.delivery: transactional` what is put between two commits becomes visible at once or never, and a writer
    that was opened later ends this one; else a record is visible when the broker has it, and `commit` does nothing.

    What is on the topic is always the beginning of what was put. A writer that fails never writes what still waits: the
    engine after it takes everything up to the newest decision for decided.
    """

    def __init__(self, settings: Settings, partition: int, patience_s: float = broker.UNWRITTEN_MS / 1000) -> None:
        self._name = topics.topic_name(settings, topics.DECISIONS)
        self._partition = partition
        self._transactional = settings.engine.delivery == "transactional"
        own = f"{self._name}-engine-{partition}" if self._transactional else None
        self._producer: Producer = broker.producer(
            settings, compression="lz4", transactional_id=own, expires=self._transactional
        )
        self._open = False
        self._failed: str | None = None
        self._patience_s, self._moved = patience_s, time.monotonic()
        self._timeout_s = settings.kafka.request_timeout_s
        self.last_place = self.next_place = -1
        """Offset of the topic that our next record gets when nobody else writes; -1 before the first one."""
        self.gaps: list[tuple[int, int]] = []
        """Ranges of offsets between our records: somebody else's."""

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed = self._failed or error.str()
            return
        self._moved = time.monotonic()
        place: int = message.offset()
        if place != self.next_place and self.next_place >= 0:
            self.gaps.append((self.next_place, place))
        self.last_place, self.next_place = place, place + 1

    def _check(self) -> None:
        """BrokerUnavailable where a record failed or nothing moved for too long; then nothing that waits is written."""
        if not len(self._producer):
            self._moved = time.monotonic()
        elif self._failed is None and time.monotonic() - self._moved > self._patience_s:
            self._failed = f"nothing was acknowledged for {self._patience_s:g} s"
        if self._failed is not None:
            self._producer.purge()
            raise BrokerUnavailable(f"A decision was not written: {self._failed}.", "Start the engine again.")

    def _heard(self) -> None:
        """Take in what the broker has said, without waiting."""
        self._carefully(lambda: self._producer.poll(0))
        self._check()

    def put(self, records: Sequence[bytes], keys: Sequence[bytes]) -> None:
        """Hand records over; they are on their way when this returns."""
        self._heard()
        if self._transactional and records and not self._open:
            self._carefully(self._producer.begin_transaction)
            self._open = True
        for record, key in zip(records, keys, strict=True):
            while True:
                try:
                    self._producer.produce(
                        self._name, record, key, partition=self._partition, on_delivery=self._delivered
                    )
                    break
                except BufferError:
                    self._carefully(lambda: self._producer.poll(0.01))
                    self._check()
                except KafkaException as error:
                    raise _ended(error) from None
        self._heard()

    def take_over(self) -> None:
        """End whoever wrote under this partition's transactional id before, and abort what it left open."""
        if self._transactional:
            self._carefully(lambda: self._producer.init_transactions(self._timeout_s))

    def commit(self) -> None:
        """Make what was put since the last commit visible; nothing to do outside of transactions."""
        if self._open:
            self._carefully(lambda: self._producer.commit_transaction(self._timeout_s))
            self._check()
            self._open = False
            # The commit's own mark takes an offset too.
            self.next_place += 1

    def flush(self) -> None:
        """Wait until the broker has everything, and it is visible."""
        self.commit()
        while self._carefully(lambda: self._producer.flush(min(self._timeout_s, self._patience_s))):
            self._check()
        self._check()

    def _carefully(self, step: Callable[[], object]) -> object:
        left = _TRIES
        while True:
            left -= 1
            try:
                return step()
            except KafkaException as error:
                if not left or not error.args[0].retriable():
                    raise _ended(error) from None
            except SystemError as error:
                # The client raises a fatal error, then calls our callback, which Python does not allow.
                if not isinstance(error.__cause__, KafkaException):
                    raise
                raise _ended(error.__cause__) from None


def _read(settings: Settings, partition: int, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(offset, schema id, epoch, source offset) of the records [start, end) of topic `decisions`, in order.

    Some thousand are held at a time: an engine whose snapshot is old has millions to look at.
    """
    name = topics.topic_name(settings, topics.DECISIONS)
    for messages in broker.batches(settings, name, partition, start, end):
        texts = Texts.of([m.value() or b"" for m in messages])
        ids = schema_ids(texts.buffer, texts.start, texts.start + texts.length)
        epoch, source = np.full(len(messages), -1, np.int64), np.full(len(messages), -1, np.int64)
        for schema_id, schema in _DECISIONS.items():
            rows = np.flatnonzero(ids == schema_id)
            found = texts.take(rows)
            decoded = schema.codec.decode(found.buffer, found.start + PREFIX_BYTES, found.start + found.length).batch
            epoch[rows], source[rows] = decoded.numbers("epoch"), decoded.numbers("offset")
        offsets = [message.offset() for message in messages]
        yield from zip(offsets, ids.tolist(), epoch.tolist(), source.tolist(), strict=True)


class Office:
    """An engine's term: its epoch, and which source offsets were decided before it."""

    def __init__(self, settings: Settings, partition: int) -> None:
        self._settings, self._partition = settings, partition
        self.writer = Writer(settings, partition)
        self.host = socket.gethostname()
        self.epoch = -1
        self.decided_before = -1
        """Decisions up to this source offset are on the topic; they are not emitted again."""

    def take(self, topic_id: str, next_offset: int, fence: Fence, since: int) -> None:
        """Write the start record, read it back, and learn what was decided since offset `since` of the topic.

        `fence` is what was true there. EngineFenced when another engine started at the same moment and came later.
        """
        name = topics.topic_name(self._settings, topics.DECISIONS)
        self.writer.take_over()
        _, end = broker.watermarks(self._settings, name, self._partition)
        if since > end:
            raise RangeMissing(
                f"Topic {name} ends at offset {end}; the snapshot was made when it ended at {since}.",
                "Restore the broker's data, or delete the snapshots made since: with an older one the engine makes the "
                "decisions that are gone again.",
            )
        engine_id = str(uuid.uuid4())
        record = start_record(engine_id, now_ms(), topic_id, next_offset, self.host, VERSION)
        self.writer.put([record], [engine_id.encode()])
        self.writer.flush()
        self.epoch = self.writer.last_place
        low, end = broker.watermarks(self._settings, name, self._partition)
        if low > since > 0:
            raise RangeMissing(
                f"Topic {name} begins at offset {low}; the snapshot needs it from {since}.",
                "Its retention is shorter than the snapshot is old: make a new snapshot with features.job.",
            )
        self._follow(fence, max(low, since), end)
        self.decided_before = fence.decided

    @cached_property
    def _end(self) -> broker.End:
        return broker.End(self._settings, topics.topic_name(self._settings, topics.DECISIONS), self._partition)

    def watched(self, fence: Fence, since: int) -> int:
        """Learn from outside of office what was decided from an offset of the topic on; the offset behind it."""
        end = self._end.offset(self._settings.kafka.request_timeout_s)
        if end is None:
            raise BrokerUnavailable("Where topic decisions ends is not known.", "Is the broker up?")
        if since < end:
            self._learn(fence, since, end)
        return max(since, end)

    def _learn(self, fence: Fence, start: int, end: int) -> None:
        for offset, schema_id, decided_by, source in _read(self._settings, self._partition, start, end):
            if schema_id == _START:
                fence.start(offset)
            elif schema_id in _DECISIONS:
                fence.counts(decided_by, source)

    def _follow(self, fence: Fence, start: int, end: int) -> None:
        self._learn(fence, start, end)
        if fence.epoch > self.epoch:
            raise EngineFenced(
                f"Another engine took office at offset {fence.epoch}.",
                "This one ends; readers ignore what it wrote since.",
            )

    def stay(self) -> None:
        """Look at what others wrote between our records; EngineFenced when one of them took office."""
        while self.writer.gaps:
            self._follow(Fence(self.epoch), *self.writer.gaps.pop())

    def tell(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Write what follows decisions: (record, key) each."""
        self.writer.put([record for record, _ in records], [key for _, key in records])
        self.writer.commit()

    def emit(self, bodies: Sequence[Body], began: float) -> int:
        """Write the decisions that are not on the topic yet; how many."""
        assert self.epoch >= 0, "whoever has not taken office decides nothing"
        emitted = 0
        for body in bodies:
            fresh = [i for i, offset in enumerate(body.offset.tolist()) if offset > self.decided_before]
            if not fresh:
                continue
            records = body.encoded()
            latency_us = int((time.monotonic() - began) * 1e6)
            envelope = Envelope(self.epoch, now_ms(), latency_us, self.host, VERSION)
            complete = sealed([records[i] for i in fresh], envelope)
            self.writer.put(complete, [body.transaction_id[i] for i in fresh])
            crash_point("after-produce")
            emitted += len(fresh)
        self.writer.commit()
        self.stay()
        return emitted
