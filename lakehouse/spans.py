"""Ranges of source offsets."""

from dataclasses import dataclass


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
