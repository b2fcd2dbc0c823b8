"""What makes a model that was just put into force go back, and what does not."""

import numpy as np
import pytest

from lakehouse import settings as conf
from training.bins import Bins, psi
from training.guarding import Decided, Usual, broken

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


def test_the_score_shift_is_the_index_that_the_drift_watch_measures(of):
    before = np.repeat([0.0, 1.0], 200)
    bins = Bins.of(before)
    for share, breaks in ((0.5, False), (0.8, False), (0.9, True)):
        scores = np.repeat([0.0, 1.0], [int(400 * share), 400 - int(400 * share)])
        told = broken(window(scores=scores), USUAL._replace(scores=before), of)
        assert bool(told) == breaks, (share, told)
        if breaks:
            assert told == [f"score shift {psi(bins.counts(scores), bins.counts(before)):.2f}, allowed 0.5"]
