"""What is said of declined payments by those that were let through is true; naive figures are not."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.exploration import LEAST_COVERAGE, ran, world
from decisions.exploration import draws, let_through
from lakehouse.crypto import Mac
from training.weighted import PropensityRefused, Seen

YES, NO = True, False


def test_one_of_twenty_stands_for_twenty():
    # Three approved frauds, two frauds among three payments that were let through at 5 %.
    seen = Seen(np.array([1, 1, 1, 1, 0.05, 0.05, 0.05]), 0.05)
    fraud = np.array([YES, YES, YES, NO, YES, YES, NO])
    declined = np.array([NO, NO, NO, NO, YES, YES, YES])
    total = seen.total(fraud)
    assert total.value == 3 + 2 * 20
    # The score interval of two of an unknown number at 5 %, by its quadratic equation: 40 + 36.49 -+ 65.2.
    assert (total.low, total.high) == pytest.approx((3 + 11.29, 3 + 141.69), rel=1e-3)
    assert seen.share(fraud, declined).value == pytest.approx(2 / 3)
    assert seen.share(declined, fraud).value == pytest.approx(40 / 43)
    assert seen.total(fraud * np.array([100.0, 100, 100, 0, 500, 700, 0])).value == 300 + 24_000


def test_nobody_let_through_leaves_room_instead_of_certainty():
    seen = Seen(np.ones(4), 0.02)
    fraud = np.array([YES, NO, NO, NO])
    found = seen.total(fraud)
    assert (found.value, found.low, found.high) == (1, 1, 1 + 3 * 49)
    assert np.isnan(seen.share(fraud, np.zeros(4, np.bool_)).value)
    # Without anybody who could have been let through all is known.
    whole = Seen(np.ones(4), 1.0)
    assert whole.total(fraud).high == 1
    share = whole.share(fraud, np.ones(4, np.bool_))
    assert (share.low, share.value, share.high) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("propensity", "least", "why"),
    [([0.5, 0.0], 0.5, "not above 0"), ([1.2], 1.0, "not above 0"), ([0.5], 0.0, "not above 0"), ([0.1], 0.5, "below")],
)
def test_what_is_no_probability_is_refused(propensity, least, why):
    with pytest.raises(PropensityRefused, match=why):
        Seen(np.array(propensity), least)


@given(
    st.lists(st.tuples(st.floats(0.05, 1), st.floats(0, 1000)), min_size=1, max_size=6),
)
def test_the_total_is_right_on_average_over_everything_that_could_have_been_let_through(payments):
    p, y = (np.array(column) for column in zip(*payments, strict=True))
    mean = 0.0
    for chosen in product([False, True], repeat=len(p)):
        seen = np.array(chosen)
        probability = float(np.where(seen, p, 1 - p).prod())
        if probability:
            found = Seen(p[seen], float(p.min())).total(y[seen])
            assert found.low <= found.value <= found.high
            mean += probability * found.value
    assert mean == pytest.approx(y.sum())


@given(
    st.lists(st.floats(0, 1e6), max_size=30),
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=30),
)
def test_what_was_drawn_and_found_nothing_leaves_room_whatever_was_certain(certain, drawn):
    y, p = np.array(certain + [0.0] * len(drawn)), np.array([1.0] * len(certain) + drawn)
    # In any order, between each other: sums of floats depend on it.
    order = np.random.default_rng(len(y)).permutation(len(y))
    found = Seen(p[order], min(drawn)).total(y[order])
    assert found.value == found.low
    assert found.high > found.value
    assert found.high - found.value == pytest.approx(3 * (1 / min(drawn) - 1) * max([1.0, *certain]), rel=1e-6)


def test_intervals_hold_the_truth_and_the_naive_figures_lie_outside():
    found = ran(*world(60_000, seed=1), seed=1, runs=200)
    assert min(found["coverage"].values()) >= LEAST_COVERAGE, found
    outside = {name for name, share in found["naive_within_the_interval"].items() if share < 0.05}
    # Among the declined alone everybody has the same share, so there counting is right.
    assert outside == {"fraud_stopped", "fraud_rate", "frauds"}


def test_draws_are_even_keyed_and_keep_whom_a_smaller_share_had():
    ids = [b"t%d" % n for n in range(20_000)]
    first, second = (draws(Mac(key), ids) for key in (b"a", b"b"))
    assert first.min() >= 0
    assert first.max() < 1
    counts = np.histogram(first, 20, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 50  # chi-squared of 19 degrees: beyond 43.8 in one of a thousand keys
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    small, large = (let_through(Mac(b"a"), ids, np.full(len(ids), share)) for share in (0.01, 0.05))
    assert (large | ~small).all()
    assert draws(Mac(b"a"), ids[7:8]) == first[7]
