"""Accepted payments with everything that a verdict on them can see, whether the log or the lake tells of them."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from decisions.forests import Matrix
from lakehouse.codec import Batch
from lakehouse.crypto import Tokens
from lakehouse.texts import Flags, Ints, Texts


class People(Protocol):
    """Whose records they are."""

    @property
    def has(self) -> Mapping[str, Flags]:
        """By kind, which records name somebody."""

    def texts(self, kind: str, tokens: Tokens) -> Texts:
        """The tokens under a key version, empty for nobody."""


class Accepted(NamedTuple):
    """A row a payment, in the order of the log."""

    batch: Batch
    amount_base_minor: Ints
    clock_ms: Ints
    vectors: Matrix
    """(payments, features)."""
    capped: Flags
    """Who named somebody that found no place below the cap of keys."""
    people: People
    rows: Ints
    """Where the payments stand in `people`."""

    def taken(self, at: Ints) -> "Accepted":
        """Some of them."""
        return Accepted(
            self.batch.take(at),
            self.amount_base_minor[at],
            self.clock_ms[at],
            self.vectors[at],
            self.capped[at],
            self.people,
            self.rows[at],
        )
