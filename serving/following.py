"""The two readers of a replica: decisions, and the answers of all replicas; each a thread that feeds the replies."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import Message
from prometheus_client import Counter

from decisions.reason_codes import SENTENCES
from expectations.decoded import broken_rules, decode
from lakehouse import broker, topics
from lakehouse.crypto import Digests
from lakehouse.errors import FraudlakeError
from lakehouse.fencing import Fence
from lakehouse.log import logger
from lakehouse.registry import PREFIX_BYTES, Schema, registry
from lakehouse.settings import Settings
from lakehouse.single import read
from lakehouse.texts import Texts
from serving.decision_store import ANSWER, END
from serving.replies import Answered, Reply
from serving.schemas import ModelReasons, Reason

_TOLD = {ANSWER: "outcome", END: "result"}
"""The field of a kind of record that tells the outcome."""

PARTITION = 0
BATCH = 512
WAIT_S = 0.2
EVENTS_PER_PAYMENT = 3
"""A payment, its authorisation and now and then a label: how far back answers of recent payments can lie."""

UNHEARD = Counter(
    "fraudlake_api_unheard_records", "Answers and ends of challenges that admission refuses, by each reader", ["kind"]
)

_START, _REASONS = (registry().latest(kind) for kind in ("engine_start", "reasons"))
_ADDED, _AS_THEY_ARE = "added_", ("decision_id", "features", "expected_score")
_ANSWERS = {schema.prefix: (schema, kind, told) for kind, told in _TOLD.items() for schema in registry().versions(kind)}
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
        tuple(found.get("reason_codes", ())),
        tuple(found.get("rules_fired", ())),
        payload_digest=found["payload_digest"],
    )


def model_reasons(values: Iterable[bytes]) -> list[tuple[str, ModelReasons]]:
    """(transaction id, reasons) of the records among some of topic `decisions` that say them.

    They need no fence: reasons of a decision are the same whoever computes them.
    """
    out = []
    for found in (read(_REASONS, value) for value in values if value[:PREFIX_BYTES] == _REASONS.prefix):
        codes = [Reason(code=code, sentence=SENTENCES.get(code, code)) for code in found["codes"]]
        added = {name.removeprefix(_ADDED): share for name, share in found.items() if name.startswith(_ADDED)}
        reasons = ModelReasons(codes=codes, added=added, **{name: found[name] for name in _AS_THEY_ARE})
        out.append((found["transaction_id"], reasons))
    return out


class Word(NamedTuple):
    """What came after a decision: an answer of the API, or how a challenge ended."""

    offset: int
    transaction_id: str
    kind: str
    outcome: str
    reason: str = ""


def answer_records(messages: list[Message], digests: Digests) -> list[Word]:
    """Answers and ends of challenges among records of topic `events`, in order.

    Anybody who may write there can write anything: what admission refuses is not heard, and counted.
    """
    some: dict[bytes, list[Message]] = {}
    for message in messages:
        if (prefix := (message.value() or b"")[:PREFIX_BYTES]) in _ANSWERS:
            some.setdefault(prefix, []).append(message)
    return sorted(word for prefix, ours in some.items() for word in _words(*_ANSWERS[prefix], ours, digests))


def _words(schema: Schema, kind: str, told: str, messages: list[Message], digests: Digests) -> Iterator[Word]:
    texts = Texts.of([message.value() or b"" for message in messages])
    broker_ms = np.array([message.timestamp()[1] for message in messages], np.int64)
    ends = texts.start + texts.length
    decoded = decode(schema, texts.buffer.tobytes(), texts.start, ends, broker_ms, digests)

    def field(name: str, row: int) -> str:
        return decoded.batch.texts(name).get(row).decode()

    for row, (message, broken) in enumerate(zip(messages, broken_rules(decoded), strict=True)):
        if broken:
            UNHEARD.labels(kind).inc()
            continue
        reason = field("reason", row) if kind == ANSWER else ""
        yield Word(message.offset() or 0, field("transaction_id", row), kind, field(told, row), reason)


def answered(words: Sequence[Word]) -> list[Answered]:
    """The answers of the API among them."""
    return [Answered(w.transaction_id, w.outcome, w.reason.partition(":")[2]) for w in words if w.kind == ANSWER]


def ended(words: Sequence[Word]) -> list[tuple[str, str]]:
    """(transaction id, result) of the ends of challenges among them."""
    return [(w.transaction_id, w.outcome) for w in words if w.kind == END]


class Follower:
    """A thread that reads a topic from some way back and hands what it finds to the event loop."""

    def __init__(
        self, settings: Settings, topic: str, back: int, take: Callable[[list[Message], int], None], low_latency: bool
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
                if reader.next != self.position:
                    self._take(messages, reader.next)
                    self.position = reader.next
        except Exception as error:
            self.failed = error.what if isinstance(error, FraudlakeError) else f"{type(error).__name__}: {error}"
            log.error("a reader ended; this replica is not ready", reason=self.failed)
        finally:
            reader.close()


def followers(
    settings: Settings,
    decided: Callable[[list[dict[str, Any]], list[tuple[str, ModelReasons]], int], None],
    came: Callable[[list[Message]], None],
) -> list[Follower]:
    """The two readers of a replica, not started: first that of decisions.

    `decided` takes what counts, models' reasons and the position behind both, `came` the records of `events`, each in
    its own thread.
    """
    reader = DecisionReader()

    def take_decisions(messages: list[Message], position: int) -> None:
        why = model_reasons(message.value() or b"" for message in messages)
        decided(reader.decisions(messages), why, position)

    def take_events(messages: list[Message], _: int) -> None:
        if messages:
            came(messages)

    back = settings.api.index_records
    return [
        Follower(settings, topics.DECISIONS, back, take_decisions, low_latency=True),
        # Nobody waits for the answers of other replicas: they may come in larger pieces.
        Follower(settings, topics.EVENTS, back * EVENTS_PER_PAYMENT, take_events, low_latency=False),
    ]
