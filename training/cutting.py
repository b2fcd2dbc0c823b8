"""Where the bands of outcomes begin: the alert budget shared out by score."""

from collections.abc import Mapping

from decisions.bundle import SCALE
from decisions.forests import Doubles
from training.metrics import budget_rows

CUT_SHARES: Mapping[str, float] = {"challenge": 1.0, "review": 0.5, "decline": 0.2}
"""The alert budget is all that is not approved; half of it is looked at by people, a fifth is declined."""


def cuts(scores: Doubles, budget_per_1000: float) -> dict[str, float]:
    """Scores at which the bands begin, so that on these payments each takes its share of the alert budget.

    Higher bands begin at strictly higher scores, whatever the ties.
    """
    out: dict[str, float] = {}
    last = 0.0
    for name, share in CUT_SHARES.items():
        lowest = float(scores[budget_rows(scores, budget_per_1000 * share)].min())
        last = round(max(lowest, last + 1 / SCALE), 6)
        out[name] = last
    return out
