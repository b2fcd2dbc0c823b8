"""What a model is worth: ranking, alerts within a budget, calibration."""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def budget_rows(scores: Doubles, budget_per_1000: float) -> npt.NDArray[np.int64]:
    """Rows with the highest scores, as many as the budget lets people look at; ties by order."""
    n = max(1, int(len(scores) * budget_per_1000 / 1000))
    return np.argsort(-scores, kind="stable")[:n]


def measured(scores: Doubles, fraud: Flags, budget_per_1000: float) -> dict[str, float]:
    """Average precision, AUC, figures at the alert budget, expected calibration error in ten bins.

    At the budget, what it lets people look at counts as flagged: recall, precision, false-positive rate (of genuine
    payments), accuracy, F1. With one class only, the ranking figures are NaN.
    """
    both = bool(fraud.any() and not fraud.all())
    looked_at = budget_rows(scores, budget_per_1000)
    found = float(fraud[looked_at].sum())
    wrong, missed, genuine = len(looked_at) - found, float(fraud.sum()) - found, float((~fraud).sum())
    bins = np.minimum((np.clip(scores, 0, 1) * 10).astype(np.int64), 9)
    error = sum(
        abs(float(scores[bins == b].mean()) - float(fraud[bins == b].mean())) * float((bins == b).mean())
        for b in range(10)
        if (bins == b).any()
    )
    return {
        "average_precision": float(average_precision_score(fraud, scores)) if both else float("nan"),
        "auc": float(roc_auc_score(fraud, scores)) if both else float("nan"),
        "recall_at_budget": found / float(fraud.sum()) if fraud.any() else float("nan"),
        "precision_at_budget": found / len(looked_at),
        "false_positive_rate_at_budget": wrong / genuine if genuine else float("nan"),
        "accuracy_at_budget": 1 - (wrong + missed) / len(scores),
        "f1_at_budget": 2 * found / (2 * found + wrong + missed),
        "calibration_error": float(error),
        "payments": float(len(scores)),
        "frauds": float(fraud.sum()),
    }
