"""What an evaluation says: figures at the budget, money, parts, intervals, and a report of the same bytes."""

import json

import numpy as np
import pyarrow as pa
import pytest

from decisions.bundle import Model
from tests.decisions import models
from tests.training.pricing import COSTS
from training import report
from training.ensemble import by_money
from training.evaluate import HeldOut, as_decided, at_false_positive_rate, by_pattern, evaluated, judged, parts
from training.metrics import measured
from training.money import earned, outcomes
from training.package import model_of
from training.truth import by_pattern as by_true_pattern


def held_out(fraud, amount, card=None, day=None, segments=None, patterns=None):
    n = len(fraud)
    return HeldOut(
        np.array(fraud),
        np.array(amount),
        np.arange(n) if card is None else np.array(card),
        np.zeros(n, np.int64) if day is None else np.array(day),
        segments or {},
        patterns or {},
    )


def test_the_figures_at_the_budget_are_those_of_who_is_looked_at():
    # Two of four are looked at: one fraud and one genuine payment; one fraud and one genuine payment are not.
    found = measured(np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, False, True, False]), 500)
    assert found["false_positive_rate_at_budget"] == 0.5
    assert found["accuracy_at_budget"] == 0.5
    assert found["f1_at_budget"] == 0.5


def test_money_is_what_no_longer_passes_less_friction_and_review():
    approve, challenge, review, decline = range(4)
    money = earned(
        np.array([decline, review, challenge, approve, decline, review, challenge, approve]),
        np.array([True, True, True, True, False, False, False, False]),
        np.full(8, 10_000),
        COSTS,
    )
    assert money.prevented == pytest.approx(10_000 + 8_000 + 9_000)
    assert money.friction == 1000 + 200 + 200 + 30
    assert money.review == 800
    assert money.net == pytest.approx(27_000 - 1_430 - 800)


def test_outcomes_of_rules_are_judged_as_they_are():
    # One of two frauds is declined, one of two genuine payments reviewed.
    found = as_decided(np.array([3, 0, 2, 0]), held_out([True, True, False, False], [10_000] * 4), COSTS)
    assert found == {
        "flagged_per_1000": 500,
        "recall": 0.5,
        "precision": 0.5,
        "false_positive_rate": 0.5,
        "accuracy": 0.5,
        "f1": 0.5,
        "prevented_minor": 2500,
        "friction_minor": 50,
        "review_minor": 100,
        "net_minor": 2350,
    }
    nothing = as_decided(np.zeros(2, np.int64), held_out([True, False], [100, 100]), COSTS)
    assert (nothing["recall"], nothing["net_minor"], np.isnan(nothing["precision"])) == (0, 0, True)


def test_the_highest_scores_take_the_outcomes_of_the_budget():
    scores = np.arange(1000) / 1000
    found = outcomes(scores, 10)
    assert np.bincount(found, minlength=4).tolist() == [990, 5, 3, 2]
    assert found[-2:].tolist() == [3, 3]


def test_the_ensemble_that_earns_most_is_chosen():
    fraud = np.arange(1000) < 10
    # XGBoost knows the small frauds, the isolation forest the large ones, and ten payments are looked at.
    xgboost = np.where(np.arange(1000) < 5, 0.6, 0.5)
    isolation = np.where((np.arange(1000) >= 5) & fraud, 0.9, 0.1)
    amount = np.where(np.arange(1000) < 5, 100, 90_000)
    assert by_money(xgboost, isolation, fraud, amount, 5, COSTS) == 0.7
    assert by_money(isolation, xgboost, fraud, amount, 5, COSTS) == 0.7


def test_a_part_is_judged_by_what_the_whole_flags():
    fraud = np.zeros(1000, np.bool_)
    fraud[[0, 1, 2]] = True
    scores = np.where(np.arange(1000) < 2, 0.9, 0.1) + np.arange(1000) / 1e6
    here = np.arange(1000) < 500
    found = parts(scores, held_out(fraud, np.full(1000, 5000)), {"first": here, "second": ~here}, 10, COSTS)
    assert found["first"]["recall_at_budget"] == pytest.approx(2 / 3)
    assert found["first"]["precision_at_budget"] == 1.0
    assert np.isnan(found["second"]["recall_at_budget"])
    assert found["second"]["false_positive_rate_at_budget"] == pytest.approx(8 / 500)


def test_frauds_are_counted_by_their_true_pattern_labelled_or_not_with_an_interval():
    ids = [f"t{at}" for at in range(1000)]
    truth = pa.table({"transaction_id": ["t9", "t1", "t2", "t3", "gone"], "pattern": [*"babb", "c"]})
    patterns = by_true_pattern(truth, pa.array(ids))
    assert {name: np.flatnonzero(rows).tolist() for name, rows in patterns.items()} == {"a": [1], "b": [2, 3, 9]}
    # The ten first are looked at, but the fourth: a fraud that nobody disputed.
    scores = 1 - np.arange(1000) / 1000
    scores[3] = 0
    fraud = np.isin(np.arange(1000), [1, 2, 9])
    tested = held_out(fraud, np.full(1000, 5000), day=np.arange(1000) % 7, patterns=patterns)
    found = by_pattern(scores, tested, 10, seed=1)
    assert {name: (one["frauds"], one["labelled"], one["recall_at_budget"]) for name, one in found.items()} == {
        "a": (1, 1, 1.0),
        "b": (3, 2, pytest.approx(2 / 3)),
    }
    assert (found["a"]["recall_at_budget_low"], found["a"]["recall_at_budget_high"]) == (1.0, 1.0)
    assert found["b"]["recall_at_budget_low"] < 2 / 3 < found["b"]["recall_at_budget_high"]
    assert not any("precision" in name for name in found["b"])
    assert by_pattern(scores, held_out(fraud, np.full(1000, 5000)), 10, seed=1) == {}


def test_a_false_positive_rate_is_never_exceeded_by_ties():
    fraud = np.array([True, False, False, False, False])
    scores = np.array([0.9, 0.8, 0.8, 0.2, 0.1])
    assert at_false_positive_rate(scores, fraud, 0.25).tolist() == [True, False, False, False, False]
    assert at_false_positive_rate(scores, fraud, 0.5).tolist() == [True, True, True, False, False]


@pytest.fixture(scope="module")
def evaluation():
    """A real model on random vectors, and its evaluation."""
    X, fraud = models.vectors(7, 3000)
    fitted = models.fitted()
    model: Model = model_of(fitted, {})
    found = model.scores(X)
    rows = held_out(
        fraud,
        np.random.default_rng(1).integers(100, 90_000, 3000),
        np.arange(3000) % 700,
        np.arange(3000) // 600,
        {"even": np.arange(3000) % 2 == 0},
        {"bust_out": fraud & (np.arange(3000) % 3 == 0)},
    )
    by_rules = (np.arange(3000) % 4) * (np.arange(3000) % 5 == 0)
    return X, fitted, rows, {"ensemble": found.ensemble, "amount_only": rows.amount_minor.astype(float)}, by_rules


def test_every_model_has_every_figure_and_the_first_its_intervals(evaluation):
    _, _, rows, scores, by_rules = evaluation
    found = evaluated(scores, by_rules, rows, 50, COSTS, seed=3)
    assert list(found.models) == ["ensemble", "amount_only"]
    assert found.models["ensemble"] == judged(scores["ensemble"], rows, 50, COSTS)
    for name, (low, high) in found.intervals.items():
        assert low <= found.models["ensemble"][name] <= high, name
    for one in (found.segments["even"], found.patterns["bust_out"]):
        assert one["recall_at_budget_low"] <= one["recall_at_budget"] <= one["recall_at_budget_high"]
    assert found.models["ensemble"]["net_minor"] > found.models["amount_only"]["net_minor"]


def test_the_same_model_and_payments_give_the_same_report(evaluation, tmp_path):
    X, fitted, rows, scores, by_rules = evaluation
    about = {"test days": "two <of> them"}
    for name in ("one", "other"):
        found = evaluated(scores, by_rules, rows, 50, COSTS, seed=3)
        report.write(tmp_path / name, report.Told("fraud", "ab" * 32, about), found, fitted, X, COSTS)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [
        *("evaluation.json", "importance.json", "input_example.json", "model_card.md", "report.html", "signature.json")
    ]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    page = (tmp_path / "one/report.html").read_text()
    assert "two &lt;of&gt; them" in page
    assert "By true pattern" in page
    assert "<td>bust_out</td>" in page
    assert not any(word in page for word in ("http:", "https:", "<script", "src="))
    example = json.loads((tmp_path / "one/input_example.json").read_text())
    assert [len(row) for row in example["data"]] == [len(example["columns"])] * 5
