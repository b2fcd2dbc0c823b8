"""The share of the supervised model in the ensemble, chosen on validation days."""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from lakehouse.experiment_settings import Costs
from training.fit import Doubles, Flags
from training.money import earned, outcomes

SHARES = (0.7, 0.8, 0.9, 1.0)
"""In the order of trying: among equals the first, which is the product's default."""


def by_ranking(supervised: Doubles, isolation_forest: Doubles, fraud: Flags) -> float:
    """The share whose ensemble ranks these payments best, by average precision and AUC ROC together.

    By precision alone a little of the isolation forest may win, whose noise then orders the many low scores.
    """
    found = []
    for share in SHARES:
        scores = share * supervised + (1 - share) * isolation_forest
        found.append(average_precision_score(fraud, scores) + roc_auc_score(fraud, scores))
    return SHARES[int(np.argmax(np.round(found, 6)))]


def by_money(
    supervised: Doubles,
    isolation_forest: Doubles,
    fraud: Flags,
    amount_minor: npt.NDArray[np.int64],
    budget_per_1000: float,
    of: Costs,
) -> float:
    """The share whose highest scores earn most within the alert budget on these payments."""
    found = []
    for share in SHARES:
        scores = share * supervised + (1 - share) * isolation_forest
        found.append(earned(outcomes(scores, budget_per_1000), fraud, amount_minor, of).net)
    return SHARES[int(np.argmax(found))]
