"""Decisions as they arrive: an index of recent ones, and the requests that wait for theirs.

Two readers feed it, one of topic `decisions` and one of the answers on topic `events`, so every replica knows what
every other replica answered.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from decisions.effective import effective
from decisions.outcome import REJECTED
from serving.decision_store import CONFLICT
from serving.schemas import ModelReasons


class Answered(NamedTuple):
    """What the API answered a transaction without the engine, on which rung; the digest where this replica did."""

    transaction_id: str
    outcome: str
    rung: str
    content_digest: bytes = b""


@dataclass(frozen=True)
class Reply:
    """What is known of a payment; `answered`: the API's word without the engine; `ended`: how its challenge ended."""

    transaction_id: str
    content_digest: bytes = b""
    decision_id: str | None = None
    topic_id: str = ""
    partition: int = 0
    offset: int = -1
    outcome: str | None = None
    risk: str | None = None
    score: float | None = None
    rung: str = ""
    rejected_by: tuple[str, ...] = ()
    reason_codes: tuple[str, ...] = ()
    rules_fired: tuple[str, ...] = ()
    model_reasons: ModelReasons | None = None
    """Known some moments after the decision, of payments that were not approved."""
    answered: str | None = None
    ended: str | None = None
    answered_rung: str = ""
    payload_digest: bytes = b""
    amount_base_minor: int | None = None
    """Only where the store told of it, which has no digest of the content."""

    @property
    def is_conflict(self) -> bool:
        """Whether its id belongs to another payment."""
        return CONFLICT in self.rejected_by

    @property
    def effective(self) -> str | None:
        """The effective outcome."""
        return effective(self.outcome, self.answered, self.ended)


def _stands(known: Reply, refused: Reply) -> bool:
    """Whether a reply stays over a refusal: it is a decision, or was the answer to other content."""
    if known.outcome is not None:
        return known.outcome != REJECTED
    return known.answered is not None and known.content_digest not in (b"", refused.content_digest)


class Replies:
    """Recent replies by transaction id, at most `size`; lives on the event loop, fed from reader threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: OrderedDict[str, Reply] = OrderedDict()
        self._waiting: dict[str, list[tuple[asyncio.Future[Reply], bytes]]] = {}

    def find(self, transaction_id: str) -> Reply | None:
        """What is known of a transaction."""
        return self._known.get(transaction_id)

    def wait(self, transaction_id: str, payload_digest: bytes) -> asyncio.Future[Reply]:
        """A future of the transaction's decision, for who sent a record of this digest."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(transaction_id, []).append((future, payload_digest))
        return future

    def forget(self, transaction_id: str, future: asyncio.Future[Reply]) -> None:
        """Stop waiting."""
        left = [one for one in self._waiting.pop(transaction_id, []) if one[0] is not future]
        if left:
            self._waiting[transaction_id] = left

    def decided(self, replies: list[Reply]) -> None:
        """Take decisions in, in the topic's order. A refusal never replaces what the first request was told."""
        for reply in replies:
            known = self._known.get(reply.transaction_id)
            if not reply.is_conflict and not (
                reply.outcome == REJECTED and known is not None and _stands(known, reply)
            ):
                if known is not None:
                    told = {"answered": known.answered, "answered_rung": known.answered_rung, "ended": known.ended}
                    reply = replace(reply, **told)  # type: ignore[arg-type]
                self._put(reply)
            # A refusal is the answer to its own record only: another one of that id may be good.
            for future, payload_digest in self._waiting.get(reply.transaction_id, []):
                if not future.done() and (not reply.rejected_by or payload_digest == reply.payload_digest):
                    future.set_result(reply)

    def explained(self, found: list[tuple[str, ModelReasons]]) -> None:
        """Take models' reasons in, by transaction, of the decision that they name."""
        for transaction_id, reasons in found:
            known = self._known.get(transaction_id)
            if known is not None and known.decision_id == reasons.decision_id:
                self._known[transaction_id] = replace(known, model_reasons=reasons)

    def answered(self, answers: Sequence[Answered]) -> None:
        """Take answers of the API in. The first answer stays."""
        for one in answers:
            known = self._known.get(one.transaction_id, Reply(one.transaction_id))
            if known.answered is None:
                # An end that was heard first is of content that nobody here knows.
                digest = known.content_digest or (one.content_digest if known.ended is None else b"")
                self._put(replace(known, answered=one.outcome, answered_rung=one.rung, content_digest=digest))

    def ended(self, ends: list[tuple[str, str]]) -> None:
        """Take ends of challenges in: (transaction id, result). The first end stays."""
        for transaction_id, result in ends:
            known = self._known.get(transaction_id, Reply(transaction_id))
            if known.ended is None:
                self._put(replace(known, ended=result))

    def _put(self, reply: Reply) -> None:
        self._known[reply.transaction_id] = reply
        self._known.move_to_end(reply.transaction_id)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
