"""One payment through the log and back: produce, wait for the engine, answer without it when it is late."""

import asyncio
import time
import uuid
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from prometheus_client import Counter, Histogram

from decisions.outcome import REJECTED
from lakehouse.crypto import Digests
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.single import written
from lakehouse.texts import Ints
from serving.log_writer import LogWriter
from serving.problems import Problem
from serving.replies import Replies, Reply
from serving.schemas import DecisionAnswer, Position

LATE_OUTCOME = "review"
LATE_RUNG = "late"
"""What a payment is answered whose decision did not come in time: somebody looks at it. Never approved by an error."""
ACKNOWLEDGE_S = 2.0
"""How long the broker may take to have the payment before the caller is told that nothing was decided."""

REQUESTS = Counter("fraudlake_api_decisions", "Payments answered", ["outcome", "degraded"])
SECONDS = Histogram(
    "fraudlake_api_decision_seconds",
    "From the request to its answer",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 1),
)

_PAYMENT, _ANSWER = registry().latest("payment"), registry().latest("answer")


@dataclass(frozen=True)
class Path:
    """What a decision needs: the log, the replies, the keys of digests, the time limit."""

    writer: LogWriter
    replies: Replies
    digests: Digests
    timeout_s: float
    host: str
    partition: int = 0

    async def decide(self, request: Any, received_at: datetime) -> DecisionAnswer:
        """The answer to a payment; Problem 409 for a known id with other content, 503 when the broker is away."""
        began = time.monotonic()
        record = written(_PAYMENT, {**request.__dict__, "received_at": received_at})
        transaction_id: str = request.transaction_id
        known = self._known(transaction_id, record)
        reply = await self._through_log(transaction_id, record, received_at) if known is None else known
        SECONDS.observe(time.monotonic() - began)
        return self._answered(reply)

    def _content(self, record: bytes) -> bytes:
        whole = np.array([PREFIX_BYTES]), np.array([len(record)])
        mark: Ints = _PAYMENT.codec.decode(np.frombuffer(record, np.uint8), *whole, mark="received_at").mark
        return self.digests.content("payment", record[PREFIX_BYTES : int(mark[0, 0])], record[int(mark[1, 0]) :])

    def _known(self, transaction_id: str, record: bytes) -> Reply | None:
        """The first answer to a transaction that was decided before."""
        known = self.replies.find(transaction_id)
        if known is None or known.outcome is None or known.outcome == REJECTED:
            return None
        if known.content_digest != self._content(record):
            raise Problem(
                409, "Another payment has this transaction_id", "Send a new transaction_id, or the same content again."
            )
        return known

    async def _through_log(self, transaction_id: str, record: bytes, received_at: datetime) -> Reply:
        began = time.monotonic()
        waiting = self.replies.wait(transaction_id)
        durable = self.writer.put(record, self.partition)
        try:
            async with asyncio.timeout(self.timeout_s):
                return await waiting
        except TimeoutError:
            pass
        finally:
            self.replies.forget(transaction_id, waiting)
        await self._acknowledged(durable)
        # Of a replayed payment in its own time: every record on the log moves the engine's clock.
        return await self._late(transaction_id, received_at + timedelta(seconds=time.monotonic() - began))

    async def _acknowledged(self, durable: Future[int]) -> int:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(durable), ACKNOWLEDGE_S)
        except (TimeoutError, OSError):
            raise Problem(
                503,
                "The payment could not be written",
                "Nothing was decided. Send it again with the same transaction_id.",
            ) from None

    async def _late(self, transaction_id: str, answered_at: datetime) -> Reply:
        """Answer without the engine; the answer is an event of its own and the effective outcome from then on."""
        known = self.replies.find(transaction_id)
        if known is not None and known.effective is not None:
            return known
        answer = {
            "answer_id": str(uuid.uuid4()),
            "transaction_id": transaction_id,
            "received_at": answered_at,
            "outcome": LATE_OUTCOME,
            "reason": "decision_late",
            "host": self.host,
        }
        record = written(_ANSWER, answer)
        await self._acknowledged(self.writer.put(record, self.partition))
        self.replies.answered([(transaction_id, LATE_OUTCOME)])
        late = self.replies.find(transaction_id) or Reply(transaction_id, answered=LATE_OUTCOME)
        return replace(late, rung=late.rung or LATE_RUNG)

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
        degraded=reply.answered is not None,
        rung=reply.rung or LATE_RUNG,
        position=None if reply.offset < 0 else place,
    )
