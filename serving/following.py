"""The two readers of a replica: decisions, and the answers of all replicas; each a thread that feeds the replies."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import Message

from lakehouse import broker, topics
from lakehouse.errors import FraudlakeError
from lakehouse.fencing import Fence
from lakehouse.log import logger
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.settings import Settings
from lakehouse.single import read
from serving.profile_writer import ProfileWriter
from serving.replies import Replies, Reply

PARTITION = 0
BATCH = 512
WAIT_S = 0.2
EVENTS_PER_PAYMENT = 3
"""A payment, its authorisation and now and then a label: how far back answers of recent payments can lie."""

_START, _ANSWER = (registry().latest(kind) for kind in ("engine_start", "answer"))
_DECISIONS = {schema.prefix: schema for schema in registry().versions("decision")}


class DecisionReader:
    """Reads records of topic `decisions` through the fence."""

    def __init__(self, fence: Fence | None = None) -> None:
        self.fence = fence

    def decisions(self, messages: list[Message]) -> list[dict[str, Any]]:
        """The decisions that count, in order."""
        out = []
        for message in messages:
            value = message.value() or b""
            prefix = value[:PREFIX_BYTES]
            if prefix == _START.prefix:
                self.fence = self.fence or Fence()
                self.fence.start(message.offset())
            elif prefix in _DECISIONS:
                found = read(_DECISIONS[prefix], value)
                # A replica that begins in the middle takes the engine it finds there as the one in office.
                self.fence = self.fence or Fence(found["epoch"])
                if self.fence.counts(found["epoch"], found["offset"]):
                    out.append(found)
        return out


def reply(found: dict[str, Any]) -> Reply:
    """What a decision answers its payment."""
    return Reply(
        found["transaction_id"],
        found["content_digest"],
        found["decision_id"],
        found["topic_id"],
        found["partition"],
        found["offset"],
        found["outcome"],
        found["risk"],
        found["score"],
        found["rung"],
        tuple(found["rejected_by"]),
    )


def answer_records(messages: list[Message]) -> list[tuple[int, dict[str, Any]]]:
    """(offset, fields) of the answers among records of topic `events`."""
    values = ((message.offset(), message.value() or b"") for message in messages)
    return [(offset, read(_ANSWER, value)) for offset, value in values if value[:PREFIX_BYTES] == _ANSWER.prefix]


def answers(messages: list[Message]) -> list[tuple[str, str]]:
    """(transaction id, outcome) of the answers among records of topic `events`."""
    return [(one["transaction_id"], one["outcome"]) for _, one in answer_records(messages)]


class Follower:
    """A thread that reads a topic from some way back and hands what it finds to the event loop."""

    def __init__(
        self, settings: Settings, topic: str, back: int, take: Callable[[list[Message]], None], low_latency: bool
    ) -> None:
        self._settings, self._low_latency = settings, low_latency
        self._name = topics.topic_name(settings, topic)
        low, high = broker.watermarks(settings, self._name, PARTITION)
        self._start, self._caught_up_at = max(low, high - back), high
        self.from_the_start = self._start == low
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
        except Exception as error:
            self.failed = error.what if isinstance(error, FraudlakeError) else f"{type(error).__name__}: {error}"
            log.error("a reader ended; this replica is not ready", reason=self.failed)
        finally:
            reader.close()


def followers(
    settings: Settings, replies: Replies, profiles: ProfileWriter, loop: asyncio.AbstractEventLoop
) -> list[Follower]:
    """The two readers of a replica, not started: first that of decisions, which are also handed to `profiles`."""
    reader = DecisionReader()

    def take_decisions(messages: list[Message]) -> None:
        found = reader.decisions(messages)
        if found:
            loop.call_soon_threadsafe(replies.decided, [reply(one) for one in found])
        profiles.take(found, messages[-1].offset() + 1)

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
