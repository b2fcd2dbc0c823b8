"""account_takeover: somebody else is in the account, has his parcels sent elsewhere, and buys what sells on.

One account, a device and a network that are new to it, often a changed e-mail address and nearly always another
shipping address, three to six purchases over hours at one and a half to four times the customer's usual amounts.
"""

import numpy as np

from simulator import categories, habits, places, rhythm
from simulator.fraud.balance import Balance
from simulator.fraud.schedule import Schedule
from simulator.fraud.strangers import strangers
from simulator.intents import ECOM, FUNDS, HONOUR, STORED, USUAL, Intents, intents
from simulator.series import series

STORED_CARD = 0.4
"""Share of purchases at the account's favourite sites, where the card is on file."""


def account_takeover(balance: Balance, rng: np.random.Generator, plan: Schedule) -> Intents:
    """The payments of the scheduled take-overs."""
    scene, rows, n = balance.scene, series(plan.size), len(plan)
    customer, card = balance.victims(rng, plan.start_ms, plan.size)
    thief = strangers(balance, rng, scene.population.city[customer], plan.start_ms, plan.size)
    at_ms = rows.times(plan.start_ms, rng.lognormal(np.log(35), 1.1, len(rows)))
    at_ms = rhythm.awake(
        at_ms, places.offset_min(scene.options.live_from_ms)[thief.city[rows.of]], rng.random(len(rows))
    )
    who, weight = customer[rows.of], np.ones(len(rows), np.int64)
    bought = balance.sites(rng, scene.merchants.web_of(categories.RESOLD), scene.population.city[who], weight)
    favourite, _ = habits.sites(scene, rng, who, at_ms)
    on_file = rng.random(len(rows)) < STORED_CARD
    merchant = np.where(on_file, favourite, bought)
    new_email = rng.random(n) < 0.45
    email = np.where(new_email, scene.contacts.foreign_emails(rng, n), USUAL)
    # Drops: pick-up points and empty flats near the thief; one in five has it sent home and waits for the courier.
    drop = rng.integers(0, len(scene.contacts.address_city), n)
    shipping = np.where(rng.random(n) < 0.8, drop, USUAL)
    return intents(
        at_ms=at_ms,
        customer=who,
        merchant=merchant,
        channel=np.full(len(rows), ECOM),
        euros=habits.prices(scene, rng, who, merchant) * rng.uniform(1.3, 3.5, len(rows)),
        card=card[rows.of],
        entry=np.where(on_file, STORED, USUAL),
        familiar=on_file,
        email=email[rows.of],
        shipping=shipping[rows.of],
        refused=np.where(rng.random(len(rows)) < 0.1, rng.choice([FUNDS, HONOUR], len(rows)), USUAL),
        is_fraud=True,
        episode=rows.of,
        **thief.columns(rows.of),
    )
