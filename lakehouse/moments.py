"""The clock, times on the command line, and the days they are in."""

import argparse
import time
from datetime import UTC, datetime

DAY_MS = 86_400_000


def now_ms() -> int:
    """The wall clock, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def day_floor(moment_ms: int) -> int:
    """Midnight, UTC, before a moment."""
    return moment_ms // DAY_MS * DAY_MS


def time_of(moment_ms: int) -> datetime:
    """A moment as a time in UTC."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC)


def moment_ms(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time with its zone; a type for argparse."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} is no time with its time zone such as 2026-01-31T12:00:00Z")
    return int(moment.timestamp() * 1000)
