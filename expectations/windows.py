"""Scores over rolling windows of whole batches."""

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.settings import Quality

GOOD, ALERT, HELD, TOO_FEW = "good", "alert", "held", "too_few"
_HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Tally:
    """How many records of the batch [start, end) a dimension looks at, how many are good, and the engine's clock."""

    start: int
    end: int
    rows: int
    good: int
    clock_start_ms: int | None
    clock_end_ms: int | None


@dataclass(frozen=True)
class Window:
    """Batches that follow each other, counted together; `full` when they are enough to judge by."""

    start: int
    end: int
    rows: int
    good: int
    full: bool

    @property
    def score(self) -> float:
        """Share of good records, 0 to 1."""
        return self.good / self.rows


def window(tallies: Sequence[Tally], settings: Quality) -> Window:
    """The shortest run of batches up to the last one that has enough records or reaches far enough back."""
    last = tallies[-1]
    start, rows, good = last.start, 0, 0
    latest: int | None = None
    for tally in reversed(tallies):
        start, rows, good = tally.start, rows + tally.rows, good + tally.good
        latest = tally.clock_end_ms if latest is None else latest
        long = (
            latest is not None
            and tally.clock_start_ms is not None
            and latest - tally.clock_start_ms >= settings.window_h * _HOUR_MS
        )
        if long or rows >= settings.window_rows:
            return Window(start, last.end, rows, good, True)
    return Window(start, last.end, rows, good, False)


def state(found: Window, settings: Quality) -> str:
    """What a window's score means."""
    if not found.full:
        return TOO_FEW
    if found.score < settings.hold_below:
        return HELD
    return ALERT if found.score < settings.alert_below else GOOD
