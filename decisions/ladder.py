"""What a payment is decided by while something is broken: the rungs of the ladder, and the policy of the lowest one.

    full             every part works (state_capped: but somebody new found no place below the cap of keys)
    without_anomaly  XGBoost, rules and lists
    rules_only       rules and lists
    static_policy    amount and channel

On every rung below `full` an approval of more than `ladder.approve_up_to_minor` becomes `review`. Pure: the engine and
the API decide by the same functions; amounts are minor units of the base currency.
"""

import numpy as np

from expectations.reference import Reference, converted, short_codes
from expectations.rules.rule_set import OUTCOMES
from lakehouse.settings import Ladder
from lakehouse.texts import Texts

RUNGS = ("full", "without_anomaly", "rules_only", "static_policy")
"""From the highest to the lowest; elsewhere a rung is an index into this."""
WHOLE, WITHOUT_ANOMALY, RULES_ONLY, STATIC = range(len(RUNGS))
STATE_CAPPED = "state_capped"
"""Every part works, but the state held as many keys as it may: features of whoever is new are missing."""
APPROVE, CHALLENGE, REVIEW, DECLINE = OUTCOMES
CUTS = {CHALLENGE: 0.3, REVIEW: 0.5, DECLINE: 0.8}
"""Of what rules add to a score of zero, where no thresholds are in force and no model has cuts of its own."""


def name_of(rung: int, capped: bool) -> str:
    """How a decision names its rung."""
    return STATE_CAPPED if capped and rung == WHOLE else RUNGS[rung]


def rung_of(name: str) -> int:
    """The rung that a decision names."""
    return WHOLE if name == STATE_CAPPED else RUNGS.index(name)


def held_back(outcome: str, amount_base_minor: int | None, approve_up_to_minor: int) -> str:
    """An outcome that was reached below rung `full`: nothing above the limit, or of unknown worth, is approved."""
    if outcome == APPROVE and (amount_base_minor is None or amount_base_minor > approve_up_to_minor):
        return REVIEW
    return outcome


def static_outcome(ladder: Ladder, amount_base_minor: int | None, channel: str) -> str:
    """The lowest rung's outcome; `review` for a channel without a policy and an amount that nobody could convert."""
    policy = next((of for name, of in ladder.static_policy.items() if name == channel), None)
    if policy is None or amount_base_minor is None:
        return REVIEW
    if amount_base_minor <= policy.approve_up_to_minor:
        return held_back(APPROVE, amount_base_minor, ladder.approve_up_to_minor)
    return CHALLENGE if amount_base_minor <= policy.challenge_up_to_minor else REVIEW


def in_base_currency(reference: Reference | None, amount_minor: int, currency: str) -> int | None:
    """An amount as admission converts it; None without a reference table or a rate."""
    if reference is None:
        return None
    rate = reference.rate_micro(short_codes(Texts.of([currency])))
    if np.isnan(rate[0]):
        return None
    return int(converted(np.array([amount_minor]), rate.astype(np.int64))[0])
