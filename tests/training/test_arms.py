"""The comparison of both arms of a traffic split: unbiased, clustered by customer, valid at every look."""

from datetime import timedelta

import numpy as np
import orjson
import pytest

from benchmarks.experiment import Traffic, split_looks, told_apart
from expectations.rules.rule_set import OUTCOMES
from lakehouse import delta
from lakehouse import settings as conf
from lakehouse.contracts import silver
from lakehouse.label_ledger import Trust
from lakehouse.spans import Span
from tests.filled import DAY_1, row
from training.arms import Decided, deviation, judged, of_champion, of_split, savings, spans
from training.criteria import failed

APPROVE, DECLINE = 0, 3
TRUST = Trust(("chargeback",), 0.5)
ONE, TWO, THREE = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture(scope="module")
def of():
    return conf.load().experiment


def decided(n, share, champion, challenger, seed=1, payments=2):
    """Payments of n customers, every tenth of whom is defrauded; outcomes of frauds and of others, by arm."""
    customer = np.repeat(np.arange(n), payments)
    challenged = (np.random.default_rng(seed).random(n) < share)[customer]
    fraud = customer % 10 == 0
    outcome = np.where(challenged, np.where(fraud, *challenger), np.where(fraud, *champion))
    probability = np.where(challenged, share, 1 - share)
    event_ms = np.arange(n * payments) * 60_000
    return Decided(event_ms, customer, fraud, np.full(n * payments, 5_000), outcome, challenged, probability)


def test_what_is_saved_is_the_difference_of_the_arms_each_by_its_probability(of):
    # Two payments in each arm: the champion lets a fraud of 5,000 pass, the challenger stops an honest one for 1,100.
    found = Decided(
        np.zeros(4, np.int64),
        np.arange(4),
        np.array([True, False, False, False]),
        np.full(4, 5_000),
        np.array([APPROVE, APPROVE, DECLINE, APPROVE]),
        np.array([False, False, True, True]),
        np.array([0.5, 0.5, 0.5, 0.5]),
    )
    assert savings(found, of.costs, None).mean == pytest.approx(5_000 / 2 - 1_100 / 2)


def test_a_share_that_is_changed_meanwhile_moves_no_mean(of):
    # Costs are ten times as high in the second half, when the challenger has four times as many customers.
    means = []
    for seed in range(40):
        first, second = (decided(2_000, share, *[(APPROVE, APPROVE)] * 2, seed) for share in (0.1, 0.4))
        dearer = second._replace(amount_minor=second.amount_minor * 10, customer=second.customer + 2_000)
        both = Decided(*(np.concatenate(parts) for parts in zip(first, dearer, strict=True)))
        means.append(savings(both, of.costs, None).mean / both.amount_minor.mean())
    assert abs(np.mean(means)) < 4 * np.std(means) / np.sqrt(len(means))


def test_payments_of_one_customer_do_not_count_as_many(of):
    one, ten = (decided(1_000, 0.5, *[(APPROVE, APPROVE)] * 2, payments=payments) for payments in (1, 10))
    assert savings(ten, of.costs, of.cap_minor).deviation > 2 * savings(one, of.costs, of.cap_minor).deviation


def test_the_deviation_of_a_plan_is_that_of_the_test(of):
    found = decided(20_000, 0.2, *[(APPROVE, APPROVE)] * 2)
    mean, planned = deviation(found, 0.2, of.costs, of.cap_minor)
    assert mean == pytest.approx(500)
    assert savings(found, of.costs, of.cap_minor).deviation == pytest.approx(planned, rel=0.05)


def test_a_challenger_that_stops_frauds_on_its_customers_meets_every_criterion_and_its_twin_none_in_money(of):
    better = judged(decided(20_000, 0.2, (APPROVE, APPROVE), (DECLINE, APPROVE)), 0.02, of)
    assert [(one.name, one.passed) for one in better] == [("evidence", False), ("balance", True), ("money", True)]
    checks = judged(decided(20_000, 0.2, (APPROVE, APPROVE), (DECLINE, DECLINE)), 0.02, of)
    assert failed(checks) == ["money"]
    twin = judged(decided(20_000, 0.2, *[(APPROVE, APPROVE)] * 2), 0.02, of)
    assert failed(twin) == ["money"]


def test_arms_that_lack_customers_are_no_test(of):
    found = decided(20_000, 0.2, *[(APPROVE, APPROVE)] * 2)
    lost = found.challenged & (found.customer % 7 == 0)
    assert "balance" in failed(judged(Decided(*(column[~lost] for column in found)), 0.02, of))
    assert "balance" in failed(judged(Decided(*(column[:0] for column in found)), 0.02, of))


def test_daily_looks_tell_identical_arms_apart_in_at_most_five_percent_of_splits(of):
    random = np.random.default_rng(4)
    runs = [split_looks(Traffic(2_000, 0.2, 30), of, random) for _ in range(200)]
    assert np.mean([len(found) > 0 for found in runs]) > 0.9
    assert np.mean([told_apart(found) for found in runs]) <= 0.05


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A lake whose control events lie at offsets 10, 20, ... and decisions of both arms behind them."""
    root = str(tmp_path_factory.mktemp("lake"))
    events = [
        ("model", 1, {"digest": ONE}),
        ("split", 1, {"digest": TWO, "share_bp": 1_000, "model_version": 1}),
        ("split", 2, {"digest": TWO, "share_bp": 2_000, "model_version": 1}),
        ("split", 3, {"digest": None}),
        ("split", 4, {"digest": THREE, "share_bp": 1_000, "model_version": 1}),
        ("split", 5, {"digest": TWO, "share_bp": 1_000, "model_version": 1}),
        ("model", 2, {"digest": THREE}),
        ("model", 3, {"digest": ONE}),
        ("split", 6, {"digest": TWO, "share_bp": 1_000, "model_version": 3}),
    ]
    control = [
        row(silver.CONTROL, 10 * at, scope=scope, version=version, payload=orjson.dumps(payload).decode())
        for at, (scope, version, payload) in enumerate(events, 1)
    ]
    delta.append(root, silver.CONTROL, control)
    told = [
        (5, None, "approve", None, False),
        (21, "champion", "approve", None, True),
        (22, "challenger", "decline", None, False),
        (23, "challenger", "approve", "decline", False),
        (51, "challenger", "approve", None, False),
        (91, "champion", "review", None, False),
    ]
    decisions = [
        row(
            silver.DECISIONS,
            offset,
            transaction_id=f"t{offset}",
            event_time=DAY_1 + timedelta(minutes=offset),
            customer_token=f"c{offset % 3}",
            amount_base_minor=1_000 + offset,
            outcome=outcome,
            explored_from=explored,
            model_digest=ONE,
            arm=arm,
            arm_probability=None if arm is None else {"champion": 0.9, "challenger": 0.1}[arm],
        )
        for offset, arm, outcome, explored, _ in told
    ]
    young = row(silver.DECISIONS, 92, event_time=DAY_1 + timedelta(days=25), arm="champion", amount_base_minor=1)
    rejected = row(silver.DECISIONS, 93, event_time=DAY_1, outcome="rejected")
    delta.append(root, silver.DECISIONS, [*decisions, young, rejected])
    labels = [
        row(
            silver.LABELS,
            1_000 + offset,
            label_id=f"l{offset}",
            transaction_id=f"t{offset}",
            is_fraud=True,
            source="chargeback",
            confidence=1.0,
            label_available_at=DAY_1 + timedelta(days=2),
            engine_clock=DAY_1 + timedelta(days=2),
        )
        for offset, *_, fraud in told
        if fraud
    ]
    delta.append(root, silver.LABELS, labels)
    delta.append(root, silver.BALANCE, [row(silver.BALANCE, 2_000, engine_clock=DAY_1 + timedelta(days=30))])
    return root


def test_a_split_lies_between_its_events_and_ends_with_another_model_in_force(root):
    found = [(one.start, one.end) for one in spans(root, "T", ONE, TWO)]
    assert found == [(20, 40), (60, 70), (90, 2**62)]
    assert [(one.start, one.end) for one in spans(root, "T", ONE, THREE)] == [(50, 60)]
    assert spans(root, "another", ONE, TWO) == []


def test_matured_payments_of_a_split_come_with_arm_outcome_before_exploration_and_label(root):
    found = of_split(root, spans(root, "T", ONE, TWO), 7, TRUST)
    assert found.amount_minor.tolist() == [1_021, 1_022, 1_023, 1_091]
    assert found.challenged.tolist() == [False, True, True, False]
    assert [OUTCOMES[at] for at in found.outcome] == ["approve", "decline", "decline", "review"]
    assert found.fraud.tolist() == [True, False, False, False]
    assert found.probability.tolist() == [0.9, 0.1, 0.1, 0.9]
    assert found.customer.tolist() == [0, 1, 2, 1]
    assert len(of_split(root, [], 7, TRUST).customer) == 0
    assert len(of_split(root, [Span("T", 0, 0, 6)], 7, TRUST).customer) == 0


def test_a_plan_looks_at_what_the_champion_decided_alone(root):
    found = of_champion(root, ONE, 7, TRUST)
    assert (found.amount_minor.tolist(), found.challenged.tolist(), found.probability.tolist()) == (
        [1_005],
        [False],
        [1],
    )
