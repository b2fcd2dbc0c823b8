"""Filling the store of decisions from the topics, behind the API's back.

The log is the queue: a thread of its own reads `decisions` and `events` from where the store says it stands, and hands
over what it found before it reads on. A store that is away is waited for with nothing in memory; when it is back it is
asked again where it stands, so what came meanwhile, or was lost with the store, is read again.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from confluent_kafka import Consumer, Message
from prometheus_client import Counter, Gauge

from lakehouse import broker, topics
from lakehouse.errors import FraudlakeError
from lakehouse.fencing import Fence
from lakehouse.log import logger
from lakehouse.settings import Settings
from serving.decision_store import Answer, DecisionStore, Progress, StoredDecision, stored
from serving.following import PARTITION, DecisionReader, answer_records

WAIT_S = 0.1
"""How long the first record of `decisions` is waited for: as late a decision may be in the store."""
AGAIN_S = 1.0
"""How often a store that is away is asked whether it is back, and how often the topic's end is asked for."""
EVENTS_AT_ONCE = 5_000
"""Records of `events`, of which answers are few; all others are passed by without being decoded."""

WRITTEN = Counter("fraudlake_decisions_stored", "Decisions handed to the store")
FAILURES = Counter("fraudlake_decision_store_failures", "Calls that the decision store did not answer", ["call"])
GAPS = Counter("fraudlake_decision_store_gaps", "Times that retention took records before they were in the store")
LAG = Gauge("fraudlake_decision_store_lag", "Records of a topic that the store is behind", ["topic"])

Found = tuple[Sequence[StoredDecision], Sequence[Answer]]


@dataclass
class Source:
    """A partition that is read from where the store stands."""

    reader: Consumer
    progress: Progress
    at_once: int
    wait_s: float
    found: Callable[[list[Message]], Found]
    fence: Callable[[], Fence | None]

    def next(self) -> tuple[Found, Progress] | None:
        """What comes next, and how far the store is complete with it; None when nothing is there."""
        messages = broker.take(self.reader, self.at_once, self.wait_s)
        if not messages:
            return None
        found, fence = self.found(messages), self.fence() or Fence()
        after = messages[-1].offset() + 1
        return found, replace(self.progress, next=after, epoch=fence.epoch, decided=fence.decided)


class DecisionWriter:
    """A thread between the topics and a store."""

    def __init__(self, settings: Settings, store: DecisionStore) -> None:
        self._settings, self._store = settings, store
        self._ends = [
            broker.End(settings, topics.topic_name(settings, topic), PARTITION)
            for topic in (topics.DECISIONS, topics.EVENTS)
        ]
        self._asked_s = 0.0
        self._next: list[int] = []
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decision store", daemon=True)
        self.behind: int | None = None
        """Records of both topics that were not looked at yet; None while nobody knows."""

    def start(self) -> None:
        """Begin where the store stands."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is being written."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        log = logger("api")
        while not self._stop.is_set():
            sources: list[Source] = []
            try:
                self._open(sources)
                while not self._stop.is_set():
                    self._write(sources)
                    if self._failing:
                        log.info("decisions are stored again")
                        self._failing = False
            except Exception as error:
                FAILURES.labels("write").inc()
                if not self._failing:
                    known = isinstance(error, FraudlakeError)
                    why = str(error) if known else f"{type(error).__name__}: {error}"
                    log.warning("decisions are not stored, deciding goes on", reason=why)
                self._failing = True
            finally:
                for source in sources:
                    source.reader.close()
            self._look()
            self._stop.wait(AGAIN_S)

    def _open(self, sources: list[Source]) -> None:
        """Begin to read both topics where the store stands; what is opened is added one by one."""
        decisions = self._begin(topics.DECISIONS)
        fence = Fence(decisions.epoch, decisions.decided) if decisions.epoch >= 0 else None
        reader = DecisionReader(fence)
        sources.append(
            Source(
                self._consumer(topics.DECISIONS, decisions),
                decisions,
                self._settings.decision_store.batch_records,
                WAIT_S,
                lambda messages: ([stored(one) for one in reader.decisions(messages)], []),
                lambda: reader.fence,
            )
        )
        events = self._begin(topics.EVENTS)
        sources.append(
            Source(
                self._consumer(topics.EVENTS, events),
                events,
                EVENTS_AT_ONCE,
                0.0,
                lambda messages: ([], _answers(events, messages)),
                lambda: None,
            )
        )
        self._next = [decisions.next, events.next]

    def _begin(self, topic: str) -> Progress:
        """Where the store stands; at the first record that is there when it has nothing, or too little."""
        identity = topics.identify(self._settings, topic)
        low, _ = broker.watermarks(self._settings, identity.name, PARTITION)
        held = self._store.progress(identity.topic_id, PARTITION)
        if held is None:
            return Progress(identity.topic_id, PARTITION, low, low)
        if held.next >= low:
            return held
        GAPS.inc()
        logger("api").error(
            "records were deleted before they were stored; older decisions are in gold.decisions",
            topic=identity.name,
            first=held.next,
            until=low,
        )
        return Progress(identity.topic_id, PARTITION, low, low)

    def _consumer(self, topic: str, progress: Progress) -> Consumer:
        name = topics.topic_name(self._settings, topic)
        return broker.consumer(self._settings, name, PARTITION, progress.next)

    def _write(self, sources: list[Source]) -> None:
        for source in sources:
            found = source.next()
            if found is not None:
                (decisions, answers), progress = found
                self._store.write(decisions, answers, progress)
                source.progress = progress
                WRITTEN.inc(len(decisions))
        self._next = [source.progress.next for source in sources]
        self._look()

    def _look(self) -> None:
        """Ask now and then how much the store lacks."""
        if not self._next or time.monotonic() < self._asked_s + AGAIN_S:
            return
        ends = [end.offset(AGAIN_S) for end in self._ends]
        self._asked_s = time.monotonic()
        lags = [None if end is None else max(0, end - at) for end, at in zip(ends, self._next, strict=True)]
        self.behind = None if None in lags else sum(lag or 0 for lag in lags)
        for topic, lag in zip((topics.DECISIONS, topics.EVENTS), lags, strict=True):
            LAG.labels(topic).set(float("nan") if lag is None else lag)


def _answers(place: Progress, messages: list[Message]) -> list[Answer]:
    return [
        Answer(found["transaction_id"], found["outcome"], place.topic_id, place.partition, offset)
        for offset, found in answer_records(messages)
    ]
