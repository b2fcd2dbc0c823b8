"""Champion and challenger in simulated tests with a look every day: errors, and power beside what was planned.

How often identical models are told apart, by the confidence sequence and by an ordinary interval, and how often an
improvement is found. There are no payments and no models in it, only what they cost.

The same for a traffic split of identical models, each deciding for its own customers: `split_...` of the figures.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks import report
from lakehouse import settings as conf
from lakehouse.experiment_settings import Experiment
from training.arms import compared
from training.costs import Doubles, Ints, costs
from training.paired import Savings
from training.power import Plan, planned
from training.sequential import Interval, best_rho

NAIVE_LOOKS = 14
"""Two weeks of daily looks at an ordinary 95 % interval."""
NAIVE_Z = 1.959964


@dataclass(frozen=True)
class World:
    """A day of payments, and two models that look at the same cards."""

    payments_per_day: int
    stolen_per_day: float
    """Cards, with three frauds on average; the same outcome for each of them."""
    caught: float = 0.5
    """Share of stolen cards that the champion notices."""
    alarms: float = 0.009
    """Share of genuine payments that either model stops."""
    agreement: float = 0.7
    """Share of cards and alarms on which the models are of one mind."""

    @staticmethod
    def of(payments_per_day: int) -> "World":
        """A world with frauds on 0.3 % of its payments."""
        return World(payments_per_day, payments_per_day / 1000)


_SHARES = np.array([0.5, 0.3, 0.2])
"""Of what is stopped: challenge, review, decline."""
_AMOUNT_LOG_MEAN, _AMOUNT_LOG_DEVIATION, _FRAUDS_PER_CARD = np.log(8000.0), 1.2, 3.0


@dataclass(frozen=True)
class Run:
    """One simulated test: by card with a difference, in order of its day."""

    day: Ints
    saved: Doubles
    sizes: Ints
    champion_per_day: float


def simulated(world: World, better: float, days: int, of: Experiment, random: np.random.Generator) -> Run:
    """A test over some days; the challenger catches `better` more of the stolen cards."""
    cards = random.poisson(world.stolen_per_day * days)
    size = random.geometric(1 / _FRAUDS_PER_CARD, cards)
    luck = random.random(cards)
    own_luck = np.where(random.random(cards) < world.agreement, luck, random.random(cards))
    stopped = random.choice(len(_SHARES), cards, p=_SHARES) + 1
    before = np.where(luck < world.caught, stopped, 0)
    after = np.where(own_luck < world.caught + better, stopped, 0)
    genuine = random.poisson(world.alarms * world.payments_per_day * days * (2 - world.agreement))
    which = random.choice(3, genuine, p=_alarm_shares(world.agreement))
    stopped = random.choice(len(_SHARES), genuine, p=_SHARES) + 1
    one = (np.where(which != 1, stopped, 0), np.where(which != 0, stopped, 0))
    owner = np.concatenate([np.repeat(np.arange(cards), size), cards + np.arange(genuine)])
    amount = np.minimum(random.lognormal(_AMOUNT_LOG_MEAN, _AMOUNT_LOG_DEVIATION, len(owner)), of.cap_minor)
    fraud = owner < cards
    first = costs(np.concatenate([np.repeat(before, size), one[0]]), fraud, amount, of.costs)
    second = costs(np.concatenate([np.repeat(after, size), one[1]]), fraud, amount, of.costs)
    saved: Doubles = np.bincount(owner, first - second, cards + genuine).astype(np.float64)
    sizes = np.concatenate([size, np.ones(genuine, np.int64)])
    day = random.integers(0, days, cards + genuine)
    order = np.flatnonzero(saved)
    order = order[np.argsort(day[order], kind="stable")]
    return Run(day[order], saved[order], sizes[order], float(first.sum()) / days)


def _alarm_shares(agreement: float) -> Doubles:
    """Of all alarms: only the champion's, only the challenger's, of both."""
    alone = (1 - agreement) / (2 - agreement)
    return np.array([alone, alone, 1 - 2 * alone])


def at(run: Run, world: World, days: int) -> Savings:
    """What a look after so many days sees."""
    end = int(np.searchsorted(run.day, days))
    return Savings(days * world.payments_per_day, run.saved[:end], run.sizes[:end], run.champion_per_day * days)


def looks(run: Run, world: World, plan: Plan, days: int, least: int) -> list[tuple[int, Interval]]:
    """(day, interval) of every daily look that counts; the first day is 1."""
    every = ((day, at(run, world, day)) for day in range(1, days + 1))
    return [(day, one.interval(plan.alpha, plan.rho)) for day, one in every if len(one.by_card) >= least]


def told_apart(found: Sequence[tuple[int, Interval]]) -> bool:
    """Whether some look took one model for the better one."""
    return any(one.low > 0 or one.high < 0 for _, one in found)


def naive(run: Run, world: World, days: int) -> bool:
    """Whether some daily look at an ordinary 95 % interval did so."""
    every = [at(run, world, day) for day in range(1, days + 1)]
    return any(abs(one.mean) * np.sqrt(one.payments) > NAIVE_Z * one.deviation for one in every)


def plan_of(world: World, share: float, of: Experiment, seed: int) -> tuple[Plan, float]:
    """(the plan for an improvement of a share of the cost, by which more cards the challenger has to catch)."""
    random = np.random.default_rng(seed)
    pilot_d = 1000
    pilot = simulated(world, 0.0, pilot_d, of, random)
    cost = pilot.champion_per_day / world.payments_per_day
    whole = simulated(world, 1 - world.caught, pilot_d, of, random)
    gained = float(whole.saved.sum()) / (pilot_d * world.payments_per_day) / (1 - world.caught)
    better = share * cost / gained
    deviation = at(simulated(world, better, pilot_d, of, random), world, pilot_d).deviation
    return planned(share * cost, deviation, of.power, of.alpha, world.payments_per_day), better


@dataclass(frozen=True)
class Traffic:
    """Customers who pay every day, of whom a share is a challenger's."""

    customers: int = 20_000
    share: float = 0.1
    days: int = 60

    @property
    def world(self) -> World:
        """Their payments: one a customer and day, on average."""
        return World.of(self.customers)


def split_looks(traffic: Traffic, of: Experiment, random: np.random.Generator) -> list[tuple[int, Interval]]:
    """(day, interval) of every daily look at a split of identical models, by the statistic of `training.arms`."""
    world, n = traffic.world, traffic.customers
    # Some pay ten times as often as others, and are defrauded and stopped as often.
    habit = random.gamma(1.0, 1.0, n)
    weight = np.where(random.random(n) < traffic.share, -1 / traffic.share, 1 / (1 - traffic.share))
    often = habit / habit.sum()
    costly, paid = np.zeros(n), np.zeros(n, np.int64)
    rho = best_rho(traffic.days * world.payments_per_day, of.alpha)
    found = []
    for day in range(1, traffic.days + 1):
        paid += random.poisson(world.payments_per_day * often)
        stolen = random.poisson(world.stolen_per_day)
        frauds = random.geometric(1 / _FRAUDS_PER_CARD, stolen)
        alarms = random.poisson(world.alarms * world.payments_per_day)
        whose = random.choice(n, stolen + alarms, p=often)
        stopped = random.choice(len(_SHARES), stolen + alarms, p=_SHARES) + 1
        passes = np.arange(stolen + alarms) < stolen
        passes &= random.random(stolen + alarms) >= world.caught
        size = np.concatenate([frauds, np.ones(alarms, np.int64)])
        owner, outcome = np.repeat(whose, size), np.repeat(np.where(passes, 0, stopped), size)
        amount = np.minimum(random.lognormal(_AMOUNT_LOG_MEAN, _AMOUNT_LOG_DEVIATION, len(owner)), of.cap_minor)
        fraud = np.arange(len(owner)) < frauds.sum()
        costly += np.bincount(owner, costs(outcome, fraud, amount, of.costs), n)
        saved = compared(costly, paid, weight * costly, weight * paid, np.abs(weight) * paid)
        if min((costly[weight < 0] > 0).sum(), (costly[weight > 0] > 0).sum()) >= of.least_differences:
            found.append((day, saved.interval(of.alpha, rho)))
    return found


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    made = report.parser("experiment", __doc__, 200_000, "payments a day")
    made.set_defaults(runs=500)
    given = made.parse_args(argv)
    of, world = conf.load().experiment, World.of(given.size)
    plan, better = plan_of(world, of.least_improvement, of, given.seed)
    days = int(np.ceil(plan.days))
    print(f"planned before the test: {plan.text()}")
    random = np.random.default_rng(given.seed + 1)
    same = [simulated(world, 0.0, max(days, NAIVE_LOOKS), of, random) for _ in range(given.runs)]
    improved = [simulated(world, better, days, of, random) for _ in range(given.runs)]
    every = [looks(run, world, plan, days, of.least_differences) for run in improved]
    found_after = [next((day for day, one in found if one.above_zero), 0) for found in every]
    alike = [looks(run, world, plan, days, of.least_differences) for run in same]
    split, traffic = [], Traffic()
    for at in range(given.runs):
        split.append(split_looks(traffic, of, random))
        if not (at + 1) % 100:
            print(f"{at + 1} splits of identical models", flush=True)
    figures = {
        "payments_per_day": given.size,
        "planned_days": days,
        "planned_power": of.power,
        "identical_told_apart": round(float(np.mean([told_apart(found) for found in alike])), 4),
        "identical_promoted": round(float(np.mean([any(one.above_zero for _, one in found) for found in alike])), 4),
        "naive_told_apart_14_looks": round(float(np.mean([naive(run, world, NAIVE_LOOKS) for run in same])), 4),
        "naive_told_apart_all_looks": round(float(np.mean([naive(run, world, days) for run in same])), 4),
        "split_share": traffic.share,
        "split_customers": traffic.customers,
        "split_days": traffic.days,
        "split_identical_told_apart": round(float(np.mean([told_apart(found) for found in split])), 4),
        "split_identical_promoted": round(float(np.mean([any(i.above_zero for _, i in found) for found in split])), 4),
        "improvement_found": round(float(np.mean([day > 0 for day in found_after])), 4),
        "median_day_found": float(np.median([day for day in found_after if day])) if any(found_after) else 0.0,
    }
    print(f"{given.runs} tests each: {figures}")
    report.finish("experiment", given.runs, figures)


if __name__ == "__main__":
    main(sys.argv[1:])
