"""merchant_collusion: a shop charges cards whose data its owner has bought or kept.

A street shop books eight to thirteen payments within a day or so on cards of people who mostly live elsewhere and were
never there, at three to five times its usual price, some typed in by hand or as telephone orders, most with a terminal
that says what it is told.
"""

import numpy as np

from simulator import categories, habits, places, rhythm
from simulator.fraud.balance import Balance
from simulator.fraud.schedule import Schedule
from simulator.intents import CHIP, CONTACTLESS, HONOUR, MANUAL, MOTO, POS, SWIPE, USUAL, Intents, intents
from simulator.series import series

LOCAL, DOMESTIC = 0.15, 0.6
"""Shares of cards of people of the shop's city and country; lists are sold by issuer, and issuers are national."""


def merchant_collusion(balance: Balance, rng: np.random.Generator, plan: Schedule) -> Intents:
    """The payments that the scheduled shops invent."""
    scene, rows, n = balance.scene, series(plan.size), len(plan)
    street = scene.merchants.street
    city = places.cities(rng.random(n))
    # Known or not, any shop of the street may be the one.
    shop = balance.merchants(rng, lambda u, row: street.any(city[row], u), plan.size, as_drawn=True)
    shop = scene.merchants.opened(shop, street.best(city), plan.start_ms)
    at_ms = rows.times(plan.start_ms, rng.exponential(60, len(rows)))
    at_ms = rhythm.awake(at_ms, places.offset_min(scene.options.live_from_ms)[city[rows.of]], rng.random(len(rows)))
    u, elsewhere = rng.random(len(rows)), places.compatriots(city[rows.of], rng.random(len(rows)))
    # Where the country is one city, the list comes from abroad.
    domestic = (u < LOCAL + DOMESTIC) & (elsewhere != city[rows.of])
    near = np.select([u < LOCAL, domestic], [city[rows.of], elsewhere], -1)
    customer, card = balance.victims(rng, at_ms, np.ones(len(rows), np.int64), near=near)
    merchant = shop[rows.of]
    by_telephone = categories.BY_TELEPHONE[scene.merchants.category[merchant]] & (rng.random(n) < 0.8)[rows.of]
    usual = categories.EUROS[scene.merchants.category[merchant]] * scene.merchants.price[merchant]
    euros = usual * rng.uniform(2.5, 6, len(rows)) * np.exp(rng.normal(0, 0.2, len(rows)))
    entry = rng.choice([MANUAL, SWIPE, CHIP, CONTACTLESS], len(rows), p=[0.34, 0.12, 0.36, 0.18])
    return intents(
        at_ms=at_ms,
        customer=customer,
        merchant=merchant,
        channel=np.where(by_telephone, MOTO, POS),
        euros=0.85 * euros + 0.15 * habits.prices(scene, rng, customer, merchant),
        city=city[rows.of],
        card=card,
        entry=np.where(by_telephone, USUAL, entry),
        stranger=True,
        refused=np.where(rng.random(len(rows)) < 0.06, HONOUR, USUAL),
        is_fraud=True,
        episode=rows.of,
    )
