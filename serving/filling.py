"""Filling a store from topics, behind everybody's back.

The log is the queue: a thread of its own reads from where the store says it stands, and hands over what it found before
it reads on. A store that is away is waited for with nothing in memory; when it is back it is asked again where it
stands, so what came meanwhile, or was lost with the store, is read again.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from confluent_kafka import Message
from prometheus_client import Counter, Gauge

from lakehouse import broker, topics
from lakehouse.broker import Reader
from lakehouse.errors import FraudlakeError
from lakehouse.fencing import Fence
from lakehouse.log import logger
from lakehouse.settings import Settings
from serving.decision_store import Progress
from serving.following import PARTITION

AGAIN_S = 1.0
"""How often a store that is away is asked whether it is back, and how often the topic's end is asked for."""


class Reading(Protocol):
    """What becomes of a topic's records, from one place on."""

    @property
    def fence(self) -> Fence | None:
        """The fence after what was found last; None for a topic without engines."""

    def found(self, messages: list[Message]) -> Any:
        """What the store is to have of some records."""

    def write(self, found: Any, progress: Progress) -> None:
        """Let the store have it and note how far that is, together."""


@dataclass(frozen=True)
class Part:
    """A topic that is read: at most so many records together, the first of which is waited for so long."""

    topic: str
    at_once: int
    wait_s: float
    begun: Callable[[Progress], Reading]


@dataclass(frozen=True)
class Told:
    """What a store holds, for the log, and the metrics of filling it."""

    rows: str
    failures: Counter
    gaps: Counter
    lag: Gauge


def fence_of(progress: Progress) -> Fence | None:
    """The fence of topic `decisions` where a store stands; None where nobody knows who is in office."""
    return Fence(progress.epoch, progress.decided) if progress.epoch >= 0 else None


@dataclass
class _Source:
    """A partition that is read from where the store stands."""

    reader: Reader
    part: Part
    reading: Reading
    progress: Progress

    def moved(self) -> bool:
        """Whether there was something, which the store has now."""
        messages = broker.take(self.reader, self.part.at_once, self.part.wait_s)
        if self.reader.next == self.progress.next:
            return False
        found, fence = self.reading.found(messages), self.reading.fence or Fence()
        progress = replace(self.progress, next=self.reader.next, epoch=fence.epoch, decided=fence.decided)
        self.reading.write(found, progress)
        self.progress = progress
        return True


class Filling:
    """A thread between topics and a store; `progress` asks the store how far it is complete."""

    def __init__(
        self,
        settings: Settings,
        progress: Callable[[str, int], Progress | None],
        parts: Sequence[Part],
        told: Told,
    ) -> None:
        self._settings, self._progress, self._parts, self._told = settings, progress, parts, told
        self._ends = [broker.End(settings, topics.topic_name(settings, part.topic), PARTITION) for part in parts]
        self._asked_s = 0.0
        self._next: list[int] = []
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"store of {told.rows}", daemon=True)
        self.behind: int | None = None
        """Records of all topics that were not looked at yet; None while nobody knows."""

    def start(self) -> None:
        """Begin where the store stands."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is being written."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        log = logger("filling")
        while not self._stop.is_set():
            sources: list[_Source] = []
            try:
                self._open(sources)
                while not self._stop.is_set():
                    for source in sources:
                        source.moved()
                    self._next = [source.progress.next for source in sources]
                    self._look()
                    if self._failing:
                        log.info(f"{self._told.rows} are stored again")
                        self._failing = False
            except Exception as error:
                self._told.failures.labels("write").inc()
                if not self._failing:
                    known = isinstance(error, FraudlakeError)
                    why = str(error) if known else f"{type(error).__name__}: {error}"
                    log.warning(f"{self._told.rows} are not stored, deciding goes on", reason=why)
                self._failing = True
            finally:
                for source in sources:
                    source.reader.close()
            self._look()
            self._stop.wait(AGAIN_S)

    def _open(self, sources: list[_Source]) -> None:
        """Begin to read every topic where the store stands; what is opened is added one by one."""
        for part in self._parts:
            began = self._begin(part.topic)
            name = topics.topic_name(self._settings, part.topic)
            reader = broker.consumer(self._settings, name, PARTITION, began.next)
            sources.append(_Source(reader, part, part.begun(began), began))
        self._next = [source.progress.next for source in sources]

    def _begin(self, topic: str) -> Progress:
        """Where the store stands; at the first record that is there when it has nothing, or too little."""
        identity = topics.identify(self._settings, topic)
        low, _ = broker.watermarks(self._settings, identity.name, PARTITION)
        held = self._progress(identity.topic_id, PARTITION)
        if held is None:
            return Progress(identity.topic_id, PARTITION, low, low)
        if held.next >= low:
            return held
        self._told.gaps.inc()
        logger("filling").error(
            f"records were deleted before their {self._told.rows} were stored; older decisions are in gold.decisions",
            topic=identity.name,
            first=held.next,
            until=low,
        )
        return Progress(identity.topic_id, PARTITION, low, low)

    def _look(self) -> None:
        """Ask now and then how much the store lacks."""
        if not self._next or time.monotonic() < self._asked_s + AGAIN_S:
            return
        ends = [end.offset(AGAIN_S) for end in self._ends]
        self._asked_s = time.monotonic()
        lags = [None if end is None else max(0, end - at) for end, at in zip(ends, self._next, strict=True)]
        self.behind = None if None in lags else sum(lag or 0 for lag in lags)
        for part, lag in zip(self._parts, lags, strict=True):
            self._told.lag.labels(part.topic).set(float("nan") if lag is None else lag)
