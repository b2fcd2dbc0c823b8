"""synthetic_identity: people who do not exist open accounts, behave for weeks, then spend all they can on one day.

A ring of two or three invented customers shares an address, a computer and a network, as a family does. Their first
weeks are ordinary payments (behaviour.py makes them like everybody's, and they are genuine in the truth); then each
buys three to five times what sells on, far above their habit, within half a day, and is never seen again.
"""

from dataclasses import dataclass

import numpy as np

from simulator import categories, habits, places, rhythm
from simulator.fraud.balance import Balance
from simulator.fraud.schedule import Schedule
from simulator.intents import ATM, ECOM, FUNDS, LIMIT, POS, USUAL, Intents, intents
from simulator.options import DAY_MS, HOUR_MS, Options
from simulator.population import Ring
from simulator.randomness import generator
from simulator.series import series

MIN_AGE_DAYS, MAX_AGE_DAYS = 25, 80
"""Age of the accounts when they burst: long enough for a first limit increase."""
BURST_H = 12.0


@dataclass(frozen=True)
class Rings:
    """The rings of a schedule; ring i bursts at plan.start_ms[i]."""

    plan: Schedule
    ring: Ring


def rings(options: Options, plan: Schedule) -> Rings:
    """The invented households of a schedule: one identity for every four payments or so."""
    rng = generator(options.seed, "rings")
    age_ms = (rng.uniform(MIN_AGE_DAYS, MAX_AGE_DAYS, len(plan)) * DAY_MS).astype(np.int64)
    size = np.clip(plan.size // 4, 2, 3)
    return Rings(plan, Ring(plan.start_ms - age_ms, plan.start_ms + 2 * DAY_MS, size))


def synthetic_identity(balance: Balance, rng: np.random.Generator, plan: Schedule) -> Intents:
    """What the rings spend when they burst."""
    scene, people = balance.scene, balance.scene.population
    rows = series(plan.size)
    member = np.argsort(people.ring, kind="stable")
    first = np.searchsorted(people.ring[member], np.arange(len(plan)))
    size = np.searchsorted(people.ring[member], np.arange(len(plan)), side="right") - first
    customer = member[first[rows.of] + rows.rank % size[rows.of]]
    passed_h = rng.exponential(3, len(rows)) % BURST_H
    city = people.city[customer]
    at_ms = plan.start_ms[rows.of] + (passed_h * HOUR_MS).astype(np.int64)
    at_ms = rhythm.awake(at_ms, places.offset_min(scene.options.live_from_ms)[city], rng.random(len(rows)))
    cash = rng.random(len(rows)) < 0.1
    resale = scene.merchants.web_of((*categories.RESOLD, categories.NAMES.index("money transfer")))
    once = np.ones(len(rows), np.int64)
    site = balance.sites(rng, resale, city, once)
    shop = balance.merchants(rng, lambda u, row: scene.merchants.street.draw(city[row], u), once)
    in_shop = ~cash & (rng.random(len(rows)) < 0.3)
    machine = scene.merchants.cash.draw(city, rng.random(len(rows)))
    merchant = np.where(cash, machine, np.where(in_shop, shop, site))
    surf = habits.surfing(scene, rng, customer, city, np.zeros(len(rows), np.bool_), at_ms)
    together = rng.random(len(rows)) < 0.85
    computer = scene.devices.computer(people.household[customer], at_ms)
    device = np.where(cash | in_shop, -1, np.where(together, computer, surf["device"]))
    return intents(
        at_ms=at_ms,
        customer=customer,
        merchant=merchant,
        channel=np.where(cash, ATM, np.where(in_shop, POS, ECOM)),
        euros=habits.prices(scene, rng, customer, merchant) * rng.uniform(3, 8, len(rows)),
        city=city,
        device=device,
        network=np.where(cash | in_shop, -1, surf["network"]),
        network_city=surf["network_city"],
        refused=np.where(
            rng.random(len(rows)) < 0.4 * passed_h / BURST_H, rng.choice([FUNDS, LIMIT], len(rows)), USUAL
        ),
        is_fraud=True,
        episode=rows.of,
    )
