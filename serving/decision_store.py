"""Decisions by card: what one row is, and what every store of them promises.

A store is filled from the topics (`decision_writer.py`) and says itself how far it is complete, so whoever writes goes
on where the store stands. The order of a card is the engine's: clock, then place in the log.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, get_args

import orjson

from decisions.effective import effective
from lakehouse.settings import Settings

CONFLICT = "conflict"
"""Refused because the id was taken by other content: such a record never stands for the first one."""
SCHEMA_VERSION = 2
"""Of tables and columns; a store made by another version is refused."""
MAX_PAGE = 100
MOST_TEXT = 256
"""Characters of a text, as many as the API takes."""


@dataclass(frozen=True, order=True)
class Place:
    """Where a decision stands among those of its card: by the engine's clock, then by its payment's source position."""

    engine_clock: int
    offset: int
    partition: int
    topic_id: str

    def cursor(self) -> str:
        """The place as text that callers hand back."""
        return base64.urlsafe_b64encode(orjson.dumps(self.values())).decode().rstrip("=")

    def values(self) -> tuple[int, int, int, str]:
        """Its parts in the order of comparison."""
        return self.engine_clock, self.offset, self.partition, self.topic_id

    @classmethod
    def of_cursor(cls, text: str) -> "Place":
        """The place of a cursor; ValueError for a text that is none."""
        try:
            clock, offset, partition, topic_id = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (binascii.Error, TypeError, ValueError):
            raise ValueError("That is not a cursor.") from None
        numbers = (clock, offset, partition)
        if not (all(type(n) is int and 0 <= n < 2**63 for n in numbers) and partition < 2**31 and _is_id(topic_id)):
            raise ValueError("That is not a cursor.")
        return cls(clock, offset, partition, topic_id)


def _is_id(text: object) -> bool:
    return isinstance(text, str) and text.isascii() and text.isprintable() and len(text) <= 64


@dataclass(frozen=True)
class StoredDecision:
    """One decision; times in milliseconds. Its vector is not here: silver.decisions and features.vectors have it."""

    card_token: str
    engine_clock: int
    offset: int
    partition: int
    topic_id: str
    decision_id: str
    transaction_id: str
    event_time: int
    decided_at: int
    merchant_id: str
    amount_base_minor: int | None
    outcome: str
    risk: str | None
    score: float | None
    rung: str
    rejected_by: tuple[str, ...]
    model_digest: str | None
    control_digest: str
    answered: str | None = None
    """What the API answered without the engine; never of a conflict."""
    ended: str | None = None
    """How its challenge ended: approved, declined or expired; never of a conflict."""

    @property
    def place(self) -> Place:
        """Where it stands among those of its card."""
        return Place(self.engine_clock, self.offset, self.partition, self.topic_id)

    @property
    def is_conflict(self) -> bool:
        """Whether its id belongs to an earlier payment."""
        return CONFLICT in self.rejected_by

    @property
    def effective(self) -> str:
        """The effective outcome."""
        return effective(self.outcome, self.answered, self.ended) or self.outcome


COLUMNS = tuple(field.name for field in fields(StoredDecision) if field.name not in ("answered", "ended"))
"""Of the table of decisions, in the order of `row`."""
TYPES: Mapping[str, type] = {
    **{field.name: (get_args(field.type) or (field.type,))[0] for field in fields(StoredDecision)},
    "rejected_by": str,
}
"""Of a column: str, int or float."""
NULLABLE = frozenset(field.name for field in fields(StoredDecision) if len(get_args(field.type)) > 1) - {"rejected_by"}
KEY = ("card_token", "engine_clock", "offset", "partition", "topic_id")
"""The card and the place: unique, as a source position has one card and one clock."""


def stored(found: Mapping[str, Any]) -> StoredDecision:
    """The row of a decision as its reader sees it.

    Refused payments claim what they like. No text is longer than a database can index, and none has the character that
    PostgreSQL does not take: one record must not be in the way of all others.
    """
    values = {name: storable(found[name]) for name in COLUMNS}
    return StoredDecision(**{**values, "rejected_by": tuple(found["rejected_by"])})


def storable(value: Any) -> Any:
    """A value as every store can take it."""
    return value[:MOST_TEXT].replace("\0", "\ufffd") if isinstance(value, str) else value


def row(decision: StoredDecision) -> list[Any]:
    """The values of COLUMNS."""
    values = [getattr(decision, name) for name in COLUMNS]
    # Every name between commas, so that a database can ask for one of them.
    values[_REJECTED] = "".join(f",{name}" for name in decision.rejected_by) + ","
    return values


def unrow(values: Sequence[Any]) -> StoredDecision:
    """The decision of a row; two more values are what the API answered its transaction, and how its challenge ended."""
    given = dict(zip((*COLUMNS, "answered", "ended"), values, strict=True))
    names = tuple(name for name in given["rejected_by"].split(",") if name)
    later = {"answered": None, "ended": None} if CONFLICT in names else {}
    return StoredDecision(**{**given, "rejected_by": names, **later})


_REJECTED = COLUMNS.index("rejected_by")


ANSWER, END = "answer", "outcome"
"""Kinds of records that come after a decision, or in its place."""


@dataclass(frozen=True)
class Answer:
    """What the API answered a transaction without the engine, or how its challenge ended, by position on `events`."""

    transaction_id: str
    kind: str
    outcome: str
    topic_id: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Progress:
    """All records [first, next) of a partition are in the store, as far as they belong there.

    `epoch` and `decided` are the fence of topic `decisions` at `next`: who was in office, and which source offset came
    last. Without them a reader that begins there could take a fenced engine for the one in office.
    """

    topic_id: str
    partition: int
    first: int
    next: int
    epoch: int = -1
    decided: int = -1


class DecisionStore(Protocol):
    """The promises of a store, which all threads may share; each method raises StoreUnavailable.

    A store that is away is connected to when it is next asked for something; making one asks for nothing.
    """

    def write(self, decisions: Sequence[StoredDecision], answers: Sequence[Answer], progress: Progress) -> None:
        """Take decisions and answers in, and note how far that is; all is durable when this returns.

        What is there already, by source position, is not doubled. Of the answers to a transaction, and of its ends,
        the first on the log stays, whether it comes before its decision or after. Progress never goes back.
        """

    def progress(self, topic_id: str, partition: int) -> Progress | None:
        """How far the store is complete; None when nothing of that topic was written."""

    def of_card(self, card_token: str, limit: int, before: Place | None = None) -> list[StoredDecision]:
        """At most `limit` decisions of a card, newest first, all before a place."""

    def by_transaction(self, transaction_id: str) -> StoredDecision | None:
        """The last decision of a transaction that is no conflict; a rejected one only where there is no other."""

    def by_decision(self, decision_id: str) -> StoredDecision | None:
        """The decision of an id."""

    def close(self) -> None:
        """Let go of what the store holds."""


def namespace(settings: Settings) -> str:
    """Of a world's tables in a database: a name by its topic prefix, which is made safe and told apart by a digest."""
    prefix = settings.kafka.topic_prefix
    if not prefix:
        return "fraudlake"
    plain = re.sub("[^a-z0-9]+", "_", prefix.lower()).strip("_")[:24]
    return f"fraudlake_{plain}_{hashlib.sha256(prefix.encode()).hexdigest()[:8]}"
