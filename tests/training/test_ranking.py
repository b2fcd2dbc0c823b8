"""What rankings are worth: payments, cards, and how far that would move with others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from training.bootstrap import intervals
from training.ensemble import by_ranking
from training.ranking import Ranked, card_days, card_precision


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40).filter(
        lambda rows: len({fraud for _, fraud, weight in rows if weight}) == 2
    )
)
def test_weighted_figures_are_those_of_scikit_learn(rows):
    scores, fraud, weights = (np.array(column) for column in zip(*rows, strict=True))
    auc, precision = Ranked.of(scores / 5, fraud).auc_and_precision(weights.astype(float))
    assert auc == pytest.approx(roc_auc_score(fraud, scores, sample_weight=weights))
    assert precision == pytest.approx(average_precision_score(fraud, scores, sample_weight=weights))


def test_one_class_has_no_ranking():
    auc, precision = Ranked.of(np.array([0.1, 0.2]), np.zeros(2, bool)).auc_and_precision(np.ones(2))
    assert np.isnan(auc)
    assert np.isnan(precision)


DAYS = card_days(
    scores=np.array([0.9, 0.1, 0.8, 0.7, 0.9, 0.2, 0.1]),
    fraud=np.array([True, False, False, True, True, True, False]),
    card=np.array([0, 0, 1, 2, 0, 2, 1]),
    day=np.array([5, 5, 5, 5, 6, 6, 6]),
)


def test_a_card_that_was_found_is_not_looked_at_again():
    # Day 5: cards 0 (fraud) and 1; day 6: without card 0, cards 2 (fraud) and 1.
    assert card_precision(DAYS, np.ones(3), np.ones(2), cards_a_day=2) == 0.5
    assert card_precision(DAYS, np.ones(3), np.ones(2), cards_a_day=1) == 1.0


def test_cards_and_days_count_as_often_as_they_were_drawn():
    assert card_precision(DAYS, np.array([0.0, 1.0, 1.0]), np.array([1.0, 0.0]), cards_a_day=1) == 0.0
    assert card_precision(DAYS, np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0]), cards_a_day=1) == 0.5


def test_an_interval_holds_the_figure_and_is_the_same_again():
    fraud, card, day = np.arange(400) % 7 == 0, np.arange(400) % 50, np.arange(400) // 40
    ranked = Ranked.of((np.arange(400) % 11) + 4.0 * fraud, fraud)

    def statistics(of_card, of_day):
        return {"auc": ranked.auc_and_precision(of_card[card] * of_day[day])[0]}

    low, high = intervals(statistics, 50, 10, seed=1)["auc"]
    assert low < ranked.auc_and_precision(np.ones(400))[0] < high
    assert intervals(statistics, 50, 10, seed=1)["auc"] == (low, high)
    assert intervals(statistics, 50, 10, seed=2)["auc"] != (low, high)


def test_a_model_that_knows_nothing_gets_no_weight():
    fraud = np.arange(100) % 10 == 0
    noise = np.random.default_rng(3).random(100)
    assert by_ranking(fraud * 0.5, noise, fraud) == 0.7
    assert by_ranking(fraud * 0.1, noise, fraud) > 0.7
