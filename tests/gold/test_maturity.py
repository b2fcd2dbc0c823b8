"""Maturity of labels: what has come at an age, corrected for what cannot have come yet, and what is still to come."""

import json
from datetime import timedelta

import numpy as np
import pytest

from gold import maturity
from gold.delays import DRAWS, curve, delays
from lakehouse import delta
from lakehouse.contracts import silver
from lakehouse.moments import DAY_MS
from tests.filled import DAY_1, row

FIRST = int(DAY_1.timestamp()) // 86_400


def test_a_young_payment_says_nothing_of_late_labels():
    """Days 0 to 3 with 10 payments each, as of the end of day 3: ages 3, 2, 1, 0.

    Delay 0 is seen of days 0 to 2 (2, 1 and 3 labels), delay 1 of days 0 and 1 (1, 1), delay 2 of day 0 (1). So by hand
    G(2) = 1 - 1/4 (of day 0: 4 labels of delay at most 2), G(1) = G(2) x (1 - 2/5), G(0) = 0.
    """
    day = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    delay = np.array([0, 0, 1, 2, 0, 1, 0, 0, 0, 1])  # the last is of a day that is not old enough: not counted
    found = delays(day, delay * DAY_MS + 5, np.arange(4), np.full(4, 10), 4 * DAY_MS, 3)
    assert found.age_d.tolist() == [3, 2, 1, 0]
    assert found.labels.tolist() == [[2, 1, 1], [1, 1, 0], [3, 0, 0], [0, 0, 0]]
    made = curve(found, seed=0)
    assert made.labels == 9
    assert made.share.tolist() == pytest.approx([0, 0.75 * 0.6, 0.75, 1])
    # 9 labels of 10 x (1 + 0.75 + 0.45 + 0) matured payments.
    rate = 9 / 22
    assert made.to_come.tolist() == pytest.approx([10 * rate, 10 * rate * 0.55, 10 * rate * 0.25, 0])
    assert made.total_to_come[0] == pytest.approx(10 * rate * 1.8)


def test_without_labels_there_is_no_curve_and_no_warning():
    made = curve(delays(np.array([0]), np.array([5 * DAY_MS]), np.arange(3), np.full(3, 10), 3 * DAY_MS, 2), seed=0)
    assert made.labels == 0
    assert np.isnan(made.share).all()
    assert np.isnan(made.total_to_come).all()


def world(seed):
    """(labels seen by day 90, labels still to come): frauds in bursts of a day, delays with a median of six days."""
    random = np.random.default_rng(seed)
    payments = random.poisson(3000, 90)
    day = np.repeat(np.arange(90), random.poisson(payments / 250 * random.gamma(2, 0.5, 90)))
    delay = (np.minimum(random.lognormal(np.log(6), 0.8, len(day)), 59.9) * DAY_MS).astype(np.int64)
    seen = (day * DAY_MS + random.integers(0, DAY_MS, len(day)) + delay) <= 90 * DAY_MS
    return delays(day[seen], delay[seen], np.arange(90), payments, 90 * DAY_MS, 60), int((~seen).sum())


TRUE_SHARES = {3: 0.1931, 7: 0.5765, 14: 0.8552}
"""P(delay < k days): the normal distribution at ln(k / 6) / 0.8."""


def test_intervals_hold_the_truth_and_counting_what_is_there_overrates_it():
    held, naive, runs = dict.fromkeys([*TRUE_SHARES, "to come"], 0), 0, 60
    for seed in range(runs):
        found, to_come = world(seed)
        made = curve(found, seed=0)
        for age, truth in TRUE_SHARES.items():
            held[age] += made.share_low[age] <= truth <= made.share_high[age]
        _, low, high = made.total_to_come
        held["to come"] += low <= to_come <= high
        plain = found.labels.sum(axis=0).cumsum() / found.labels.sum()
        naive += plain[6] > TRUE_SHARES[7]
    # 51 of 60: below it lies less than one binomial draw in a hundred at 93 %; these draws are always the same.
    assert all(count >= 51 for count in held.values()), held
    assert naive >= 51  # a fair estimate would be above the truth in half of them
    assert DRAWS >= 200


def put(root):
    """Forty days of ten payments each; every second one is charged back after three days and an hour."""
    days = range(40)

    def at(day, hours=0):
        return DAY_1 + timedelta(days=day, hours=hours)

    payments = [
        row(silver.PAYMENTS, day * 10 + n, transaction_id=f"{day}-{n}", event_time=at(day, n), engine_clock=at(day, n))
        for day in days
        for n in range(10)
    ]
    labels = [
        row(
            silver.LABELS,
            1000 + day * 10 + n,
            label_id=f"l{day}-{n}",
            transaction_id=f"{day}-{n}",
            source="chargeback" if n else "rule",
            confidence=0.9,
            event_time=at(day, n),
            label_available_at=at(day + 3, n + 1),
            engine_clock=at(day + 3, n + 1),
            is_fraud=True,
        )
        for day in days
        for n in (0, 2, 4, 6, 8)
        if day + 3 < 40
    ]
    taken = labels[1] | {"offset": 5000, "label_id": "r", "is_fraud": False, "reverses": labels[1]["label_id"]}
    delta.append(root, silver.PAYMENTS, payments)
    delta.append(root, silver.LABELS, [*labels, taken])
    return labels


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("maturity") / "lake")
    put(root)
    return root


def test_a_lake_s_curve_is_by_source_and_leaves_out_what_was_taken_back(root, settings):
    as_of_ms = (FIRST + 40) * DAY_MS - 1
    found = maturity.curves(root, as_of_ms, settings.labels)
    # Of 37 days labels came, of 35 in whole days; one of `chargeback` was taken back.
    assert {name: one.labels for name, one in found.items() if one.labels} == {
        "any": 4 * 35 - 1,
        "chargeback": 4 * 35 - 1,
        "rule": 35,
    }
    assert [round(float(one), 6) for one in found["rule"].share[:6]] == [0, 0, 0, 0, 1, 1]
    rows = maturity.label_maturity(root, as_of_ms, settings.labels)
    assert {(r["source"], r["age_d"]) for r in rows} == {(s, a) for s in found for a in range(len(found["any"].share))}
    assert [r["share"] for r in rows if r["source"] == "customer"] == [None] * len(found["any"].share)


def test_the_command_shows_the_curve_and_refuses_the_future(root, monkeypatch, capsys):
    monkeypatch.setenv("FRAUDLAKE__LAKE__ROOT", root)
    assert maturity.main(["--as-of", "2026-02-05T00:00:00Z"]) == 0
    out = capsys.readouterr().out
    assert "training.label_gap_d is 7: 100.0% (100.0%-100.0%) of them are known by then." in out
    assert "customer             0  none has arrived" in out
    assert maturity.main(["--json", "--as-of", "2026-02-05T00:00:00Z"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (first["source"], first["age_d"], first["share"]) == ("any", 0, 0.0)
    assert maturity.main(["--as-of", "2027-01-01T00:00:00Z"]) == 1
    assert "silver.payments has no payment as of that moment" in capsys.readouterr().err
