"""The store of decisions is filled from two topics: decisions as they are made, and what came after them.

Of topic `events`: what the API answered without the engine, and how challenges ended.
"""

from collections.abc import Sequence

from confluent_kafka import Message
from prometheus_client import Counter, Gauge

from lakehouse import keys, topics
from lakehouse.crypto import Digests
from lakehouse.fencing import Fence
from lakehouse.settings import Settings
from serving.decision_store import Answer, DecisionStore, Progress, StoredDecision, storable, stored
from serving.filling import Filling, Part, Told, fence_of
from serving.following import DecisionReader, answer_records

WAIT_S = 0.1
"""How long the first record of `decisions` is waited for: as late a decision may be in the store."""
EVENTS_AT_ONCE = 5_000
"""Records of `events`, of which answers are few; all others are passed by without being decoded."""

WRITTEN = Counter("fraudlake_decisions_stored", "Decisions handed to the store")
FAILURES = Counter("fraudlake_decision_store_failures", "Calls that the decision store did not answer", ["call"])
GAPS = Counter("fraudlake_decision_store_gaps", "Times that retention took records before they were in the store")
LAG = Gauge("fraudlake_decision_store_lag", "Records of a topic that the store is behind", ["topic"])


class _Decisions:
    """Decisions through the fence."""

    def __init__(self, store: DecisionStore, began: Progress) -> None:
        self._store, self._reader = store, DecisionReader(fence_of(began))

    @property
    def fence(self) -> Fence | None:
        return self._reader.fence

    def found(self, messages: list[Message]) -> Sequence[StoredDecision]:
        return [stored(one) for one in self._reader.decisions(messages)]

    def write(self, found: Sequence[StoredDecision], progress: Progress) -> None:
        self._store.write(found, [], progress)
        WRITTEN.inc(len(found))


class _Answers:
    """What the API answered, and how challenges ended."""

    fence = None

    def __init__(self, store: DecisionStore, digests: Digests, began: Progress) -> None:
        self._store, self._digests, self._place = store, digests, began

    def found(self, messages: list[Message]) -> Sequence[Answer]:
        place = self._place
        return [
            Answer(storable(word.transaction_id), word.kind, word.outcome, place.topic_id, place.partition, word.offset)
            for word in answer_records(messages, self._digests)
        ]

    def write(self, found: Sequence[Answer], progress: Progress) -> None:
        self._store.write([], found, progress)


class DecisionWriter(Filling):
    """A thread between the topics and a store."""

    def __init__(self, settings: Settings, store: DecisionStore) -> None:
        digests = Digests(keys.source(settings).keyring())
        parts = (
            Part(topics.DECISIONS, settings.decision_store.batch_records, WAIT_S, lambda at: _Decisions(store, at)),
            Part(topics.EVENTS, EVENTS_AT_ONCE, 0.0, lambda at: _Answers(store, digests, at)),
        )
        super().__init__(settings, store.progress, parts, Told("decisions", FAILURES, GAPS, LAG))
