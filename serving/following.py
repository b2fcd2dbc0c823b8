"""The two readers of a replica: decisions, and the answers of all replicas; each a thread that feeds the replies."""

import asyncio
import threading
from collections.abc import Callable

import numpy as np
from confluent_kafka import Message

from lakehouse import broker, topics
from lakehouse.codec import Batch, Strings
from lakehouse.errors import FraudlakeError
from lakehouse.fencing import Fence
from lakehouse.log import logger
from lakehouse.registry import PREFIX_BYTES, registry, schema_ids
from lakehouse.settings import Settings
from lakehouse.texts import Texts
from serving.replies import Replies, Reply

PARTITION = 0
BATCH = 512
WAIT_S = 0.2
EVENTS_PER_PAYMENT = 3
"""A payment, its authorisation and now and then a label: how far back answers of recent payments can lie."""

_DECISION, _START, _ANSWER = (registry().latest(kind) for kind in ("decision", "engine_start", "answer"))


def _of_schema(messages: list[Message], schema_id: int) -> tuple[list[int], Batch]:
    """(rows, columns) of the messages written with a schema."""
    texts = Texts.of([m.value() or b"" for m in messages])
    ids = schema_ids(texts.buffer, texts.start, texts.start + texts.length)
    rows = [i for i, found in enumerate(ids.tolist()) if found == schema_id]
    mine = texts.take(np.array(rows, np.int64))
    codec = registry().by_id()[schema_id].codec
    return rows, codec.decode(mine.buffer, mine.start + PREFIX_BYTES, mine.start + mine.length).batch


class DecisionReader:
    """Turns records of topic `decisions` into replies, through the fence."""

    def __init__(self) -> None:
        self._fence: Fence | None = None

    def replies(self, messages: list[Message]) -> list[Reply]:
        """The decisions that count, in order."""
        rows, batch = _of_schema(messages, _DECISION.id)
        where = dict(zip(rows, range(len(rows)), strict=True))
        epochs, sources = batch.numbers("epoch").tolist(), batch.numbers("offset").tolist()
        out = []
        for i, message in enumerate(messages):
            if (message.value() or b"")[:PREFIX_BYTES] == _START.prefix:
                self._fence = self._fence or Fence()
                self._fence.start(message.offset())
            elif i in where:
                at = where[i]
                # A replica that begins in the middle takes the engine it finds there as the one in office.
                self._fence = self._fence or Fence(epochs[at])
                if self._fence.counts(epochs[at], sources[at]):
                    out.append(_reply(batch, at))
        return out


def _reply(batch: Batch, row: int) -> Reply:
    def text(name: str) -> str:
        return batch.texts(name).get(row).decode()

    def number(name: str) -> float:
        return float(batch.numbers(name)[row])

    rejected = batch.columns["rejected_by"]
    assert isinstance(rejected, Strings)
    return Reply(
        text("transaction_id"),
        batch.texts("content_digest").get(row),
        text("decision_id"),
        text("topic_id"),
        int(number("partition")),
        int(number("offset")),
        text("outcome"),
        text("risk") if batch.has("risk")[row] else None,
        number("score") if batch.has("score")[row] else None,
        text("rung"),
        tuple(rejected.to_list()[row]),
    )


def answers(messages: list[Message]) -> list[tuple[str, str]]:
    """(transaction id, outcome) of the answers among records of topic `events`."""
    if not any((m.value() or b"")[:PREFIX_BYTES] == _ANSWER.prefix for m in messages):
        return []
    _, batch = _of_schema(messages, _ANSWER.id)
    pairs = zip(batch.texts("transaction_id").to_list(), batch.texts("outcome").to_list(), strict=True)
    return [(one.decode(), other.decode()) for one, other in pairs]


class Follower:
    """A thread that reads a topic from some way back and hands what it finds to the event loop."""

    def __init__(
        self, settings: Settings, topic: str, back: int, take: Callable[[list[Message]], None], low_latency: bool
    ) -> None:
        self._settings, self._low_latency = settings, low_latency
        self._name = topics.topic_name(settings, topic)
        low, high = broker.watermarks(settings, self._name, PARTITION)
        self._start, self._caught_up_at = max(low, high - back), high
        self._take = take
        self._stop = threading.Event()
        self.position = self._start
        self.failed: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"read {topic}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(5)

    @property
    def caught_up(self) -> bool:
        """Whether everything has been read that was there at the start."""
        return self.failed is None and self.position >= self._caught_up_at

    def _run(self) -> None:
        reader = broker.consumer(self._settings, self._name, PARTITION, self._start, self._low_latency)
        log = logger("api")
        try:
            while not self._stop.is_set():
                messages = broker.take(reader, BATCH, WAIT_S)
                if messages:
                    self._take(messages)
                    self.position = messages[-1].offset() + 1
        except FraudlakeError as error:
            self.failed = error.what
            log.error("a reader ended; this replica is not ready", reason=error.what)
        finally:
            reader.close()


def followers(settings: Settings, replies: Replies, loop: asyncio.AbstractEventLoop) -> list[Follower]:
    """The two readers of a replica, not started."""
    decisions = DecisionReader()

    def take_decisions(messages: list[Message]) -> None:
        found = decisions.replies(messages)
        if found:
            loop.call_soon_threadsafe(replies.decided, found)

    def take_events(messages: list[Message]) -> None:
        found = answers(messages)
        if found:
            loop.call_soon_threadsafe(replies.answered, found)

    back = settings.api.index_records
    return [
        Follower(settings, topics.DECISIONS, back, take_decisions, low_latency=True),
        # Nobody waits for the answers of other replicas: they may come in larger pieces.
        Follower(settings, topics.EVENTS, back * EVENTS_PER_PAYMENT, take_events, low_latency=False),
    ]
