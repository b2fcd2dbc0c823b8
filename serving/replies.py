"""Decisions as they arrive: an index of recent ones, and the requests that wait for theirs.

Two readers feed it, one of topic `decisions` and one of the answers on topic `events`, so every replica knows what
every other replica answered.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Reply:
    """What is known of a payment; `answered` is set where the API answered without the engine."""

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
    answered: str | None = None

    @property
    def effective(self) -> str | None:
        """The effective outcome."""
        return self.answered or self.outcome


class Replies:
    """Recent replies by transaction id, at most `size`; lives on the event loop, fed from reader threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: OrderedDict[str, Reply] = OrderedDict()
        self._waiting: dict[str, list[asyncio.Future[Reply]]] = {}

    def find(self, transaction_id: str) -> Reply | None:
        """What is known of a transaction."""
        return self._known.get(transaction_id)

    def wait(self, transaction_id: str) -> asyncio.Future[Reply]:
        """A future of the transaction's decision."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(transaction_id, []).append(future)
        return future

    def forget(self, transaction_id: str, future: asyncio.Future[Reply]) -> None:
        """Stop waiting."""
        futures = self._waiting.get(transaction_id, [])
        if future in futures:
            futures.remove(future)
        if not futures:
            self._waiting.pop(transaction_id, None)

    def decided(self, replies: list[Reply]) -> None:
        """Take decisions in, in the topic's order. A conflict never replaces what the first request was told."""
        for reply in replies:
            if "conflict" in reply.rejected_by:
                continue
            known = self._known.get(reply.transaction_id)
            reply = reply if known is None else replace(reply, answered=known.answered)
            self._put(reply)
            for future in self._waiting.pop(reply.transaction_id, []):
                if not future.done():
                    future.set_result(reply)

    def answered(self, answers: list[tuple[str, str]]) -> None:
        """Take answers of the API in: (transaction id, outcome). The first answer stays."""
        for transaction_id, outcome in answers:
            known = self._known.get(transaction_id, Reply(transaction_id))
            if known.answered is None:
                self._put(replace(known, answered=outcome))

    def _put(self, reply: Reply) -> None:
        self._known[reply.transaction_id] = reply
        self._known.move_to_end(reply.transaction_id)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
