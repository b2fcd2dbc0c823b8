"""What both arms of a traffic split cost, unpaired, on matured payments, and what the challenger saves.

A payment is decided in one arm only. Weighted by the inverse probability of its arm, the champion's count for and the
challenger's against: the mean of that is what the challenger saves a payment, also when the share was changed meanwhile
(Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, 2024, section 3: the average effect of a treatment, with one mean as
the regression of both arms).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from decisions.arms import CHALLENGER
from expectations.control import bundle_digest
from expectations.rules.rule_set import OUTCOMES
from expectations.split import split_of
from lakehouse import delta
from lakehouse.contracts import silver
from lakehouse.experiment_settings import Costs, Experiment
from lakehouse.label_ledger import COLUMNS, Trust, findings
from lakehouse.moments import DAY_MS
from lakehouse.spans import Span
from training.costs import costs
from training.criteria import Criterion
from training.matured import clock_ms
from training.paired import Doubles, Flags, Ints, Savings

PARTITION = 0
_FOREVER = 2**62
_LEAST_VARIANCE = 1e-4
"""Of a customer's arm, with a challenger's share of a basis point."""
_MOST_IMBALANCE = 4.0
"""Standard deviations: by chance once in sixteen thousand tests."""


class Decided(NamedTuple):
    """Matured payments that one model decided each, in the order of the log."""

    event_ms: Ints
    customer: Ints
    """Codes from zero on: payments of a customer are not independent, and all in one arm."""
    fraud: Flags
    amount_minor: Ints
    outcome: Ints
    """An index into approve, challenge, review, decline."""
    challenged: Flags
    """Decided in the challenger's arm."""
    probability: Doubles
    """With which the customer came into this arm."""


def spans(root: str, topic_id: str, champion: str, challenger: str) -> list[Span]:
    """Where on the log a challenger decided beside a champion, as far as silver has come."""
    scope = pc.field("scope")
    where = delta.of_partition(topic_id, PARTITION) & ((scope == "model") | (scope == "split"))
    rows = delta.rows(root, silver.CONTROL, ["offset", "scope", "version", "payload"], where).sort_by("offset")
    found: list[Span] = []
    serving, split, began = (0, ""), None, None
    for row in rows.to_pylist():
        if row["scope"] == "model":
            serving = (row["version"], bundle_digest(row["payload"]) or "")
        else:
            split = split_of(row["payload"])
        on = split is not None and (split.model_version, champion, split.digest) == (*serving, challenger)
        if on and began is None:
            began = row["offset"]
        elif not on and began is not None:
            found.append(Span(topic_id, PARTITION, began, row["offset"]))
            began = None
    return found if began is None else [*found, Span(topic_id, PARTITION, began, _FOREVER)]


def of_split(root: str, where: Sequence[Span], label_gap_d: int, trust: Trust) -> Decided:
    """The matured payments of both arms of a split; none before there are any."""
    within = reduce(or_, map(delta.within, where), pc.scalar(False))
    return _decided(root, within & pc.field("arm").is_valid(), label_gap_d, trust)


def of_champion(root: str, champion: str, label_gap_d: int, trust: Trust) -> Decided:
    """The matured payments that a champion decided while no split was on."""
    return _decided(root, (pc.field("model_digest") == champion) & pc.field("arm").is_null(), label_gap_d, trust)


def _decided(root: str, which: pc.Expression, label_gap_d: int, trust: Trust) -> Decided:
    as_of = clock_ms(root) or 0
    moment = pa.scalar((as_of - label_gap_d * DAY_MS) * 1000, pa.timestamp("us", "UTC"))
    accepted = pc.field("amount_base_minor").is_valid() & (pc.field("event_time") < moment)
    about = ["transaction_id", "event_time", "customer_token", "amount_base_minor", "outcome", "explored_from"]
    columns = ["offset", *about, "arm", "arm_probability"]
    rows = delta.rows(root, silver.DECISIONS, columns, which & accepted).sort_by("offset")
    if not rows.num_rows:
        nothing = np.zeros(0, np.int64)
        return Decided(nothing, nothing, nothing > 0, nothing, nothing, nothing > 0, np.zeros(0))
    # What exploration let through was declined as far as the model goes.
    outcome = pc.coalesce(rows.column("explored_from"), rows.column("outcome"))
    found = findings(delta.rows(root, silver.LABELS, COLUMNS), as_of, trust)
    frauds = found.filter(found.column("is_fraud")).column("transaction_id").combine_chunks()
    return Decided(
        rows.column("event_time").cast(pa.int64()).to_numpy() // 1000,
        rows.column("customer_token").combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64),
        pc.is_in(rows.column("transaction_id"), value_set=frauds).to_numpy(),
        rows.column("amount_base_minor").to_numpy(),
        pc.index_in(outcome, value_set=pa.array(OUTCOMES)).to_numpy().astype(np.int64),
        pc.fill_null(pc.equal(rows.column("arm"), CHALLENGER), False).to_numpy(),
        pc.fill_null(rows.column("arm_probability"), 1.0).to_numpy(),
    )


@dataclass(frozen=True)
class Unpaired(Savings):
    """What the challenger saves, of sums by customer in place of cards."""

    pooled: float
    """Standard deviation of a payment's saving if both models were alike, from the costs of both arms."""

    @property
    def deviation(self) -> float:
        """That of the sums, and never less than the pooled one.

        By chance a small arm may have had no large fraud yet: then it looks cheap and certain at once.
        """
        return max(super().deviation, self.pooled)


def compared(cost: Doubles, payments: Ints, weighted: Doubles, weight: Doubles, size: Doubles) -> Unpaired:
    """What the challenger saves, of sums by customer: costs, payments, costs under weights, weights, sizes of weights.

    A weight is one by the probability of the payment's arm, above zero in the champion's and below in the challenger's.
    The mean cost of a payment is taken off each first: it says nothing of either model.
    """
    n = int(payments.sum())
    mean = float(cost.sum()) / max(1, n)
    probability = payments / np.maximum(size, 1)
    either = 1 / np.clip(probability * (1 - probability), _LEAST_VARIANCE, None)
    pooled = float(np.sqrt(((cost - mean * payments) ** 2 * either).sum() / max(1, n)))
    champion_minor = float(weighted[weight > 0].sum())
    return Unpaired(n, weighted - mean * weight, payments, champion_minor, pooled)


def savings(found: Decided, of: Costs, cap_minor: int | None) -> Unpaired:
    """What the challenger saves, clustered by customer; amounts above the cap count as the cap, with None whole."""
    cost = capped_costs(found, of, cap_minor)
    weight = np.where(found.challenged, -1.0, 1.0) / found.probability

    def summed(values: Doubles) -> Doubles:
        return np.bincount(found.customer, values).astype(np.float64)

    return compared(
        summed(cost), np.bincount(found.customer), summed(weight * cost), summed(weight), summed(np.abs(weight))
    )


def capped_costs(found: Decided, of: Costs, cap_minor: int | None) -> Doubles:
    """What every payment's decision cost, minor units."""
    amount = found.amount_minor.astype(np.float64)
    return costs(found.outcome, found.fraud, amount if cap_minor is None else np.minimum(amount, cap_minor), of)


def deviation(found: Decided, share: float, of: Costs, cap_minor: int) -> tuple[float, float]:
    """(mean cost of a payment, standard deviation of what a split of a share would compare), from one model's payments.

    Clustered by customer. The challenger's costs are taken to vary as the champion's do.
    """
    cost = capped_costs(found, of, cap_minor)
    mean = float(cost.mean())
    by_customer = np.bincount(found.customer, cost - mean)
    alone = float((by_customer**2).sum()) / len(cost)
    return mean, float(np.sqrt(alone / share + alone / (1 - share)))


def judged(found: Decided, rho: float, of: Experiment) -> list[Criterion]:
    """Evidence, balance of the arms, and money, in this order."""
    capped = savings(found, of.costs, of.cap_minor)
    interval = capped.interval(of.alpha, rho)
    told = (
        f"saves {interval.mean:.3f} minor units a payment ({capped.share:.1%} of the cost), at every look between "
        f"{interval.low:.3f} and {interval.high:.3f}; with amounts whole {savings(found, of.costs, None).mean:.3f}"
    )
    costly = _costly(found, of)
    evidence = Criterion(
        "evidence",
        min(costly.values()) >= of.least_differences,
        f"{len(found.customer):,} matured payments, {int(found.challenged.sum()):,} of them the challenger's, "
        f"{int(found.fraud.sum()):,} frauds; customers with costs: "
        + ", ".join(f"{count:,} the {arm}'s" for arm, count in costly.items()),
        f"at least {of.least_differences} such customers in each arm",
    )
    return [evidence, _balance(found), Criterion("money", interval.above_zero, told, "the whole interval above zero")]


def _costly(found: Decided, of: Experiment) -> Mapping[str, int]:
    some = capped_costs(found, of.costs, of.cap_minor) > 0
    arms = {"champion": some & ~found.challenged, "challenger": some & found.challenged}
    return {arm: len(np.unique(found.customer[rows])) for arm, rows in arms.items()}


def _balance(found: Decided) -> Criterion:
    """Whether as many customers are in the challenger's arm as were to be, each counted at the first payment.

    A difference means that payments of one arm are missing, and then no figure of the test is worth anything.
    """
    needed = f"within {_MOST_IMBALANCE:g} standard deviations of the expected"
    _, first = np.unique(found.customer, return_index=True)
    challenged = found.challenged[first]
    expected = np.where(challenged, found.probability[first], 1 - found.probability[first])
    spread = float(np.sqrt((expected * (1 - expected)).sum()))
    if not spread:
        return Criterion("balance", False, "no customer is in any arm", needed)
    away = (float(challenged.sum()) - float(expected.sum())) / spread
    told = f"{int(challenged.sum()):,} of {len(first):,} customers are the challenger's, {expected.sum():,.0f} expected"
    return Criterion("balance", abs(away) <= _MOST_IMBALANCE, f"{told}, {away:+.1f} standard deviations", needed)


def days(found: Decided) -> float:
    """From the first payment to the last one, at least one."""
    span: Any = np.ptp(found.event_ms)
    return max(1.0, float(span) / DAY_MS)
