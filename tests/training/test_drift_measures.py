"""A change is found within one window, and a quarter without one gives at most one false alarm a feature."""

import math

import numpy as np
import pytest

from lakehouse import settings as conf
from training.bins import Bins, ks, psi
from training.measures import Counted, calibration, distribution, rate
from training.null import distance_limit, independent_ks, independent_psi, rate_limits

ALPHA = conf.load("test").drift.false_alarm
FEATURES = ("amount", "payments", "is_remote", "channel", "account_age", "rare_count", "distance")
CARDS, REFERENCE, QUARTER = 400, 28, 90


def test_values_that_many_share_are_bins_and_the_rest_falls_between_its_quantiles():
    values = np.array([0.0] * 50 + list(range(1, 101)) + [np.nan] * 5, np.float32)
    bins = Bins.of(values)
    assert bins.spikes.tolist() == [0]
    assert len(bins.edges) == 9
    assert bins.counts(values).tolist() == [50, *[10] * 10, 5]
    assert bins.counts(np.array([0, 1e9, np.nan])).tolist() == [1, *[0] * 9, 1, 1]
    flag = Bins.of(np.array([0, 1, 1, np.nan]))
    assert flag.closed
    assert flag.counts(np.array([0, 1, 1, 7, np.nan])).tolist() == [1, 2, 1, 1]
    nobody = Bins.of(np.array([np.nan, np.nan]))
    assert nobody.counts(np.array([np.nan, 3])).tolist() == [1, 1]


def test_psi_and_ks_by_hand():
    # Shares 0.5, 0.5 and 0.25, 0.75 once each count is raised by a half.
    assert psi(np.array([4.5, 4.5]), np.array([2.0, 7.0])) == pytest.approx(
        0.25 * math.log(2) + -0.25 * math.log(2 / 3)
    )
    assert psi(np.array([30, 70]), np.array([300, 700])) < 1e-4
    assert ks(np.array([1, 2, 4]), np.array([3, 3, 4])) == pytest.approx(0.5)
    assert math.isnan(ks(np.array([0, 0]), np.array([1, 2])))


def test_no_limit_is_tighter_than_that_of_independent_rows():
    assert distance_limit(np.full(28, 1e-9), 0.01, ALPHA) == 0.01
    assert distance_limit(np.linspace(0.02, 0.06, 28), 0.01, ALPHA) > 0.06
    # 21.67 is the 99 % point of chi-squared of nine degrees, 1.628 that of Kolmogorov's statistic.
    assert independent_psi(10, 1000, 1000, 0.01) == pytest.approx(21.666 / 500, rel=1e-4)
    assert independent_ks(1000, 1000, 0.01) == pytest.approx(1.628 * math.sqrt(1 / 500), rel=1e-3)
    low, high = rate_limits(np.zeros(28), np.full(28, 1000.0), 1000, ALPHA)
    assert low == 0
    assert 0.002 < high < 0.006


def days(seed, count, rows=3000):
    """Days of payments by cards with habits of their own; weekends and every day's mood move all of them together."""
    random = np.random.default_rng(seed)
    level, age = random.normal(size=CARDS), random.exponential(300, CARDS)
    for day in range(count):
        weekend, mood = day % 7 >= 5, random.normal(0, 0.05)
        n = int(rows * (0.7 if weekend else 1) * random.lognormal(0, 0.1))
        card = random.integers(0, CARDS, n)
        yield np.stack(
            [
                np.exp(3 + 0.5 * level[card] + random.normal(0, 1, n) + mood),
                random.poisson(np.exp(0.3 * level[card] + mood)),
                random.random(n) < 0.3 + 0.1 * weekend + mood,
                random.choice(5, n, p=[0.5, 0.3, 0.1, 0.06, 0.04]),
                age[card],
                np.where(random.random(n) < 0.97, 0, np.exp(random.normal(2, 1, n))),
                np.where(random.random(n) < 0.1 + mood / 10, np.nan, random.normal(0, 1, n)),
            ],
            axis=1,
        )


@pytest.fixture(scope="module")
def quarter():
    """(reference by feature, the days of the quarter after it)."""
    every = list(days(seed=11, count=REFERENCE + QUARTER))
    past = every[:REFERENCE]
    counted = []
    for at in range(len(FEATURES)):
        bins = Bins.of(np.concatenate([day[::3, at] for day in past]))
        counted.append(Counted.of(bins, [day[:, at] for day in past]))
    return counted, every[REFERENCE:]


def alarms(counted, values):
    found = distribution("f", counted, counted.bins.counts(values), counted.bins.below(values), ALPHA)
    return [one.name for one in found if one.alarm]


def test_a_quarter_without_a_change_gives_at_most_one_false_alarm_a_feature(quarter):
    past, new = quarter
    false = {
        name: sum(bool(alarms(one, day[:, at])) for day in new)
        for at, (name, one) in enumerate(zip(FEATURES, past, strict=True))
    }
    assert max(false.values()) <= 1, false


@pytest.mark.parametrize("feature", FEATURES)
def test_a_unit_that_changed_a_constant_and_missing_values_are_found_within_one_window(quarter, feature):
    past, new = quarter
    at = FEATURES.index(feature)
    one, day = past[at], new[0][:, at]
    assert alarms(one, day) == []
    assert alarms(one, day * 100)
    assert alarms(one, np.full_like(day, np.nanmedian(day)))
    known = np.flatnonzero(~np.isnan(day))
    lost = day.copy()
    lost[known[:: len(known) // int(0.05 * len(day))]] = np.nan
    assert "missing_rate" in alarms(one, lost)


def test_a_new_category_of_one_in_twenty_is_found_within_one_window(quarter):
    past, new = quarter
    for feature in ("is_remote", "channel"):
        at = FEATURES.index(feature)
        day = new[0][:, at].copy()
        day[::20] = 77
        assert "unseen_rate" in alarms(past[at], day)


def test_rates_and_calibration_move_both_ways():
    hits, rows = np.array([90, 95, 100, 105, 110, 98, 102, 99, 101]), np.full(9, 1000)
    judged = {now: rate("decisions", "alert_rate", hits, rows, now, 1000, ALPHA).alarm for now in (30, 95, 110, 200)}
    assert judged == {30: True, 95: False, 110: False, 200: True}
    frauds, expected = np.full(9, 40.0), np.full(9, 41.0)
    found = {now: calibration(frauds, expected, now, 41.0, 4000, ALPHA).alarm for now in (5.0, 38.0, 52.0, 130.0)}
    assert found == {5.0: True, 38.0: False, 52.0: False, 130.0: True}
