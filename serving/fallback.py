"""What a payment is answered without the engine: its own rungs of the ladder.

    last_decision   the engine decided of the card within ten minutes: never milder than that, nor than the policy
    static_policy   lists in force, amount and channel (`decisions.ladder`)

Whom a block list names is declined, while the entry has not expired on the engine's clock. A payment that admission
would refuse is neither approved nor challenged, and no amount above the limit of the ladder, or without a rate, is
approved.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from decisions.identities import FIELDS
from decisions.ladder import APPROVE, CHALLENGE, DECLINE, REVIEW, RUNGS, STATIC, in_base_currency, static_outcome
from decisions.outcome import OUTCOMES
from expectations.decoded import broken_rules, decode
from expectations.reference import Reference, converted, short_codes
from lakehouse.crypto import Digests, Tokens
from lakehouse.errors import KeysMissing
from lakehouse.moments import now_ms
from lakehouse.registry import registry
from lakehouse.settings import Ladder
from lakehouse.texts import Texts
from serving.recent_cards import RecentCards

LAST_DECISION = "last_decision"


class Fallen(NamedTuple):
    """An outcome, and the rung that gave it."""

    outcome: str
    rung: str


@dataclass(frozen=True)
class Fallback:
    """The API's ladder: settings, tokens, what is known of cards, the reference table and the block list in force."""

    ladder: Ladder
    tokens: Callable[[], Sequence[Tokens]]
    """Of every key version up to the one in force, that one last: lists and decisions name people by one of them."""
    digests: Digests
    cards: RecentCards
    reference: Callable[[], Reference | None]
    blocked: Callable[[str, str], bool]
    """Whether a block list names a token, or a merchant's id, of a kind."""

    def warm(self) -> None:
        """Load the kernels that an answer needs: the first payment without an engine would wait for them."""
        refused(registry().latest("payment").prefix, self.digests)
        short_codes(Texts.of(["EUR"]))
        converted(np.ones(1, np.int64), np.ones(1, np.int64))

    def answer(self, payment: Any, record: bytes) -> Fallen:
        """The answer to a payment, which is also given as its record."""
        try:
            every = self.tokens()
        except KeysMissing:
            # Nobody can be looked up.
            return Fallen(REVIEW, RUNGS[STATIC])
        if any(self.blocked(kind, token) for kind, token in _named(payment, every)):
            return Fallen(DECLINE, RUNGS[STATIC])
        amount = in_base_currency(self.reference(), payment.amount_minor, payment.currency)
        outcome = static_outcome(self.ladder, amount, payment.channel)
        # Of what the engine will refuse nobody can be asked, either.
        if outcome in (APPROVE, CHALLENGE) and refused(record, self.digests):
            outcome = REVIEW
        names = (_token(tokens, "card", payment.card_number) for tokens in reversed(every))
        last = next((found for name in names if (found := self.cards.outcome(name, now_ms())) is not None), None)
        if last is None:
            return Fallen(outcome, RUNGS[STATIC])
        return Fallen(max(outcome, last, key=OUTCOMES.index), LAST_DECISION)


def _token(tokens: Tokens, kind: str, value: str) -> str:
    return tokens.text(tokens.digests(kind, [value.encode()])[0])


def _named(payment: Any, every: Sequence[Tokens]) -> Iterator[tuple[str, str]]:
    """(kind, token or merchant's id) of everybody whom a payment names."""
    yield "merchant", payment.merchant_id
    for kind, field in FIELDS.items():
        # An empty text names nobody.
        if value := getattr(payment, field):
            yield from ((kind, _token(tokens, kind, value)) for tokens in every)


def refused(record: bytes, digests: Digests) -> str:
    """The rules of admission that a record of topic `events` breaks now, joined by commas; empty for a good one."""
    schema = registry().by_id()[int.from_bytes(record[1:5], "big")]
    end, now = np.array([len(record)]), np.array([now_ms()])
    return broken_rules(decode(schema, record, np.array([0]), end, now, digests))[0]
