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
    """Average precision, AUC, recall and precision at the alert budget, expected calibration error in ten bins.

    With one class only, the ranking figures are NaN.
    """
    both = bool(fraud.any() and not fraud.all())
    looked_at = budget_rows(scores, budget_per_1000)
    found = float(fraud[looked_at].sum())
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
        "calibration_error": float(error),
        "payments": float(len(scores)),
        "frauds": float(fraud.sum()),
    }
