"""Decisions from the store as answers: pages of a card, single ones by id."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from prometheus_client import Histogram
from pydantic import BaseModel, Field

from decisions.outcome import REJECTED
from lakehouse.moments import time_of
from serving.decision_store import DecisionStore, Place, StoredDecision, storable
from serving.decision_writer import FAILURES
from serving.in_time import InTime
from serving.problems import Problem
from serving.replies import Reply
from serving.schemas import DecisionAnswer, Position

T = TypeVar("T")

READERS = 8
"""Threads that read: enough for a store that answers in milliseconds, and all that one which hangs can hold."""

SECONDS = Histogram(
    "fraudlake_decision_store_read_seconds",
    "From the question to the store's answer",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.2, 1),
)


class CardDecision(BaseModel):
    """One decision of a card."""

    decision_id: str
    transaction_id: str
    event_time: datetime | None = Field(description="null where a refused payment claimed what is no date")
    decided_at: datetime | None
    outcome: str = Field(description="the effective outcome")
    decided_outcome: str = Field(description="the engine's; rejected: admission refused the payment")
    challenge: str | None = Field(description="how its challenge ended: approved, declined or expired; null before")
    degraded: bool = Field(description="the API had answered without the engine")
    risk: str | None
    score: float | None
    rung: str
    rejected_by: Sequence[str] = Field(description="rules of admission that refused it")
    merchant_id: str
    amount_base_minor: int | None = Field(description="minor units of the base currency")
    model_digest: str | None
    control_digest: str
    position: Position


class CardDecisions(BaseModel):
    """A page of a card's decisions, newest first."""

    decisions: Sequence[CardDecision]
    next: str | None = Field(description="`before` of the next page; null when there are no older ones")
    behind: int | None = Field(description="records of the log that are not in the store yet; null: nobody knows")


class Reads:
    """Asks the store of decisions, in threads of its own, by ids as it keeps them."""

    def __init__(self, store: DecisionStore, timeout_s: float) -> None:
        self._store = store
        self._in_time = InTime(READERS, "decision reads", timeout_s, "Stored decisions cannot be read", FAILURES)

    async def page(self, card_token: str, limit: int, before: Place | None) -> list[StoredDecision]:
        """A page and one more, which tells whether there is another; Problem 503 when the store does not answer."""
        return await self._asked(lambda: self._store.of_card(storable(card_token), limit + 1, before))

    async def one(self, id: str) -> StoredDecision | None:  # noqa: A002
        """The decision of a transaction, or of a decision's own id."""
        wanted = storable(id)
        return await self._asked(lambda: self._store.by_transaction(wanted) or self._store.by_decision(wanted))

    async def first_answer(self, transaction_id: str) -> Reply | None:
        """What a payment of long ago was answered; None too where the store does not answer, or was late just now.

        While it hangs one payment without an engine in a while waits for it, not each of them.
        """
        if self._in_time.late:
            return None
        try:
            found = await self._asked(lambda: self._store.by_transaction(storable(transaction_id)))
        except Problem:
            return None
        if found is None or found.outcome == REJECTED:
            return None
        return Reply(
            found.transaction_id,
            decision_id=found.decision_id,
            topic_id=found.topic_id,
            partition=found.partition,
            offset=found.offset,
            outcome=found.outcome,
            risk=found.risk,
            score=found.score,
            rung=found.rung,
            answered=found.answered,
            ended=found.ended,
            amount_base_minor=found.amount_base_minor,
        )

    async def _asked(self, work: Callable[[], T]) -> T:
        with SECONDS.time():
            return await self._in_time.asked(work)

    def close(self) -> None:
        """Let go of threads and store; a thread that hangs is not waited for."""
        self._in_time.close()
        self._store.close()


def place(cursor: str | None) -> Place | None:
    """The place of a cursor; Problem 422 for a text that is none."""
    if cursor is None:
        return None
    try:
        return Place.of_cursor(cursor)
    except ValueError:
        raise Problem(422, "before is not a cursor", "Take it from `next` of the page before.") from None


def presented(found: Sequence[StoredDecision], limit: int, behind: int | None) -> CardDecisions:
    """A page, of which one more than `limit` was asked for."""
    shown = found[:limit]
    following = shown[-1].place.cursor() if len(found) > limit else None
    return CardDecisions(decisions=[_card_decision(one) for one in shown], next=following, behind=behind)


def answer_of(found: StoredDecision) -> DecisionAnswer:
    """What its payment was answered."""
    return DecisionAnswer(
        transaction_id=found.transaction_id,
        decision_id=found.decision_id,
        outcome=found.effective,
        decided_outcome=found.outcome,
        risk=found.risk,
        score=found.score,
        challenge=found.ended,
        degraded=found.answered is not None,
        rung=found.rung,
        position=_position(found),
    )


def _card_decision(found: StoredDecision) -> CardDecision:
    return CardDecision(
        decision_id=found.decision_id,
        transaction_id=found.transaction_id,
        event_time=_time(found.event_time),
        decided_at=_time(found.decided_at),
        outcome=found.effective,
        decided_outcome=found.outcome,
        challenge=found.ended,
        degraded=found.answered is not None,
        risk=found.risk,
        score=found.score,
        rung=found.rung,
        rejected_by=found.rejected_by,
        merchant_id=found.merchant_id,
        amount_base_minor=found.amount_base_minor,
        model_digest=found.model_digest,
        control_digest=found.control_digest,
        position=_position(found),
    )


def _position(found: StoredDecision) -> Position:
    return Position(topic_id=found.topic_id, partition=found.partition, offset=found.offset)


def _time(milliseconds: int) -> datetime | None:
    try:
        return time_of(milliseconds)
    except (OverflowError, ValueError, OSError):
        return None
