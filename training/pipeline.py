"""The steps of training, each a function of data and settings."""

from dataclasses import replace

from decisions.bundle import NEURAL_KIND
from lakehouse.experiment_settings import Costs
from lakehouse.settings import Training
from training.baselines import amount_only, logistic, small_tree
from training.boosted import Boosted
from training.cheapest import cheapest
from training.cutting import cuts
from training.data import Dataset
from training.ensemble import by_money, by_ranking
from training.fit import Doubles, Fitted, Progress, Supervised, anomaly, boosted, calibrated, isolated
from training.package import model_of
from training.rules_alone import RulesAlone
from training.split import Split


def _supervised(kind: str, data: Dataset, split: Split, settings: Training, say: Progress) -> Supervised:
    """The supervised model of a kind; the packages of a neural one are loaded for it alone."""
    chosen = data.X, split.known, split.fit, split.validation, settings.seed, settings.search_trials, say
    if kind == NEURAL_KIND:
        from training import network

        return network.searched(*chosen)
    return Boosted(*boosted(*chosen))


def fitted_on(kind: str, data: Dataset, split: Split, settings: Training, of_decisions: Costs, say: Progress) -> Fitted:
    """Both models fitted on the training days, calibrated and weighed on the validation days."""
    fraud = split.known
    supervised = _supervised(kind, data, split, settings, say)
    say("isolation forest")
    isolation, expected, medians = isolated(data.X, split.fit, settings.seed)
    held_out = data.X[split.validation]
    known = fraud[split.validation]
    calibration = {
        kind: calibrated(supervised.margins(held_out), known),
        "isolation_forest": calibrated(anomaly(isolation, expected, medians, held_out), known),
    }
    fitted = Fitted(supervised, isolation, expected, medians, calibration)
    if settings.ensemble == "fixed":
        return fitted
    found = model_of(fitted, {}).scores(held_out)
    if settings.ensemble == "ranking":
        share = by_ranking(found.supervised, found.isolation_forest, known)
    else:
        amount = data.amount_base_minor[split.validation]
        share = by_money(
            found.supervised, found.isolation_forest, known, amount, settings.alert_budget_per_1000, of_decisions
        )
    weighed = replace(fitted, share=share)
    say("ensemble: " + ", ".join(f"{name} {weight}" for name, weight in weighed.weights.items()))
    return weighed


def fitted_again(data: Dataset, fitted: Fitted, until_ms: int, settings: Training) -> Fitted:
    """The same settings on every payment before `until_ms`, with the labels known today; the calibration stays."""
    rows = data.between(int(data.event_ms[0]), until_ms)
    supervised = fitted.supervised.again(data.X, data.is_fraud, rows, settings.seed)
    isolation, expected, medians = isolated(data.X, rows, settings.seed)
    return replace(
        fitted, supervised=supervised, isolation=isolation, isolation_expected_path=expected, medians=medians
    )


def cuts_of(
    data: Dataset, split: Split, fitted: Fitted, tested: Doubles, settings: Training, of_decisions: Costs
) -> dict[str, float]:
    """The cuts between the bands: shares of the alert budget on the test days, or what costs least on validation days.

    The first needs no labels; the second does, and so is not of the days that the report is about.
    """
    if settings.cuts == "budget":
        return cuts(tested, settings.alert_budget_per_1000)
    rows = split.validation
    scores = model_of(fitted, {}).scores(data.X[rows]).ensemble
    most = settings.alert_budget_per_1000, settings.reviews_per_1000
    return cheapest(scores, split.known[rows], data.amount_base_minor[rows], *most, of_decisions)


def test_scores(
    data: Dataset, split: Split, fitted: Fitted, by_rules: RulesAlone, settings: Training, say: Progress
) -> dict[str, Doubles]:
    """Scores of every model on the test payments; rules alone have been asked."""
    X = data.X[split.test]
    scores = model_of(fitted, {}).scores(X)
    linear = logistic(data.X, split.known, split.fit, split.validation, split.test, settings.seed, say)
    return {
        "ensemble": scores.ensemble,
        fitted.supervised.kind: scores.supervised,
        "isolation_forest": scores.isolation_forest,
        "logistic": linear,
        "tree": small_tree(data.X, split.known, split.train, split.test, settings.seed),
        "amount_only": amount_only(X),
        "rules_only": by_rules.score,
    }
