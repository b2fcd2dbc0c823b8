"""A world, and its log day by day: the same options give the same records in the same order.

>>> from simulator.options import Options
>>> made = world(Options(end_ms=1_780_000_000_000, days=2, payments_per_day=200))
>>> [day.number for day in days(made)]
[0, 1]
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulator import behaviour, chargebacks, faults, lookalikes
from simulator.authorisations import authorisations
from simulator.fraud.plan import Plan, plan
from simulator.ids import Ids
from simulator.intents import concat
from simulator.options import Options
from simulator.payments import Payments, completed
from simulator.records import AUTHORISATION, LABEL, PAYMENT, Records, records
from simulator.records import concat as concat_records
from simulator.scene import Scene

LOOK_BACK_DAYS = chargebacks.LONGEST_DAYS + 1
"""A day's records come from its own payments and from those of so many days before it."""


@dataclass(frozen=True)
class Day:
    """What arrives in 24 hours from options.day_ms(number), in the order of the log."""

    number: int
    records: Records


@dataclass(frozen=True)
class World:
    """Everything about a world that does not depend on the day."""

    options: Options
    plan: Plan
    ids: Ids

    @property
    def scene(self) -> Scene:
        """The people, shops, devices and addresses."""
        return self.plan.scene

    @cached_property
    def ordinary_per_day(self) -> float:
        """Payments a day that are neither fraud nor planned nor charged nor odd: the rest of what was asked for."""
        wanted = self.options.payments_per_day
        planned = wanted * self.options.fraud_rate + self.plan.genuine_per_day
        return wanted * (1 - lookalikes.SHARE) - planned - behaviour.charges_per_day(self.scene)


def world(options: Options) -> World:
    """The world of these options."""
    return World(options, plan(options), Ids(options.seed, options.start_ms))


def payments(made: World, day: int) -> Payments:
    """The payments that happen on a day, in order of event time."""
    scene, options = made.scene, made.options
    start = options.day_ms(day)
    meant = concat(
        [
            behaviour.ordinary(scene, day, made.ordinary_per_day),
            behaviour.recurring(scene, day),
            lookalikes.lookalikes(scene, day),
            made.plan.between(start, options.day_ms(day + 1)),
        ]
    )
    return completed(scene, made.ids, meant, day)


def caused_by(made: World, day: int) -> Records:
    """Every record that the day's payments lead to, on the day itself or later, in no order."""
    paid = payments(made, day)
    meant, ids = paid.meant, made.ids
    words = ids.words("transaction", paid.index)
    answer, answered_ms = authorisations(ids.seed, day, paid)
    label, labelled_ms, row = chargebacks.labels(
        ids, day, paid, made.options.payments_per_day * made.options.fraud_rate
    )
    bad = faults.faults(made.options, ids, day, paid)
    parts = [
        records(
            PAYMENT,
            paid.batch,
            paid.received_ms,
            words,
            meant.customer,
            paid.index,
            np.where(meant.is_fraud, meant.scenario, 0),
            np.where(meant.is_fraud, meant.episode, -1),
            meant.lookalike,
        ),
        records(AUTHORISATION, answer, answered_ms, words, meant.customer),
        records(LABEL, label, labelled_ms, words[row], meant.customer[row]),
    ]
    return concat_records(parts if bad is None else [*parts, bad])


def days(made: World, first: int = 0, last: int | None = None) -> Iterator[Day]:
    """The log from day `first` to before day `last` (the end of the world); each day alone or in a row, the same."""
    last = made.options.span_days if last is None else last
    waiting: Records | None = None
    for number in range(max(0, first - LOOK_BACK_DAYS), last):
        start, end = made.options.day_ms(number), made.options.day_ms(number + 1)
        new = caused_by(made, number)
        pool = new if waiting is None else concat_records([waiting, new])
        waiting = pool.take(pool.received_ms >= end).compact()
        if number >= first:
            yield Day(number, pool.take((pool.received_ms >= start) & (pool.received_ms < end)).in_order())


def between(made: World, start_ms: int, end_ms: int) -> Iterator[Records]:
    """The log of [start, end) in world time, in pieces of at most a day."""
    options = made.options
    first = (start_ms - options.start_ms) // (options.day_ms(1) - options.start_ms)
    last = -(-(end_ms - options.start_ms) // (options.day_ms(1) - options.start_ms))
    for day in days(made, int(first), int(last)):
        at = day.records.received_ms
        yield day.records.take((at >= start_ms) & (at < end_ms))
