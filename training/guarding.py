"""The guard rails of a model that was put into force, or decides an arm: what it does beside what it did in shadow.

Errors and latency are of the last seconds alone, or, where payments are few, of the fewest that are judged. Scores and
approvals are compared with those that the same model gave in shadow, or, where it never was, approvals with those of
the model before it: in a split of the other arm.
"""

import time
from collections import deque
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from decisions.ladder import RUNGS, STATE_CAPPED, WHOLE
from lakehouse import broker, topics
from lakehouse.experiment_settings import Guard
from lakehouse.fencing import Fence
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.settings import Settings
from lakehouse.single import read
from training.bins import Bins, psi

PARTITION = 0
LOOKED_BACK = 5_000
"""Records of topics `shadow` and `decisions` that say what is usual."""
_LATENCY_SHARE = 95
_NEWEST = 20
"""Decisions that say whether a split is on: every accepted payment names its arm."""
_STEP = 200
"""Records that they are looked for in at a time: others, such as reasons, lie between them."""
Doubles = npt.NDArray[np.float64]


class Decided(NamedTuple):
    """What the guard looks at of a payment."""

    at_s: float
    model: str
    whole: bool
    """On the ladder's highest rung."""
    approved: bool
    score: float | None
    latency_ms: float


class Usual(NamedTuple):
    """What a model did before it was in force, or, without scores, what the one before it did."""

    scores: Doubles
    approved: Doubles


def broken(window: list[Decided], usual: Usual, of: Guard) -> list[str]:
    """The guard rails that are broken, each with what was found and what is allowed; none before there is enough."""
    if len(window) < of.least_payments:
        return []
    found = []
    errors = float(np.mean([not one.whole for one in window]))
    if errors > of.error_rate:
        found.append(f"error rate {errors:.1%}, allowed {of.error_rate:.1%}")
    latency = float(np.percentile([one.latency_ms for one in window], _LATENCY_SHARE))
    if latency > of.latency_ms:
        found.append(f"latency {latency:.0f} ms at {_LATENCY_SHARE} %, allowed {of.latency_ms:g} ms")
    if len(usual.approved) >= of.least_payments:
        change = float(np.mean([one.approved for one in window]) - usual.approved.mean())
        if abs(change) > of.approval_shift:
            found.append(f"approval rate changed by {change:+.1%}, allowed {of.approval_shift:.1%}")
    scores = np.array([one.score for one in window if one.score is not None])
    if min(len(scores), len(usual.scores)) >= of.least_payments:
        bins = Bins.of(usual.scores)
        moved = psi(bins.counts(scores), bins.counts(usual.scores))
        if moved > of.score_shift:
            found.append(f"score shift {moved:.2f}, allowed {of.score_shift:g}")
    return found


def split_seen(settings: Settings) -> bool:
    """Whether the newest decisions are of a traffic split."""
    schema, name = registry().latest("decision"), topics.topic_name(settings, topics.DECISIONS)
    low, start = broker.watermarks(settings, name, PARTITION)
    low, found = max(low, start - LOOKED_BACK), list[bytes]()
    while low < start and len(found) < _NEWEST:
        end, start = start, max(low, start - _STEP)
        values = [message.value() or b"" for message in broker.read_range(settings, name, PARTITION, start, end)]
        found = [one for one in values if one[:PREFIX_BYTES] == schema.prefix] + found
    return any(read(schema, one)["arm"] is not None for one in found[-_NEWEST:])


class Watch:
    """Follows topic `decisions` behind a promotion."""

    def __init__(self, settings: Settings, digest: str) -> None:
        self._settings, self._of = settings, settings.guard
        self.digest = digest
        self.displaced = False
        """Whether another model decides after this one did: it may no longer be in force."""
        self._schema = registry().latest("decision")
        self._start = registry().latest("engine_start").prefix
        name = topics.topic_name(settings, topics.DECISIONS)
        low, high = broker.watermarks(settings, name, PARTITION)
        self._reader = broker.consumer(settings, name, PARTITION, max(low, high - LOOKED_BACK))
        self._fence: Fence | None = None
        self._window: deque[Decided] = deque()
        self._since = time.time() - self._of.window_s
        """What was decided before says nothing of this watch."""
        self.judged = False
        """Whether there ever were payments enough."""
        self._before: deque[bool] = deque(maxlen=LOOKED_BACK)
        self._scores, self._approved = self._in_shadow()

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()

    def _in_shadow(self) -> tuple[Doubles, Doubles]:
        schema, settings = registry().latest("shadow"), self._settings
        name = topics.topic_name(settings, topics.SHADOW)
        low, high = broker.watermarks(settings, name, PARTITION)
        messages = broker.read_range(settings, name, PARTITION, max(low, high - LOOKED_BACK), high)
        said = [read(schema, one.value()) for one in messages if (one.value() or b"")[:PREFIX_BYTES] == schema.prefix]
        mine = [one for one in said if one["model_digest"] == self.digest]
        scores = np.array([one["score"] for one in mine if one["score"] is not None])
        return scores, np.array([one["outcome"] == "approve" for one in mine], np.float64)

    def look(self, wait_s: float) -> list[str]:
        """Take what is there, waiting for the first record, and say which guard rails are broken."""
        while messages := broker.take(self._reader, LOOKED_BACK, wait_s):
            wait_s = 0.0
            for message in messages:
                self._take(message.offset(), message.value() or b"")
        # Where payments are few, the newest ones are looked at for longer.
        oldest, enough = time.time() - self._of.window_s, self._of.least_payments
        while self._window and self._window[0].at_s < (oldest if len(self._window) > enough else self._since):
            self._window.popleft()
        self.judged |= len(self._window) >= enough
        approved = self._approved if len(self._approved) else np.array(self._before, np.float64)
        return broken(list(self._window), Usual(self._scores, approved), self._of)

    def _take(self, offset: int, value: bytes) -> None:
        if value[:PREFIX_BYTES] == self._start:
            self._fence = self._fence or Fence()
            self._fence.start(offset)
        elif value[:PREFIX_BYTES] == self._schema.prefix:
            record: dict[str, Any] = read(self._schema, value)
            # Whoever begins in the middle takes the engine that is found there as the one in office.
            self._fence = self._fence or Fence(record["epoch"])
            if not self._fence.counts(record["epoch"], record["offset"]) or record["model_digest"] is None:
                return
            approved = record["outcome"] == "approve"
            if record["model_digest"] != self.digest:
                self._before.append(approved)
                # In a split each arm's model decides after the other's.
                self.displaced = bool(self._window) and record["arm"] is None
                return
            self.displaced = False
            whole = record["rung"] in (RUNGS[WHOLE], STATE_CAPPED)
            one = (self.digest, whole, approved, record["score"], record["latency_us"] / 1000)
            self._window.append(Decided(record["decided_at"] / 1000, *one))
