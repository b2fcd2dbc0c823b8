"""card_testing: a list of stolen numbers is tried out with tiny payments to learn which are alive.

One or two web shops, nine to eighteen cards of unrelated people within the hour, a few coins each; about half are
refused. The tester sits at one device, or changes it and his address as he goes.
"""

import numpy as np

from simulator import categories
from simulator.fraud.balance import Balance
from simulator.fraud.schedule import Schedule
from simulator.fraud.strangers import strangers
from simulator.intents import APPROVED, CVV, ECOM, EXPIRED, FUNDS, HONOUR, MANUAL, Intents, intents
from simulator.series import series

ROTATION = 6
"""Payments after which a careful tester takes another device and address."""
DEAD = 0.5
"""Share of stolen numbers that are refused."""


def card_testing(balance: Balance, rng: np.random.Generator, plan: Schedule) -> Intents:
    """The payments of the scheduled tests."""
    scene, rows, n = balance.scene, series(plan.size), len(plan)
    at_ms = rows.times(plan.start_ms, rng.exponential(3.0, len(rows)))
    once = np.ones(len(rows), np.int64)
    customer, card = balance.victims(rng, at_ms, once)
    shops = scene.merchants.web_of(categories.SMALL)
    home = scene.population.city[customer[rows.rank == 0]]
    first = balance.sites(rng, shops, home, plan.size)
    second = balance.sites(rng, shops, home, plan.size)
    in_second = (rng.random(n) < 0.3)[rows.of] & (rng.random(len(rows)) < 0.5)
    careful = rng.random(n) < 0.35
    # Every sitting (all of an episode, or ROTATION payments of it) is a stranger of its own.
    part = np.where(careful[rows.of], rows.rank // ROTATION, 0)
    _, sitting, length = np.unique(rows.of * 64 + part, return_inverse=True, return_counts=True)
    begins = np.flatnonzero(np.concatenate([[True], np.diff(sitting) > 0]))
    thief = strangers(balance, rng, scene.population.city[customer[begins]], at_ms[begins], length)
    dead = rng.random(len(rows)) < DEAD
    why = rng.choice([CVV, HONOUR, EXPIRED, FUNDS], len(rows), p=[0.4, 0.3, 0.15, 0.15])
    return intents(
        at_ms=at_ms,
        customer=customer,
        merchant=np.where(in_second, second[rows.of], first[rows.of]),
        channel=np.full(len(rows), ECOM),
        euros=np.exp(rng.normal(0.9, 0.6, len(rows))),
        card=card,
        entry=MANUAL,
        refused=np.where(dead, why, APPROVED),
        is_fraud=True,
        episode=rows.of,
        **thief.columns(sitting),
    )
