"""bust_out: a good customer of many months spends everything at once and disappears.

The account is real and old, device and home are the usual ones. Within a day or two seven to eleven purchases at three
to ten times the usual size: online, in shops, at the cash machine; at the end the limit is reached. Then the account is
silent.
"""

import numpy as np

from simulator import categories, habits, places, rhythm
from simulator.fraud.balance import Balance
from simulator.fraud.schedule import Schedule
from simulator.intents import ATM, ECOM, FUNDS, LIMIT, POS, USUAL, Intents, intents
from simulator.series import series

MIN_AGE_DAYS = 200


def bust_out(balance: Balance, rng: np.random.Generator, plan: Schedule) -> Intents:
    """What the scheduled customers spend in their last days."""
    scene = balance.scene
    customer, card = balance.victims(rng, plan.start_ms, plan.size, MIN_AGE_DAYS)
    # Nobody does it twice.
    once_only = np.isin(np.arange(len(plan)), np.unique(customer, return_index=True)[1])
    plan, customer, card = plan.take(once_only), customer[once_only], card[once_only]
    rows = series(plan.size)
    who = customer[rows.of]
    at_ms = rows.times(plan.start_ms, rng.lognormal(np.log(60), 1.1, len(rows)))
    offset = places.offset_min(scene.options.live_from_ms)[scene.population.city[who]]
    at_ms = rhythm.awake(at_ms, offset, rng.random(len(rows)))
    city, away, _ = scene.population.whereabouts(who, at_ms)
    once = np.ones(len(rows), np.int64)
    resale = scene.merchants.web_of((*categories.RESOLD, categories.NAMES.index("money transfer")))
    site = balance.sites(rng, resale, city, once)
    shop = balance.merchants(rng, lambda u, row: scene.merchants.street.draw(city[row], u), once)
    u = rng.random(len(rows))
    channel = np.where(u < 0.5, ECOM, np.where(u < 0.85, POS, ATM))
    machine = scene.merchants.cash.draw(city, rng.random(len(rows)))
    merchant = np.choose(np.searchsorted([0.5, 0.85], u, side="right"), [site, shop, machine])
    surf = habits.surfing(scene, rng, who, city, away, at_ms)
    worn_out = rng.random(len(rows)) < 0.5 * (rows.rank / plan.size[rows.of]) ** 2
    return intents(
        at_ms=at_ms,
        customer=who,
        merchant=merchant,
        channel=channel,
        euros=habits.prices(scene, rng, who, merchant) * rng.uniform(3, 10, len(rows)),
        city=city,
        card=card[rows.of],
        device=np.where(channel == ECOM, surf["device"], -1),
        network=np.where(channel == ECOM, surf["network"], -1),
        network_city=surf["network_city"],
        refused=np.where(worn_out, rng.choice([FUNDS, LIMIT], len(rows)), USUAL),
        is_fraud=True,
        episode=rows.of,
    )
