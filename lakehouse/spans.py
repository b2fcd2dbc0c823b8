"""Ranges of source offsets."""

from collections.abc import Iterable
from dataclasses import dataclass

Ranges = Iterable[tuple[int, int]]
"""Each [start, end)."""


@dataclass(frozen=True)
class Span:
    """Source offsets [start, end) of one partition."""

    topic_id: str
    partition: int
    start: int
    end: int

    @property
    def key(self) -> str:
        """The partition's name in commit metadata."""
        return f"{self.topic_id}/{self.partition}"


def holes(held: Ranges, start: int, end: int) -> list[tuple[int, int]]:
    """What of [start, end) is in none of some ranges."""
    out, at = [], start
    for first, after in sorted(held):
        if at < min(first, end):
            out.append((at, min(first, end)))
        at = max(at, after)
    return [*out, (at, end)] if at < end else out
