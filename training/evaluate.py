"""What models are worth on the test days: every metric, money, segments, intervals; a table for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from decisions.forests import Doubles
from features.catalogue import NAMES
from lakehouse.experiment_settings import Costs
from lakehouse.moments import DAY_MS
from training.bootstrap import intervals
from training.costs import Flags, Ints, costs
from training.data import Dataset
from training.matured import NEW_CUSTOMER_D, amount_bands
from training.metrics import budget_rows, measured
from training.money import Money, earned, outcomes
from training.ranking import CARDS_A_DAY, Ranked, card_days, card_precision
from training.truth import by_pattern as true_patterns

Table = Mapping[str, Mapping[str, float]]
"""Figures by row and column."""
RECALL = "recall_at_budget"


@dataclass(frozen=True)
class HeldOut:
    """The test payments, one row each, with what turned out to be fraud."""

    fraud: Flags
    amount_minor: Ints
    """Base currency."""
    card: Ints
    """Codes from zero on."""
    day: Ints
    """Days from zero on."""
    segments: Mapping[str, Flags]
    patterns: Mapping[str, Flags] = field(default_factory=dict)
    """Frauds by their true pattern, labelled or not, where somebody knows it."""

    @staticmethod
    def of(data: Dataset, rows: Ints, by_pattern: Mapping[str, Flags], truth: pa.Table | None = None) -> "HeldOut":
        """Rows of a data set; its cards and days are numbered anew. What rules of a pattern flag is a segment, too.

        `truth` (`training.truth.told`) names the patterns of frauds.
        """
        day = data.event_ms[rows] // DAY_MS
        amount = data.amount_base_minor[rows]
        return HeldOut(
            data.is_fraud[rows],
            amount,
            np.unique(data.card[rows], return_inverse=True)[1].astype(np.int64),
            day - (day.min() if len(day) else 0),
            _segments(data, rows, amount) | {f"rules of {name}": one for name, one in by_pattern.items() if one.any()},
            {} if truth is None else true_patterns(truth, data.transaction_id.take(pa.array(rows))),
        )

    def __len__(self) -> int:
        return len(self.fraud)


def _segments(data: Dataset, rows: Ints, amount_minor: Ints) -> dict[str, Flags]:
    """By name, which payments belong to a segment: channel, amount band, home or abroad, new customer."""

    def of(name: str) -> Doubles:
        column: Doubles = data.X[rows, NAMES.index(name)].astype(np.float64)
        return column

    remote, wallet, atm, abroad = (of(n) == 1 for n in ("is_remote", "is_wallet", "is_atm", "merchant_is_foreign"))
    found = {
        "channel remote": remote,
        "channel wallet": wallet,
        "channel atm": atm,
        "channel pos": ~remote & ~wallet & ~atm,
        **amount_bands(amount_minor),
        "abroad": abroad,
        "at home": of("merchant_is_foreign") == 0,
        "new customer": of("account_age_d") < NEW_CUSTOMER_D,
    }
    return {name: flags for name, flags in found.items() if flags.any()}


def judged(scores: Doubles, tested: HeldOut, budget_per_1000: float, of: Costs) -> dict[str, float]:
    """Every figure of one model: `metrics.measured`, card precision, and money in minor units by payment."""
    found = measured(scores, tested.fraud, budget_per_1000)
    days = card_days(scores, tested.fraud, tested.card, tested.day)
    found[f"card_precision_{CARDS_A_DAY}"] = card_precision(
        days, np.ones(int(tested.card.max()) + 1), np.ones(len(days))
    )
    money = earned(outcomes(scores, budget_per_1000), tested.fraud, tested.amount_minor, of)
    return found | by_payment(money, len(tested))


def by_payment(money: Money, payments: int) -> dict[str, float]:
    """Money in minor units of the base currency a payment."""
    return {
        "prevented_minor": money.prevented / payments,
        "friction_minor": money.friction / payments,
        "review_minor": money.review / payments,
        "net_minor": money.net / payments,
    }


def as_decided(outcome: Ints, tested: HeldOut, of: Costs) -> dict[str, float]:
    """Figures of outcomes that follow no budget: what is not approved counts as flagged; money by payment."""
    flagged, fraud = outcome > 0, tested.fraud
    found = float((flagged & fraud).sum())
    wrong, missed, genuine = float(flagged.sum()) - found, float(fraud.sum()) - found, float((~fraud).sum())
    nan = float("nan")
    return {
        "flagged_per_1000": 1000 * float(flagged.mean()),
        "recall": found / (found + missed) if found + missed else nan,
        "precision": found / (found + wrong) if found + wrong else nan,
        "false_positive_rate": wrong / genuine if genuine else nan,
        "accuracy": 1 - (wrong + missed) / len(tested),
        "f1": 2 * found / (2 * found + wrong + missed) if found + wrong + missed else nan,
        **by_payment(earned(outcome, fraud, tested.amount_minor, of), len(tested)),
    }


def _flagged(scores: Doubles, budget_per_1000: float) -> Flags:
    flagged = np.zeros(len(scores), np.bool_)
    flagged[budget_rows(scores, budget_per_1000)] = True
    return flagged


def parts(
    scores: Doubles, tested: HeldOut, which: Mapping[str, Flags], budget_per_1000: float, of: Costs
) -> dict[str, dict[str, float]]:
    """Segments under the outcomes of the whole: payments, frauds, found, false alarms, money."""
    flagged = _flagged(scores, budget_per_1000)
    outcome = outcomes(scores, budget_per_1000)
    found = {}
    for name, rows in which.items():
        fraud = tested.fraud & rows
        genuine = rows & ~tested.fraud
        money = earned(outcome[rows], tested.fraud[rows], tested.amount_minor[rows], of)
        found[name] = {
            "payments": float(rows.sum()),
            "frauds": float(fraud.sum()),
            RECALL: float(flagged[fraud].mean()) if fraud.any() else float("nan"),
            "precision_at_budget": float(tested.fraud[flagged & rows].mean())
            if (flagged & rows).any()
            else float("nan"),
            "false_positive_rate_at_budget": float(flagged[genuine].mean()) if genuine.any() else float("nan"),
            **by_payment(money, int(rows.sum())),
        }
    return found


def spread(
    scores: Doubles, tested: HeldOut, budget_per_1000: float, of: Costs, seed: int
) -> dict[str, tuple[float, float]]:
    """95 % intervals by bootstrap over cards and days; who is flagged stays as it is."""
    ranked = Ranked.of(scores, tested.fraud)
    by_day = card_days(scores, tested.fraud, tested.card, tested.day)
    days, at = np.unique(tested.day, return_inverse=True)
    flagged = _flagged(scores, budget_per_1000)
    amount = tested.amount_minor.astype(np.float64)
    approved = np.where(tested.fraud, amount, 0.0)
    net = approved - costs(outcomes(scores, budget_per_1000), tested.fraud, amount, of)

    def statistics(of_card: Doubles, of_day: Doubles) -> dict[str, float]:
        weights = of_card[tested.card] * of_day[at]
        auc, precision = ranked.auc_and_precision(weights)
        return {
            "auc": auc,
            "average_precision": precision,
            RECALL: _share(weights, flagged, tested.fraud),
            "precision_at_budget": _share(weights, tested.fraud, flagged),
            f"card_precision_{CARDS_A_DAY}": card_precision(by_day, of_card, of_day),
            "net_minor": float((weights * net).sum() / weights.sum()) if weights.any() else float("nan"),
        }

    return intervals(statistics, int(tested.card.max()) + 1, len(days), seed)


def recalls(
    scores: Doubles, tested: HeldOut, frauds: Mapping[str, Flags], budget_per_1000: float, seed: int
) -> dict[str, dict[str, float]]:
    """Of kinds of frauds the share within the budget, with 95 % intervals by bootstrap over cards and days."""
    flagged = _flagged(scores, budget_per_1000)
    days, at = np.unique(tested.day, return_inverse=True)
    kinds = {name: np.flatnonzero(rows) for name, rows in frauds.items()}

    def statistics(of_card: Doubles, of_day: Doubles) -> dict[str, float]:
        return {
            name: _share(of_card[tested.card[rows]] * of_day[at[rows]], flagged[rows], np.ones(len(rows), np.bool_))
            for name, rows in kinds.items()
        }

    cards = int(tested.card.max()) + 1
    found = statistics(np.ones(cards), np.ones(len(days)))
    sure = intervals(statistics, cards, len(days), seed) if kinds else {}
    return {
        name: {RECALL: found[name], f"{RECALL}_low": low, f"{RECALL}_high": high} for name, (low, high) in sure.items()
    }


def by_pattern(scores: Doubles, tested: HeldOut, budget_per_1000: float, seed: int) -> dict[str, dict[str, float]]:
    """Of every true pattern its frauds, how many of them labels know, and their recall.

    No precision: a false alarm is of no pattern.
    """
    found = recalls(scores, tested, tested.patterns, budget_per_1000, seed)
    return {
        name: {"frauds": float(rows.sum()), "labelled": float(tested.fraud[rows].sum()), **found[name]}
        for name, rows in tested.patterns.items()
    }


def _share(weights: Doubles, part: Flags, whole: Flags) -> float:
    total = float(weights[whole].sum())
    return float(weights[part & whole].sum()) / total if total else float("nan")


def at_false_positive_rate(scores: Doubles, fraud: Flags, rate: float) -> Flags:
    """Payments above the lowest score at which at most this share of genuine payments is flagged."""
    genuine = np.sort(scores[~fraud])[::-1]
    allowed = int(rate * len(genuine))
    limit = genuine[allowed] if allowed < len(genuine) else -np.inf
    return scores > limit


@dataclass(frozen=True)
class Evaluation:
    """Everything that a report says of the test days."""

    models: Table
    segments: Table
    patterns: Table
    """By true pattern: `by_pattern`; empty where nobody told."""
    intervals: Mapping[str, tuple[float, float]]
    curves: Mapping[str, Mapping[str, Sequence[float]]]
    """Of the first model, x and y by name: `curves`."""
    rules: Mapping[str, float]
    """Of rules alone, as they decide: `as_decided`."""


def evaluated(
    scores: Mapping[str, Doubles],
    by_rules: Ints,
    tested: HeldOut,
    budget_per_1000: float,
    of: Costs,
    seed: int,
) -> Evaluation:
    """All models side by side; segments, intervals and curves of the first; what rules alone decide."""
    first = next(iter(scores.values()))
    frauds = {name: tested.fraud & rows for name, rows in tested.segments.items()}
    sure = recalls(first, tested, frauds, budget_per_1000, seed)
    segments = parts(first, tested, tested.segments, budget_per_1000, of)
    return Evaluation(
        {name: judged(one, tested, budget_per_1000, of) for name, one in scores.items()},
        {name: one | sure[name] for name, one in segments.items()},
        by_pattern(first, tested, budget_per_1000, seed),
        spread(first, tested, budget_per_1000, of, seed),
        curves(first, tested.fraud),
        as_decided(by_rules, tested, of),
    )


CURVE_POINTS = 200


def curves(scores: Doubles, fraud: Flags) -> dict[str, dict[str, list[float]]]:
    """Precision over recall, recall over false-positive rate, share of frauds over mean score in ten equal groups."""
    falling = fraud[np.argsort(-scores, kind="stable")]
    found, flagged = np.cumsum(falling), np.arange(1, len(falling) + 1)
    at = np.unique(np.geomspace(1, len(falling), CURVE_POINTS).astype(np.int64)) - 1
    frauds, genuine = max(1, int(found[-1])), max(1, len(falling) - int(found[-1]))
    groups = np.array_split(np.argsort(scores, kind="stable"), 10)
    return {
        "precision_recall": {
            "x": np.round(found[at] / frauds, 6).tolist(),
            "y": np.round(found[at] / flagged[at], 6).tolist(),
        },
        "roc": {
            "x": np.round((flagged - found)[at] / genuine, 6).tolist(),
            "y": np.round(found[at] / frauds, 6).tolist(),
        },
        "calibration": {
            "x": [round(float(scores[rows].mean()), 6) for rows in groups if len(rows)],
            "y": [round(float(fraud[rows].mean()), 6) for rows in groups if len(rows)],
        },
    }
