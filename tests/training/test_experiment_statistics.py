"""The comparison of champion and challenger in money: its figures, its interval at every look, its power."""

import tracemalloc

import numpy as np
import pytest

from benchmarks.experiment import NAIVE_LOOKS, Run, World, looks, naive, plan_of, simulated, told_apart
from lakehouse import settings as conf
from training.costs import costs
from training.paired import Pairs, Savings, savings
from training.power import planned, power_at
from training.sequential import best_rho, interval, radius

APPROVE, CHALLENGE, REVIEW, DECLINE = range(4)


@pytest.fixture(scope="module")
def of():
    return conf.load().experiment


def pairs(*rows):
    """Rows of (card, is fraud, amount, champion's outcome, challenger's outcome)."""
    card, fraud, amount, champion, challenger = zip(*rows, strict=True)
    n = len(rows)
    return Pairs(
        np.arange(n), np.array(card), np.array(fraud), np.array(amount), np.array(champion), np.array(challenger)
    )


def test_a_fraud_costs_what_passes_and_a_check_costs_what_it_does_to_the_honest(of):
    outcome = np.array([APPROVE, CHALLENGE, REVIEW, DECLINE] * 2)
    fraud = np.array([True] * 4 + [False] * 4)
    found = costs(outcome, fraud, np.full(8, 10_000.0), of.costs)
    assert found.tolist() == [10_000, 1_000, 2_400, 0, 0, 30, 600, 1_200]


def test_savings_are_summed_by_card_and_payments_without_a_difference_count_as_payments(of):
    found = savings(
        pairs(
            (0, True, 10_000, APPROVE, DECLINE),
            (0, True, 300_000, APPROVE, DECLINE),
            (1, False, 5_000, APPROVE, REVIEW),
            (2, False, 5_000, APPROVE, APPROVE),
            (2, True, 5_000, REVIEW, REVIEW),
        ),
        of.costs,
        of.cap_minor,
    )
    assert (found.payments, found.by_card.tolist(), found.payments_by_card.tolist()) == (5, [110_000, -600], [2, 1])
    assert found.mean == pytest.approx(109_400 / 5)
    assert found.champion_minor == 10_000 + 100_000 + 1_400
    mean = found.mean
    assert found.deviation == pytest.approx((((110_000 - 2 * mean) ** 2 + (-600 - mean) ** 2) / 5) ** 0.5)


def test_only_the_statistic_caps_amounts(of):
    found = savings(pairs((0, True, 300_000, APPROVE, DECLINE)), of.costs, None)
    assert found.by_card.tolist() == [300_000]


def test_payments_of_one_card_do_not_count_as_many(of):
    ten = [(True, 10_000, APPROVE, DECLINE)] * 10
    scattered = savings(pairs(*((n, *one) for n, one in enumerate(ten)), (10, False, 1, 0, 0)), of.costs, of.cap_minor)
    together = savings(pairs(*((0, *one) for one in ten), (10, False, 1, 0, 0)), of.costs, of.cap_minor)
    assert together.mean == scattered.mean
    assert together.deviation > scattered.deviation


def test_an_empty_test_says_nothing(of):
    found = savings(Pairs(*(np.zeros(0, kind) for kind in ("i8", "i8", "?", "i8", "i8", "i8"))), of.costs, of.cap_minor)
    told = found.interval(of.alpha, 0.01)
    assert (found.mean, found.deviation, told.low, told.high, told.above_zero) == (0, 0, -np.inf, np.inf, False)
    assert found.bootstrap(10, 0.05, 0).low == 0


def test_the_interval_is_the_one_of_the_paper():
    # Theorem 2.2 by hand: sigma 2, t 100, rho 0.5, alpha 0.05.
    by_hand = 2 * (2 * (100 * 0.25 + 1) / (100**2 * 0.25) * np.log((100 * 0.25 + 1) ** 0.5 / 0.05)) ** 0.5
    assert radius(np.array([100.0]), np.array([2.0]), 0.05, 0.5)[0] == pytest.approx(by_hand)
    found = interval(100, 1.0, 2.0, 0.05, 0.5)
    assert (found.low, found.high) == pytest.approx((1 - by_hand, 1 + by_hand))


def test_the_interval_is_narrowest_near_the_payments_it_was_planned_for():
    at = np.array([10_000.0])
    widths = [radius(at, np.ones(1), 0.05, best_rho(payments, 0.05))[0] for payments in (100, 10_000, 1_000_000)]
    assert widths[1] < min(widths[0], widths[2])


def test_a_plan_has_its_power_and_fewer_payments_have_less():
    plan = planned(1.5, 700.0, 0.8, 0.05, 200_000)
    assert power_at(plan.payments, 1.5, 700.0, 0.05, plan.rho) >= 0.8
    assert power_at(plan.payments * 0.9, 1.5, 700.0, 0.05, plan.rho) < 0.8
    assert plan.days == plan.payments / 200_000
    assert f"{plan.payments:,} matured payments" in plan.text()


def test_the_bootstrap_over_cards_covers_the_mean_and_is_the_same_for_a_seed():
    found = Savings(1000, np.array([500.0, -100.0, 900.0, 300.0]), np.array([1, 2, 1, 1]), 5_000.0)
    one, other = found.bootstrap(400, 0.05, 7), found.bootstrap(400, 0.05, 7)
    assert one == other
    assert one.low < found.mean == 1.6 < one.high


def test_the_bootstrap_holds_one_run_over_the_cards_at_a_time():
    cards, runs = 50_000, 40
    found = Savings(cards, np.ones(cards), np.ones(cards, np.int64), 1.0)
    tracemalloc.start()
    found.bootstrap(runs, 0.05, 7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * cards * runs / 4


def test_a_look_without_enough_differences_counts_as_a_day(of):
    world = World(1000, 0)
    run = Run(np.array([0, 1, 2, 2]), np.full(4, 5.0), np.ones(4, np.int64), 100.0)
    plan = planned(1.5, 700.0, 0.8, 0.05, 1000)
    assert [day for day, _ in looks(run, world, plan, 3, least=2)] == [2, 3]


def test_daily_looks_tell_identical_models_apart_in_at_most_five_percent_of_tests_and_naive_ones_in_many_more(of):
    world = World.of(200_000)
    plan, _ = plan_of(world, of.least_improvement, of, 1)
    random = np.random.default_rng(2)
    runs = [simulated(world, 0.0, NAIVE_LOOKS, of, random) for _ in range(150)]
    assert np.mean([told_apart(looks(run, world, plan, NAIVE_LOOKS, of.least_differences)) for run in runs]) <= 0.05
    assert np.mean([naive(run, world, NAIVE_LOOKS) for run in runs]) > 0.15


def test_an_improvement_of_five_percent_is_found_with_about_the_power_that_was_printed(of):
    world = World.of(200_000)
    plan, better = plan_of(world, of.least_improvement, of, 1)
    days, random = int(np.ceil(plan.days)), np.random.default_rng(3)
    found = [
        any(one.above_zero for _, one in looks(run, world, plan, days, of.least_differences))
        for run in (simulated(world, better, days, of, random) for _ in range(100))
    ]
    assert np.mean(found) >= of.power - 0.1
