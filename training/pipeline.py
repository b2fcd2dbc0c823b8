"""The steps of training, each a function of data and settings."""

from collections.abc import Mapping
from dataclasses import replace

from decisions.bundle import SCALE
from lakehouse.settings import Training
from training.baselines import amount_only, logistic, small_tree
from training.data import Dataset
from training.ensemble import by_ranking
from training.fit import Doubles, Fitted, Progress, anomaly, boosted, calibrated, isolated, margins_of, refitted
from training.metrics import budget_rows
from training.package import model_of
from training.split import Split

CUT_SHARES: Mapping[str, float] = {"challenge": 1.0, "review": 0.5, "decline": 0.2}
"""The alert budget is all that is not approved; half of it is looked at by people, a fifth is declined."""

MODELS = ("ensemble", "xgboost", "isolation_forest", "logistic", "tree", "amount_only")


def fitted_on(data: Dataset, split: Split, settings: Training, say: Progress) -> Fitted:
    """Both models fitted on the training days and calibrated on the validation days."""
    fraud = split.known
    booster, parameters, trees = boosted(
        data.X, fraud, split.fit, split.validation, settings.seed, settings.search_trials, say
    )
    say("isolation forest")
    isolation, expected, medians = isolated(data.X, split.fit, settings.seed)
    held_out = data.X[split.validation]
    known = fraud[split.validation]
    calibration = {
        "xgboost": calibrated(margins_of(booster, held_out), known),
        "isolation_forest": calibrated(anomaly(isolation, expected, medians, held_out), known),
    }
    fitted = Fitted(booster, isolation, expected, medians, calibration, parameters, trees)
    if settings.ensemble == "fixed":
        return fitted
    found = model_of(fitted, {}).scores(held_out)
    weights = by_ranking(found.xgboost, found.isolation_forest, known)
    say(f"ensemble: XGBoost {weights['xgboost']}, isolation forest {weights['isolation_forest']}")
    return replace(fitted, weights=weights)


def fitted_again(data: Dataset, fitted: Fitted, until_ms: int, settings: Training) -> Fitted:
    """The same settings on every payment before `until_ms`, with the labels known today; the calibration stays."""
    rows = data.between(int(data.event_ms[0]), until_ms)
    booster = refitted(data.X, data.is_fraud, rows, fitted.parameters, fitted.trees, settings.seed)
    isolation, expected, medians = isolated(data.X, rows, settings.seed)
    return replace(fitted, booster=booster, isolation=isolation, isolation_expected_path=expected, medians=medians)


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


def test_scores(data: Dataset, split: Split, fitted: Fitted, settings: Training, say: Progress) -> dict[str, Doubles]:
    """Scores of every model on the test payments."""
    X = data.X[split.test]
    scores = model_of(fitted, {}).scores(X)
    linear = logistic(data.X, split.known, split.fit, split.validation, split.test, settings.seed, say)
    return {
        "ensemble": scores.ensemble,
        "xgboost": scores.xgboost,
        "isolation_forest": scores.isolation_forest,
        "logistic": linear,
        "tree": small_tree(data.X, split.known, split.train, split.test, settings.seed),
        "amount_only": amount_only(X),
    }
