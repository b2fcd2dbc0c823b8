"""amount_probing: how much does the card give? Ever larger amounts at one merchant until the issuer refuses.

Six to nine payments by one card at one merchant within an hour or two, from a few euros upwards, each 1.5 to 2.2 times
the one before; the last is refused for exceeding the limit more often than not, and then tried again a little lower.
"""

import numpy as np

from simulator.fraud.balance import Balance
from simulator.fraud.schedule import Schedule
from simulator.fraud.strangers import strangers
from simulator.intents import ECOM, FUNDS, LIMIT, POS, USUAL, Intents, intents
from simulator.series import series


def amount_probing(balance: Balance, rng: np.random.Generator, plan: Schedule) -> Intents:
    """The payments of the scheduled probes."""
    scene, rows, n = balance.scene, series(plan.size), len(plan)
    customer, card = balance.victims(rng, plan.start_ms, plan.size)
    city, _, _ = scene.population.whereabouts(customer, plan.start_ms)
    thief = strangers(balance, rng, scene.population.city[customer], plan.start_ms, plan.size)
    in_street = rng.random(n) < 0.2
    site = balance.sites(rng, scene.merchants.web, city, plan.size)
    shop = balance.merchants(rng, lambda u, row: scene.merchants.street.draw(city[row], u), plan.size)
    factor = rng.uniform(1.5, 2.2, len(rows))
    hit = (rng.random(n) < 0.6)[rows.of]
    # After a refusal (the last but one) the last try is a little lower.
    factor = np.where(hit & (rows.last == 0), rng.uniform(0.6, 0.9, len(rows)), factor)
    refused = np.where(hit & (rows.last == 1), rng.choice([LIMIT, FUNDS], len(rows)), USUAL)
    columns = thief.columns(rows.of)
    columns["city"] = np.where(in_street[rows.of], city[rows.of], columns["city"])
    for name in ("device", "network"):
        columns[name] = np.where(in_street[rows.of], -1, columns[name])
    first = np.exp(rng.normal(1.3, 0.6, n))
    return intents(
        at_ms=rows.times(plan.start_ms, rng.lognormal(np.log(6), 0.9, len(rows))),
        customer=customer[rows.of],
        merchant=np.where(in_street, shop, site)[rows.of],
        channel=np.where(in_street, POS, ECOM)[rows.of],
        euros=first[rows.of] * rows.growth(factor),
        card=card[rows.of],
        refused=refused,
        is_fraud=True,
        episode=rows.of,
        **columns,
    )
