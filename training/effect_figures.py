"""Figures of a backtest: money, frauds and false alarms of both policies, their difference, and what each rule does.

Frauds, false alarms and money are of matured payments alone; outcomes and reviews are of all.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from decisions.ladder import RUNGS
from expectations.rules.rule_set import OUTCOMES
from lakehouse.experiment_settings import Costs, Experiment
from training.bootstrap import intervals
from training.costs import Doubles, costs
from training.effects import Effects, Side
from training.money import REVIEW, earned
from training.paired import Flags, Ints

MINUTES_AN_HOUR = 60
MOST_OVERLAPS = 5
Figures = dict[str, Any]


def share(part: float, whole: float) -> float | None:
    """A share; None of nothing."""
    return part / whole if whole else None


def of_side(effects: Effects, side: Side, of: Experiment) -> Figures:
    """One policy: outcomes, reviews, money in minor units, recall, precision, false-positive rate, payments by rung."""
    rows = effects.matured
    fraud, stopped = effects.fraud[rows], side.outcome[rows] > 0
    money = earned(side.outcome[rows], fraud, effects.amount_minor[rows], of.costs)
    reviews = int((side.outcome == REVIEW).sum())
    found = int((fraud & stopped).sum())
    rungs = np.bincount(side.rung, minlength=len(RUNGS)).tolist()
    return {
        "outcomes": dict(zip(OUTCOMES, np.bincount(side.outcome, minlength=len(OUTCOMES)).tolist(), strict=True)),
        "rungs": {name: n for name, n in zip(RUNGS, rungs, strict=True) if n},
        "reviews": reviews,
        "review_hours": reviews * of.review_minutes / MINUTES_AN_HOUR,
        "prevented_minor": money.prevented,
        "friction_minor": money.friction,
        "review_minor": money.review,
        "net_minor": money.net,
        "frauds_stopped": found,
        "genuine_stopped": int(stopped.sum()) - found,
        "recall": share(found, float(fraud.sum())),
        "precision": share(found, float(stopped.sum())),
        "false_positive_rate": share(float((~fraud & stopped).sum()), float((~fraud).sum())),
    }


def _net(outcome: Ints, fraud: Flags, amount: Doubles, of: Costs) -> Doubles:
    """Of every payment what its decision leaves, against approving everything: `Money.net` is the sum."""
    found: Doubles = np.where(fraud, amount, 0.0) - costs(outcome, fraud, amount, of)
    return found


def difference(effects: Effects, of: Costs, seed: int) -> Figures:
    """Changed minus original, with 95 % intervals of a bootstrap over cards and days; empty without matured ones."""
    rows = np.flatnonzero(effects.matured)
    fraud, amount = effects.fraud[rows], effects.amount_minor[rows].astype(np.float64)
    before, after = effects.before.outcome[rows], effects.after.outcome[rows]
    saved = _net(after, fraud, amount, of) - _net(before, fraud, amount, of)
    card, day = effects.card[rows], effects.day[rows]
    # What no policy stops and is no fraud counts in the false-positive rate's denominator alone.
    told = np.flatnonzero(fraud | (before > 0) | (after > 0))
    near = (card[told], day[told], fraud[told], before[told] > 0, after[told] > 0, saved[told])

    def statistics(of_card: Doubles, of_day: Doubles) -> Mapping[str, float]:
        cards, days, frauds, was, now, gain = near
        weight = of_card[cards] * of_day[days]
        genuine = float((of_card[card] * of_day[day])[~fraud].sum())

        def change(part: tuple[Flags, Flags], whole: tuple[float, float]) -> float:
            (a, b), (x, y) = part, whole
            if not x or not y:
                return float("nan")
            return float(weight[b].sum()) / y - float(weight[a].sum()) / x

        hit, wrong = (was & frauds, now & frauds), (was & ~frauds, now & ~frauds)
        all_frauds = float(weight[frauds].sum())
        return {
            "net_minor": float((weight * gain).sum()),
            "recall": change(hit, (all_frauds, all_frauds)),
            "precision": change(hit, (float(weight[was].sum()), float(weight[now].sum()))),
            "false_positive_rate": change(wrong, (genuine, genuine)),
        }

    if not len(rows):
        return {}
    cards, days = int(card.max()) + 1, int(day.max()) + 1
    value = statistics(np.ones(cards), np.ones(days))
    sure = intervals(statistics, cards, days, seed)
    return {
        name: {"value": _known(value[name]), "low": _known(sure[name][0]), "high": _known(sure[name][1])}
        for name in value
    }


def _known(number: float) -> float | None:
    return None if np.isnan(number) else number


def shifts(effects: Effects) -> dict[str, dict[str, int]]:
    """How many payments went from one outcome (outer) to another (inner), of all payments."""
    n = len(OUTCOMES)
    counts = np.bincount(effects.before.outcome * n + effects.after.outcome, minlength=n * n).reshape(n, n)
    return {name: dict(zip(OUTCOMES, row, strict=True)) for name, row in zip(OUTCOMES, counts.tolist(), strict=True)}


def by_pattern(effects: Effects) -> dict[str, Figures] | None:
    """Of every pattern the matured frauds, and how many both policies stop; None where nobody tells patterns."""
    if effects.patterns is None:
        return None
    found = {}
    for place, name in enumerate(effects.patterns):
        here = effects.matured & (effects.pattern == place)
        frauds = int(here.sum())
        was, now = (int((side.outcome[here] > 0).sum()) for side in (effects.before, effects.after))
        found[name] = {
            "frauds": frauds,
            "original_stopped": was,
            "changed_stopped": now,
            "original_recall": share(was, frauds),
            "changed_recall": share(now, frauds),
        }
    return found


def by_rule(effects: Effects, side: Side, known: Side) -> list[Figures]:
    """What each rule of a policy does; `known` is the other policy, whose rules are not new.

    `stopped_already` are payments that it fires on and the original policy does not approve; `with_other_rules` those
    on which another acting rule fires too, `overlap` the most frequent of these.
    """
    names = list(side.rules)
    payment, rule = side.fired
    acts = np.array([side.rules[name].state == "active" for name in names], np.bool_)
    acting = np.bincount(payment[acts[rule]] if len(rule) else payment, minlength=len(effects))
    out = []
    for place, name in enumerate(names):
        mine = payment[rule == place]
        fires = np.zeros(len(effects), np.bool_)
        fires[mine] = True
        matured = mine[effects.matured[mine]]
        frauds = int(effects.fraud[matured].sum())
        others = rule[fires[payment] & (rule != place) & acts[rule]] if len(rule) else rule
        count = np.bincount(others, minlength=len(names))
        top = [at for at in np.argsort(-count, kind="stable")[:MOST_OVERLAPS].tolist() if count[at]]
        out.append(
            {
                "rule": name,
                "state": side.rules[name].state,
                "new": name not in known.rules,
                "fired": len(mine),
                "matured": len(matured),
                "frauds": frauds,
                "precision": share(frauds, len(matured)),
                "stopped_already": int((effects.before.outcome[mine] > 0).sum()),
                "with_other_rules": int((acting[mine] > int(acts[place])).sum()),
                "overlap": {names[at]: int(count[at]) for at in top},
            }
        )
    return out
