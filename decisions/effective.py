"""The one effective outcome of a payment: how its challenge ended, else the API's answer, else the decision."""

from collections.abc import Mapping

from decisions.ladder import APPROVE, DECLINE

APPROVED, DECLINED, EXPIRED = "approved", "declined", "expired"
"""How challenges end."""
ENDS: Mapping[str, str] = {APPROVED: APPROVE, DECLINED: DECLINE, EXPIRED: DECLINE}
"""What the result of a challenge means for its payment. Nobody said that an expired one was theirs."""


def effective(decided: str | None, answered: str | None, ended: str | None) -> str | None:
    """The effective outcome; None while there is none. An unknown result counts for nothing.

    Who was told that a payment is approved is not told otherwise because a customer kept silent.
    """
    if (answered, ended) == (APPROVE, EXPIRED):
        return APPROVE
    return ENDS.get(ended or "") or answered or decided
