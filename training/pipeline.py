"""The steps of training, each a function of data and settings."""

from dataclasses import replace

from lakehouse.experiment_settings import Costs
from lakehouse.settings import Training
from training.baselines import amount_only, logistic, small_tree
from training.data import Dataset
from training.ensemble import by_money, by_ranking
from training.fit import Doubles, Fitted, Progress, anomaly, boosted, calibrated, isolated, margins_of, refitted
from training.package import model_of
from training.rules_alone import RulesAlone
from training.split import Split

MODELS = ("ensemble", "xgboost", "isolation_forest", "logistic", "tree", "amount_only", "rules_only")


def fitted_on(data: Dataset, split: Split, settings: Training, of_decisions: Costs, say: Progress) -> Fitted:
    """Both models fitted on the training days, calibrated and weighed on the validation days."""
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
    if settings.ensemble == "ranking":
        weights = by_ranking(found.xgboost, found.isolation_forest, known)
    else:
        amount = data.amount_base_minor[split.validation]
        weights = by_money(
            found.xgboost, found.isolation_forest, known, amount, settings.alert_budget_per_1000, of_decisions
        )
    say(f"ensemble: XGBoost {weights['xgboost']}, isolation forest {weights['isolation_forest']}")
    return replace(fitted, weights=weights)


def fitted_again(data: Dataset, fitted: Fitted, until_ms: int, settings: Training) -> Fitted:
    """The same settings on every payment before `until_ms`, with the labels known today; the calibration stays."""
    rows = data.between(int(data.event_ms[0]), until_ms)
    booster = refitted(data.X, data.is_fraud, rows, fitted.parameters, fitted.trees, settings.seed)
    isolation, expected, medians = isolated(data.X, rows, settings.seed)
    return replace(fitted, booster=booster, isolation=isolation, isolation_expected_path=expected, medians=medians)


def test_scores(
    data: Dataset, split: Split, fitted: Fitted, by_rules: RulesAlone, settings: Training, say: Progress
) -> dict[str, Doubles]:
    """Scores of every model on the test payments; rules alone have been asked."""
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
        "rules_only": by_rules.score,
    }
