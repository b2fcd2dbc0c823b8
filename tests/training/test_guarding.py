"""What makes a model that was just put into force go back, and what does not."""

import numpy as np
import pytest

from lakehouse import settings as conf
from training.guarding import Decided, Usual, broken, shift

RANDOM = np.random.default_rng(5)
USUAL = Usual(RANDOM.beta(1, 20, 2000), (RANDOM.random(2000) < 0.97).astype(float))


@pytest.fixture(scope="module")
def of():
    return conf.load().guard


def window(count=400, whole=1.0, approved=0.97, latency_ms=5.0, scores=None):
    """Decisions of the last seconds; shares of their first ones are whole and approved."""
    scores = np.random.default_rng(6).beta(1, 20, count) if scores is None else scores
    return [
        Decided(0.0, "m", at < whole * count, at < approved * count, float(scores[at]), latency_ms)
        for at in range(count)
    ]


def test_a_model_that_does_what_it_did_in_shadow_stays(of):
    assert broken(window(), USUAL, of) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"whole": 0.9}, "error rate 10.0%, allowed 2.0%"),
        ({"latency_ms": 400.0}, "latency 400 ms at 95 %, allowed 250 ms"),
        ({"approved": 0.8}, "approval rate changed by -1"),
        ({"scores": np.random.default_rng(7).beta(5, 5, 400)}, "score shift"),
    ],
)
def test_each_guard_rail_breaks_by_itself(of, changes, told):
    (found,) = broken(window(**changes), USUAL, of)
    assert found.startswith(told)


def test_a_few_payments_break_nothing(of):
    assert broken(window(count=of.least_payments - 1, whole=0.0), USUAL, of) == []


def test_shifts_need_something_to_compare_with_and_errors_do_not(of):
    nobody = Usual(np.zeros(0), np.zeros(0))
    assert broken(window(approved=0.1), nobody, of) == []
    assert len(broken(window(whole=0.5), nobody, of)) == 1


def test_equal_scores_have_no_shift_and_the_index_is_that_of_two_bins_by_hand():
    assert shift(USUAL.scores, USUAL.scores) == 0
    before, after = np.array([0.0] * 5 + [1.0] * 5), np.array([0.0] * 8 + [1.0] * 2)
    assert shift(before, after) == pytest.approx(0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5))
