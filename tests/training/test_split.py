"""What a model may learn from: nothing that was not known when its test days began."""

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.moments import DAY_MS
from training.data import DataRefused, Dataset
from training.fit import calibrated, sampled
from training.metrics import measured
from training.split import by_time

START = 1_780_012_800_000
NEVER = 2**62 // 1000


def data(days, frauds):
    """A payment a day by a card of its own, at noon; `frauds` are {day: days until the label}."""
    n = days
    event = START + np.arange(n) * DAY_MS + DAY_MS // 2
    available = np.full(n, NEVER)
    for day, delay in frauds.items():
        available[day] = event[day] + delay * DAY_MS
    fraud = available < NEVER
    ids = pa.array([str(i) for i in range(n)])
    X = np.arange(n, dtype=np.float32).reshape(-1, 1)
    return Dataset(ids, X, event, fraud, available, np.arange(n), np.full(n, 100), START + n * DAY_MS, 0)


def test_parts_are_whole_days_with_a_gap_before_the_test():
    split = by_time(data(40, {3: 1, 20: 1}), START + 40 * DAY_MS, 7, 7, 7)
    assert split.fit.tolist() == list(range(19))
    assert split.validation.tolist() == list(range(19, 26))
    assert split.test.tolist() == list(range(33, 40))


def test_a_label_that_came_after_the_test_began_is_not_known():
    split = by_time(data(40, {3: 1, 20: 1, 10: 22.4, 11: 22.6}), START + 40 * DAY_MS, 7, 7, 7)
    assert np.flatnonzero(split.known).tolist() == [3, 10, 20]


def test_a_card_that_was_known_before_the_test_is_not_in_it():
    made = data(40, {3: 1, 20: 1})
    made.card[35] = made.card[3]
    assert 35 not in by_time(made, START + 40 * DAY_MS, 7, 7, 7).test


def test_too_short_a_history_says_which_part_is_empty():
    with pytest.raises(DataRefused, match="The fitting part of the split has 0 payments and no known fraud"):
        by_time(data(20, {3: 1}), START + 20 * DAY_MS, 7, 7, 7)


def test_a_sample_keeps_every_fraud_and_weighs_as_much_as_everything():
    fraud = np.zeros(100_000, np.bool_)
    fraud[::1000] = True
    rows, weights = sampled(fraud, np.arange(100_000), seed=1)
    assert fraud[rows].sum() == 100
    assert len(rows) == 100 + 20_000
    assert weights[fraud[rows]].tolist() == [1.0] * 100
    assert weights.sum() == pytest.approx(100_000)


def test_calibration_keeps_the_order_and_meets_the_base_rate(seed):
    random = np.random.default_rng(seed)
    raw = random.normal(size=20_000)
    fraud = random.random(20_000) < 1 / (1 + np.exp(3 - raw))
    slope, intercept = calibrated(raw, fraud)
    assert slope > 0
    assert (1 / (1 + np.exp(-(slope * raw + intercept)))).mean() == pytest.approx(fraud.mean(), rel=1e-3)
    slope, _ = calibrated(-raw, fraud)
    assert 0 < slope < 1e-6


def test_figures_of_four_payments():
    found = measured(np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, False, True, False]), 500)
    assert found["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["auc"] == pytest.approx(0.75)
    assert found["recall_at_budget"] == 0.5
    assert found["precision_at_budget"] == 0.5
