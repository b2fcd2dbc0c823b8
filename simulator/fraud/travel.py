"""impossible_travel: a copied card is used far from where its owner has just paid.

The owner pays in a shop at home; at most two and a half hours later the copy pays or draws cash in a city that
no aeroplane reaches in that time, two to four times. The owner's payment is genuine.
"""

import numpy as np

from simulator import habits, places
from simulator.fraud.balance import Balance
from simulator.fraud.schedule import Schedule
from simulator.intents import (
    ATM,
    CHIP,
    CONTACTLESS,
    HONOUR,
    LIMIT,
    MANUAL,
    POS,
    SWIPE,
    USUAL,
    Intents,
    concat,
    intents,
)
from simulator.options import HOUR_MS
from simulator.randomness import Ints
from simulator.series import series

FAR_KM = 400.0
COPY_KMH = 1_000.0
"""The copy is always faster than an airliner, and no transfer takes its time."""
SAME_COUNTRY = 0.5
"""Copies are used at home, too, if it is large enough; a border alone gives few away."""
LONGEST_H = 2.5
TRIES = 24


def _far_city(rng: np.random.Generator, home: Ints) -> Ints:
    # The first of some cities, drawn as residents are, that is far enough away; else the farthest of them. Half of the
    # copies look in their own country first.
    candidate = places.cities(rng.random(len(home) * TRIES)).reshape(-1, TRIES)
    distance = places.distance_km(np.repeat(home, TRIES), candidate.reshape(-1)).reshape(-1, TRIES)
    far = distance >= FAR_KM
    domestic = far & (places.COUNTRY[candidate] == places.COUNTRY[home][:, None])
    near = domestic.any(axis=1) & (rng.random(len(home)) < SAME_COUNTRY)
    pick = np.where(
        near, domestic.argmax(axis=1), np.where(far.any(axis=1), far.argmax(axis=1), distance.argmax(axis=1))
    )
    city: Ints = candidate[np.arange(len(home)), pick]
    return city


def impossible_travel(balance: Balance, rng: np.random.Generator, plan: Schedule) -> Intents:
    """The owners' payments and those of the copies."""
    scene, rows, n = balance.scene, series(plan.size), len(plan)
    customer, card = balance.victims(rng, plan.start_ms, plan.size)
    here, _, _ = scene.population.whereabouts(customer, plan.start_ms)
    there = _far_city(rng, here)
    shop, known = habits.shops(scene, rng, customer, here, plan.start_ms)
    owner = intents(
        plan.start_ms,
        customer,
        shop,
        np.full(n, POS),
        habits.prices(scene, rng, customer, shop),
        here,
        card=card,
        familiar=known,
        episode=np.arange(n),
    )
    latest_h = places.distance_km(here, there) / COPY_KMH
    soon_ms = (np.minimum(latest_h * rng.uniform(0.3, 1, n), LONGEST_H * rng.uniform(0.1, 1, n)) * HOUR_MS).astype(
        np.int64
    )
    at_ms = rows.times(plan.start_ms + soon_ms, rng.lognormal(np.log(18), 0.8, len(rows)))
    who, city = customer[rows.of], there[rows.of]
    cash = rng.random(len(rows)) < 0.2
    bought = balance.merchants(
        rng, lambda u, row: scene.merchants.street.draw(city[row], u), np.ones(len(rows), np.int64)
    )
    merchant = np.where(cash, scene.merchants.cash.draw(city, rng.random(len(rows))), bought)
    entry = rng.choice([CHIP, CONTACTLESS, SWIPE, MANUAL], len(rows), p=[0.42, 0.38, 0.14, 0.06])
    copy = intents(
        at_ms,
        who,
        merchant,
        np.where(cash, ATM, POS),
        habits.prices(scene, rng, who, merchant) * rng.uniform(0.9, 2.2, len(rows)),
        city,
        card=card[rows.of],
        entry=np.where(cash, USUAL, entry),
        stranger=True,
        refused=np.where(rng.random(len(rows)) < 0.12, rng.choice([HONOUR, LIMIT], len(rows)), USUAL),
        is_fraud=True,
        episode=rows.of,
    )
    return concat([owner, copy])
