"""One payment through the log and back: produce, wait for the engine, answer by the ladder when either is late."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from prometheus_client import Counter, Histogram

from decisions.ladder import APPROVE, in_base_currency
from decisions.outcome import REJECTED
from lakehouse.crypto import Digests
from lakehouse.errors import FraudlakeError
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.single import read, written
from lakehouse.texts import Ints
from serving.fallback import Fallback, Fallen
from serving.following import PARTITION
from serving.log_writer import LogWriter
from serving.problems import Problem
from serving.replies import Answered, Replies, Reply
from serving.schemas import DecisionAnswer, Position
from serving.spooling import Spooling

LATE, AWAY = "decision_late", "log_away"
"""Why a payment was answered without the engine; the first part of an answer's reason, whose second is the rung."""
ACKNOWLEDGE_S = 1.0
"""How long the broker may take to have a record before payments go to the spool: once, then they go there at once."""

REQUESTS = Counter("fraudlake_api_decisions", "Payments answered", ["outcome", "degraded"])
SECONDS = Histogram(
    "fraudlake_api_decision_seconds",
    "From the request to its answer",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 1),
)

WITHOUT_ENGINE = Counter("fraudlake_api_without_engine", "Payments answered without the engine", ["reason", "rung"])

_PAYMENT, _ANSWER = registry().latest("payment"), registry().latest("answer")


@dataclass(frozen=True)
class Payment:
    """A payment that wants its answer: request, record, when it was received, and the monotonic time of that."""

    request: Any
    record: bytes
    received_at: datetime
    began: float

    @property
    def transaction_id(self) -> str:
        """The caller's id."""
        return str(self.request.transaction_id)


@dataclass(frozen=True)
class Path:
    """What a decision needs: the log, the spool for when it is away, the replies, digests, ladder, time limit."""

    writer: LogWriter
    spooling: Spooling
    replies: Replies
    digests: Digests
    fallback: Fallback
    older: Callable[[str], Awaitable[Reply | None]]
    """Asks the store of decisions; None also where it does not answer."""
    timeout_s: float
    host: str
    answering: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    """Transactions that are being answered without the engine."""

    async def decide(self, request: Any, received_at: datetime) -> DecisionAnswer:
        """The answer to a payment.

        Problem 409 for a known id with other content, 503 when neither log nor spool would have it.
        """
        began = time.monotonic()
        record = written(_PAYMENT, {**request.__dict__, "received_at": received_at})
        payment = Payment(request, record, received_at, began)
        await self._others(payment.transaction_id)
        reply = self._known(payment)
        if reply is None:
            reply = await (self._spooled(payment) if self.spooling.away else self._through_log(payment))
        SECONDS.observe(time.monotonic() - began)
        return self._answered(reply)

    async def _others(self, transaction_id: str) -> None:
        """Wait while a transaction is being answered without the engine: that answer will stand over the engine's."""
        while (other := self.answering.get(transaction_id)) is not None:
            await asyncio.wait({other})

    @asynccontextmanager
    async def _alone(self, transaction_id: str) -> AsyncIterator[None]:
        """One answer without the engine at a time: who comes second knows the first one."""
        await self._others(transaction_id)
        mine = self.answering[transaction_id] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del self.answering[transaction_id]
            mine.set_result(None)

    def restore(self) -> None:
        """Know again what an earlier process answered whose payments are still in the spool."""
        for one in self.spooling.spool.each():
            answer = read(_ANSWER, one.answer)
            rung = answer["reason"].partition(":")[2]
            digest = self._content(one.payment)
            self.replies.answered([Answered(answer["transaction_id"], answer["outcome"], rung, digest)])

    def _content(self, record: bytes) -> bytes:
        whole = np.array([PREFIX_BYTES]), np.array([len(record)])
        mark: Ints = _PAYMENT.codec.decode(np.frombuffer(record, np.uint8), *whole, mark="received_at").mark
        return self.digests.content("payment", record[PREFIX_BYTES : int(mark[0, 0])], record[int(mark[1, 0]) :])

    def _known(self, payment: Payment) -> Reply | None:
        """The first answer to a transaction that was decided or answered before."""
        known = self.replies.find(payment.transaction_id)
        if known is None or known.effective is None or known.outcome == REJECTED or not known.content_digest:
            return None
        return self._same(payment, known)

    def _same(self, payment: Payment, reply: Reply) -> Reply:
        """A reply, which must be to this content: Problem 409 where the id was another payment's before."""
        if reply.is_conflict:
            raise _another()
        if not reply.content_digest:
            return self._comparable(payment, reply)
        # Mostly the decision is of this very record, which costs less to see.
        same = reply.payload_digest == self.digests.payload(payment.record)
        if not (same or reply.content_digest == self._content(payment.record)):
            raise _another()
        return reply

    def _comparable(self, payment: Payment, reply: Reply) -> Reply:
        """A reply whose content nobody here knows: no approval of what the ladder would not approve by itself."""
        amount = in_base_currency(self.fallback.reference(), payment.request.amount_minor, payment.request.currency)
        if None not in (amount, reply.amount_base_minor) and amount != reply.amount_base_minor:
            raise _another()
        if reply.effective == APPROVE and self.fallback.answer(payment.request, payment.record).outcome != APPROVE:
            raise Problem(
                409,
                "The first payment of this transaction_id cannot be compared",
                "It was approved, and whether it had this content is not known now. Send a new transaction_id.",
            )
        return reply

    async def _through_log(self, payment: Payment) -> Reply:
        waiting = self.replies.wait(payment.transaction_id, self.digests.payload(payment.record))
        try:
            durable = self.writer.put(payment.record, PARTITION)
            async with asyncio.timeout(self.timeout_s):
                return self._same(payment, await waiting)
        except TimeoutError:
            pass
        finally:
            self.replies.forget(payment.transaction_id, waiting)
        if not await self._acknowledged(durable):
            return await self._spooled(payment)
        return await self._late(payment)

    async def _acknowledged(self, durable: Future[int]) -> bool:
        try:
            await asyncio.wait_for(asyncio.wrap_future(durable), ACKNOWLEDGE_S)
        except (TimeoutError, OSError):
            self.spooling.lost()
            return False
        return True

    async def _before(self, payment: Payment) -> Reply | None:
        """What came of this payment before; the store knows of repeats that memory no longer has.

        The engine makes no second decision, so a new answer of ours would stand over the first one.
        """
        known = self.replies.find(payment.transaction_id) or await self.older(payment.transaction_id)
        return None if known is None or known.effective is None else self._same(payment, known)

    async def _late(self, payment: Payment) -> Reply:
        """Answer without the engine; the answer is an event of its own and the effective outcome from then on."""
        async with self._alone(payment.transaction_id):
            if (before := await self._before(payment)) is not None:
                return before
            fallen, answer = self._fallen(payment, LATE)
            if not await self._acknowledged(self.writer.put(answer, PARTITION)):
                return await self._on_disk(payment, fallen, answer)
            return self._told(payment, fallen)

    async def _spooled(self, payment: Payment) -> Reply:
        """Answer without log and engine: payment and answer go to the spool."""
        async with self._alone(payment.transaction_id):
            if (before := await self._before(payment)) is not None:
                return before
            return await self._on_disk(payment, *self._fallen(payment, AWAY))

    async def _on_disk(self, payment: Payment, fallen: Fallen, answer: bytes) -> Reply:
        try:
            await asyncio.wrap_future(self.spooling.put(payment.record, answer))
        except (FraudlakeError, OSError):
            raise Problem(
                503,
                "The payment could not be written",
                "Nothing was decided. Send it again with the same transaction_id.",
            ) from None
        return self._told(payment, fallen)

    def _fallen(self, payment: Payment, why: str) -> tuple[Fallen, bytes]:
        """What the ladder says of a payment, and the record of that answer."""
        fallen = self.fallback.answer(payment.request, payment.record)
        WITHOUT_ENGINE.labels(why, fallen.rung).inc()
        answer = {
            "answer_id": str(uuid.uuid4()),
            "transaction_id": payment.transaction_id,
            # Of a replayed payment in its own time: every record on the log moves the engine's clock.
            "received_at": payment.received_at + timedelta(seconds=time.monotonic() - payment.began),
            "outcome": fallen.outcome,
            "reason": f"{why}:{fallen.rung}",
            "host": self.host,
        }
        return fallen, written(_ANSWER, answer)

    def _told(self, payment: Payment, fallen: Fallen) -> Reply:
        """The reply, known from now on; the first answer where another request was faster."""
        digest = self._content(payment.record)
        self.replies.answered([Answered(payment.transaction_id, *fallen, digest)])
        found = self.replies.find(payment.transaction_id)
        if found is None:
            return Reply(payment.transaction_id, digest, answered=fallen.outcome, answered_rung=fallen.rung)
        return self._same(payment, found)

    def _answered(self, reply: Reply) -> DecisionAnswer:
        if reply.outcome == REJECTED and reply.answered is None:
            REQUESTS.labels(REJECTED, "false").inc()
            raise Problem(
                422,
                "The payment was rejected",
                f"It breaks: {', '.join(reply.rejected_by)}.",
                transaction_id=reply.transaction_id,
                decision_id=reply.decision_id,
                rejected_by=list(reply.rejected_by),
            )
        made = described(reply)
        REQUESTS.labels(made.outcome, str(made.degraded).lower()).inc()
        return made


def _another() -> Problem:
    return Problem(
        409, "Another payment has this transaction_id", "Send a new transaction_id, or the same content again."
    )


def described(reply: Reply) -> DecisionAnswer:
    """A reply as an answer."""
    place = Position(topic_id=reply.topic_id, partition=reply.partition, offset=reply.offset)
    return DecisionAnswer(
        transaction_id=reply.transaction_id,
        decision_id=reply.decision_id,
        outcome=reply.effective or "",
        decided_outcome=reply.outcome,
        risk=reply.risk,
        score=reply.score,
        challenge=reply.ended,
        degraded=reply.answered is not None,
        rung=reply.answered_rung or reply.rung,
        reason_codes=None if reply.outcome is None else list(reply.reason_codes),
        rules_fired=None if reply.outcome is None else list(reply.rules_fired),
        model_reasons=reply.model_reasons,
        position=None if reply.offset < 0 else place,
    )
