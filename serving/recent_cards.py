"""What the engine last decided of a card, kept for ten minutes: no answer without the engine is milder than that."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

KEPT_S = 600
"""A card's last decision counts so long."""


class CardOutcome(NamedTuple):
    """The outcome of a decision of a card, and when it was made (milliseconds)."""

    card_token: str
    decided_at: int
    outcome: str


class RecentCards:
    """The last decision of at most `most` cards; lives on the event loop like the replies."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._last: OrderedDict[str, CardOutcome] = OrderedDict()

    def decided(self, found: Sequence[CardOutcome]) -> None:
        """Take decisions in, in the topic's order."""
        for one in found:
            self._last[one.card_token] = one
            self._last.move_to_end(one.card_token)
        while len(self._last) > self._most:
            self._last.popitem(last=False)

    def outcome(self, card_token: str, now_ms: int) -> str | None:
        """The card's last outcome; None when it is older than `KEPT_S`, or nobody knows one."""
        last = self._last.get(card_token)
        return None if last is None or last.decided_at < now_ms - 1000 * KEPT_S else last.outcome
