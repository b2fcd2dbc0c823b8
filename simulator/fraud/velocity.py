"""velocity_attack: a stolen card is used as often as possible before it is blocked.

Six to eleven purchases within the hour at as many merchants, each of an ordinary size: online with the stolen number,
or in shops around the victim's home with the stolen card or a phone that took it over, below the amount that asks for
a PIN.
"""

import numpy as np

from simulator import devices, habits
from simulator.fraud.balance import Balance
from simulator.fraud.schedule import Schedule
from simulator.fraud.strangers import strangers
from simulator.intents import CONTACTLESS, ECOM, FUNDS, HONOUR, LIMIT, MOTO, POS, USUAL, WALLET, Intents, intents
from simulator.series import series

NO_PIN_EUROS = 50.0
"""Contactless payments up to it need no PIN (PSD2 technical standards, article 11)."""


def velocity_attack(balance: Balance, rng: np.random.Generator, plan: Schedule) -> Intents:
    """The payments of the scheduled attacks."""
    scene, rows, n = balance.scene, series(plan.size), len(plan)
    customer, card = balance.victims(rng, plan.start_ms, plan.size)
    city, _, _ = scene.population.whereabouts(customer, plan.start_ms)
    thief = strangers(balance, rng, scene.population.city[customer], plan.start_ms, plan.size)
    at_ms = rows.times(plan.start_ms, rng.lognormal(np.log(3), 0.9, len(rows)))
    in_street = (rng.random(n) < 0.3)[rows.of]
    # A stolen number that the thief's phone accepts as its own pays at the till, too.
    by_phone = in_street & (devices.is_handheld(thief.device) & (rng.random(n) < 0.6))[rows.of]
    once = np.ones(len(rows), np.int64)
    site = balance.sites(rng, scene.merchants.web, city[rows.of], once)
    shop = balance.merchants(rng, lambda u, row: scene.merchants.street.draw(city[rows.of][row], u), once)
    # Some shops take the number by telephone.
    by_call = ~in_street & (rng.random(len(rows)) < 0.12)
    answering = scene.merchants.telephone.draw(city[rows.of], rng.random(len(rows)))
    merchant = np.where(in_street, shop, np.where(by_call, answering, site))
    euros = habits.prices(scene, rng, customer[rows.of], merchant) * rng.uniform(0.8, 1.8, len(rows))
    columns = thief.columns(rows.of)
    columns["city"] = np.where(in_street, city[rows.of], columns["city"])
    columns["device"] = np.where((in_street & ~by_phone) | by_call, -1, columns["device"])
    columns["network"] = np.where(in_street | by_call, -1, columns["network"])
    # The longer it goes on, the more often the issuer says no.
    late = rng.random(len(rows)) < 0.03 * rows.rank
    return intents(
        at_ms=at_ms,
        customer=customer[rows.of],
        merchant=merchant,
        channel=np.select([by_phone, in_street, by_call], [WALLET, POS, MOTO], ECOM),
        euros=np.where(in_street, np.minimum(euros, NO_PIN_EUROS * rng.uniform(0.6, 1, len(rows))), euros),
        card=card[rows.of],
        entry=np.where(in_street, CONTACTLESS, USUAL),
        refused=np.where(late, rng.choice([FUNDS, HONOUR, LIMIT], len(rows)), USUAL),
        is_fraud=True,
        episode=rows.of,
        **columns,
    )
