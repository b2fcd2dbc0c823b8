"""What was decided in the last minute and hour, as far as this replica has read it."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, Field

from decisions.outcome import OUTCOMES, REJECTED
from lakehouse.topics import DECISIONS, EVENTS

HOUR_S, MINUTE_S = 3600, 60
TOPICS = (DECISIONS, EVENTS)
DEGRADED = "degraded"
"""Counted like an outcome: answers of any replica without the engine."""


class Window(BaseModel):
    """Counts over the last so many seconds."""

    seconds: int
    covered_s: float = Field(description="of those seconds, how many this replica has read")
    decided: int = Field(description="by the engine, refused ones included")
    per_s: float = Field(description="decided over covered_s")
    outcomes: Mapping[str, int] = Field(description="the engine's, by outcome")
    degraded: int = Field(description="answered by an API, this one or another, without the engine")


class Stats(BaseModel):
    """Figures of one replica, from topic `decisions` and the answers on topic `events`; all replicas read the same."""

    host: str
    caught_up: bool = Field(description="both topics have been read to where they ended when this replica started")
    in_spool: int = Field(description="payments that this replica keeps until the log takes them; not counted below")
    last_minute: Window
    last_hour: Window


class Seen:
    """Counts by second over the last hour; lives on the event loop. Times are those of decisions, and of the broker."""

    def __init__(self) -> None:
        self._seconds: dict[int, Counter[str]] = {}
        self._since_s: dict[str, float] = {}

    def begin(self, topic: str, since_s: float) -> None:
        """Everything of a topic from a moment on is counted; the first word stands."""
        self._since_s.setdefault(topic, since_s)

    def count(self, found: Sequence[tuple[int, str]]) -> None:
        """Count (milliseconds, outcome or DEGRADED)."""
        for at_ms, name in found:
            self._seconds.setdefault(at_ms // 1000, Counter())[name] += 1
        if len(self._seconds) > 2 * HOUR_S:
            oldest = max(self._seconds) - HOUR_S
            self._seconds = {at: counts for at, counts in self._seconds.items() if at >= oldest}

    def window(self, seconds: int, now_s: float) -> Window:
        """The counts of the last `seconds`."""
        total: Counter[str] = Counter()
        for at, counts in self._seconds.items():
            if now_s - seconds < at <= now_s:
                total.update(counts)
        since_s = max(self._since_s.values()) if self._since_s.keys() >= set(TOPICS) else now_s
        covered = min(float(seconds), max(0.0, now_s - since_s))
        outcomes = {name: total[name] for name in (*OUTCOMES, REJECTED)}
        decided = sum(outcomes.values())
        return Window(
            seconds=seconds,
            covered_s=round(covered, 3),
            decided=decided,
            per_s=round(decided / covered, 3) if covered else 0.0,
            outcomes=outcomes,
            degraded=total[DEGRADED],
        )
