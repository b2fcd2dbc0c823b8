"""Cuts by money beside every possible way to cut."""

from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisions.outcome import bands, edges
from tests.training.pricing import COSTS as TESTED
from training.cheapest import cheapest
from training.costs import costs

COSTS = TESTED.model_copy(update={"decline_genuine_share": 0.0})


def cost(scores, fraud, amount, cuts):
    return costs(bands(scores, edges(cuts)), fraud, amount.astype(np.float64), COSTS).sum()


def by_hand(scores, fraud, amount, stopped, reviews):
    """The least cost over all ways to cut, one after the other."""
    order = np.argsort(-scores, kind="stable")
    falling, found = scores[order], []
    parts = [n for n in range(len(scores) + 1) if n in (0, len(scores)) or falling[n - 1] > falling[n]]
    for i, j, k in combinations_with_replacement(parts, 3):
        if k <= stopped and j - i <= reviews:
            outcome = np.zeros(len(scores), np.int64)
            outcome[order[:k]], outcome[order[:j]], outcome[order[:i]] = 1, 2, 3
            found.append(costs(outcome, fraud, amount.astype(np.float64), COSTS).sum())
    return min(found)


def test_frauds_that_the_score_tells_apart_are_declined_and_the_rest_let_go():
    scores = np.array([0.9, 0.6, 0.5, 0.1, 0.05])
    fraud = np.array([True, True, False, False, False])
    amount = np.array([100_000, 100, 5_000, 5_000, 5_000])
    cuts = cheapest(scores, fraud, amount, 1000, 1000, COSTS)
    assert cuts == {"challenge": 0.599998, "review": 0.599999, "decline": 0.6}
    assert cost(scores, fraud, amount, cuts) == 0


def test_where_frauds_and_large_honest_payments_mix_customers_are_asked():
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    fraud, amount = np.array([True, False, True, False]), np.array([900, 90_000, 900, 90_000])
    cuts = cheapest(scores, fraud, amount, 1000, 1000, COSTS)
    assert cuts == {"challenge": 0.7, "review": 0.899999, "decline": 0.9}
    assert cost(scores, fraud, amount, cuts) == 0 + 30 + 90


def test_who_has_no_time_for_reviews_reviews_nothing_and_the_budget_bounds_what_is_stopped():
    scores = np.linspace(0.9, 0.1, 10)
    fraud, amount = np.ones(10, np.bool_), np.full(10, 50_000)
    cuts = cheapest(scores, fraud, amount, 300, 0, COSTS)
    outcome = bands(scores, edges(cuts))
    assert (outcome > 0).sum() == 3
    assert not (outcome == 2).any()


@pytest.mark.parametrize("fraud", [False, True])
def test_where_nothing_pays_nothing_is_stopped(fraud):
    scores, amount = np.array([0.9, 0.5]), np.array([0, 0])
    assert (bands(scores, edges(cheapest(scores, np.array([fraud] * 2), amount, 1000, 1000, COSTS))) == 0).all()


@settings(max_examples=200)
@given(
    rows=st.lists(
        st.tuples(st.integers(1, 9), st.booleans(), st.integers(0, 40).map(lambda n: n * 100)), min_size=1, max_size=8
    ),
    stopped=st.integers(0, 8),
    reviews=st.integers(0, 8),
)
def test_no_way_to_cut_is_cheaper(rows, stopped, reviews):
    scores = np.array([score / 10 for score, _, _ in rows])
    fraud, amount = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    n = len(rows)
    cuts = cheapest(scores, fraud, amount, 1000 * stopped / n + 1e-6, 1000 * reviews / n + 1e-6, COSTS)
    assert cuts["challenge"] < cuts["review"] < cuts["decline"]
    outcome = bands(scores, edges(cuts))
    assert (outcome > 0).sum() <= stopped
    assert (outcome == 2).sum() <= reviews
    assert cost(scores, fraud, amount, cuts) == pytest.approx(by_hand(scores, fraud, amount, stopped, reviews))
