"""An ordinary day: everybody's payments as an inhomogeneous Poisson process, and what agreements charge."""

from typing import Any

import numpy as np

from simulator import categories, habits, rhythm
from simulator.intents import (
    ATM,
    ECOM,
    MOTO,
    NEW_ADDRESS,
    NEW_EMAIL,
    NEW_PHONE,
    NIGHT_OWL,
    POS,
    STORED,
    TRAVEL,
    WALLET,
    YOUNG_ACCOUNT,
    Intents,
    concat,
    intents,
)
from simulator.options import DAY_MS
from simulator.places import offset_min
from simulator.randomness import Flags, Ints, generator, key_of, unit
from simulator.scene import Scene

CHARGES_EVERY_DAYS = 30
NEW_FOR_DAYS = 10
"""So long a new phone, e-mail or address counts as new among the look-alikes."""
YOUNG_FOR_DAYS = 60


def moments(scene: Scene, rng: np.random.Generator, customer: Ints, day: int) -> Ints:
    """A time of the day for each customer, by their own rhythm at home."""
    offset = offset_min(scene.options.day_ms(day) + DAY_MS // 2)
    people = scene.population
    return rhythm.moments(
        scene.options.day_ms(day), offset[people.city[customer]], people.profile[customer], rng.random(len(customer))
    )


def ordinary(scene: Scene, day: int, per_day: float) -> Intents:
    """The day's own payments of all customers; `per_day` is how many a usual day has in all."""
    rng = generator(scene.options.seed, "behaviour", day)
    people = scene.population
    day_ms = scene.options.day_ms(day)
    open_today = people.active(np.arange(len(people)), np.full(len(people), day_ms + DAY_MS // 2))
    expected = people.rate * open_today
    count = rng.poisson(expected * (per_day / expected.sum() / rhythm.THINNING))
    customer = np.repeat(np.arange(len(people)), count)
    at_ms = moments(scene, rng, customer, day)
    city, away, moving = people.whereabouts(customer, at_ms)
    offset = offset_min(day_ms + DAY_MS // 2)
    kept = rhythm.busy(at_ms, offset[city], rng.random(len(customer))) & ~moving & people.active(customer, at_ms)
    customer, at_ms, city, away = customer[kept], at_ms[kept], city[kept], away[kept]
    channel = (rng.random(len(customer))[:, None] >= people.channels[customer]).sum(axis=1)
    return concat(
        [_by_channel(scene, rng, c, *(x[channel == c] for x in (customer, at_ms, city, away))) for c in range(5)]
    )


def _by_channel(
    scene: Scene, rng: np.random.Generator, channel: int, customer: Ints, at_ms: Ints, city: Ints, away: Flags
) -> Intents:
    columns: dict[str, Any] = {"lookalike": np.zeros(len(customer), np.int64)}
    if channel == ECOM:
        columns |= habits.surfing(scene, rng, customer, city, away, at_ms)
        merchant, columns["familiar"] = habits.sites(scene, rng, customer, at_ms)
    elif channel == ATM:
        merchant = scene.merchants.cash.draw(city, rng.random(len(customer)))
    elif channel == MOTO:
        merchant = scene.merchants.telephone.draw(city, rng.random(len(customer)))
    else:
        merchant, columns["familiar"] = habits.shops(scene, rng, customer, city, at_ms)
        if channel == WALLET:
            columns["device"] = scene.devices.phone(customer, at_ms)
    assert channel in (POS, ECOM, MOTO, ATM, WALLET)
    columns["lookalike"] = _seen_as(scene, customer, at_ms, city, away, columns["lookalike"], "device" in columns)
    return intents(
        at_ms,
        customer,
        merchant,
        np.full(len(customer), channel),
        habits.prices(scene, rng, customer, merchant),
        city,
        card=habits.cards(scene, rng, customer),
        **columns,
    )


def _seen_as(
    scene: Scene, customer: Ints, at_ms: Ints, city: Ints, away: Flags, already: Ints, by_device: bool
) -> Ints:
    # What of an ordinary payment would make somebody look twice; the first that applies.
    people = scene.population
    new_ms, none = NEW_FOR_DAYS * DAY_MS, np.zeros(len(customer), np.bool_)
    phone_age = scene.devices.phone_age_ms(customer, at_ms)
    email_age = at_ms - people.email_changes_ms[customer]
    home_age = at_ms - people.household_moves_ms[people.household[customer]]
    offset = offset_min(int(at_ms[0]) if len(at_ms) else 0)[city]
    return np.select(
        [
            already > 0,
            away,
            (phone_age < new_ms) & by_device,
            (email_age >= 0) & (email_age < new_ms) if by_device else none,
            (home_age >= 0) & (home_age < new_ms) if by_device else none,
            at_ms - people.opened_ms[customer] < YOUNG_FOR_DAYS * DAY_MS,
            (people.profile[customer] == rhythm.NIGHT_OWL) & (rhythm.local_hour(at_ms, offset) < 5),
        ],
        [already, TRAVEL, NEW_PHONE, NEW_EMAIL, NEW_ADDRESS, YOUNG_ACCOUNT, NIGHT_OWL],
        0,
    ).astype(np.int64)


def charges_per_day(scene: Scene) -> float:
    """Expected number of recurring charges a day."""
    people = scene.population
    held = (people.subscriptions >= 0).sum(axis=1)
    start, end = scene.options.start_ms, scene.options.day_ms(scene.options.span_days)
    lifetime = np.clip(people.closes_ms, start, end) - np.clip(people.opens_ms, start, end)
    return float((held * lifetime).sum()) / (end - start) / CHARGES_EVERY_DAYS


def recurring(scene: Scene, day: int) -> Intents:
    """What subscriptions charge on the day: the same merchant and price every thirty days, at any hour."""
    rng = generator(scene.options.seed, "recurring", day)
    people, day_ms = scene.population, scene.options.day_ms(day)
    customer, which = np.nonzero(people.subscriptions >= 0)
    key = key_of(scene.options.seed, "subscriptions")
    number = customer * 8 + which
    phase = (unit(number, key) * CHARGES_EVERY_DAYS).astype(np.int64)
    at_ms = day_ms + (rng.random(len(customer)) * DAY_MS).astype(np.int64)
    due = (phase == day % CHARGES_EVERY_DAYS) & people.active(customer, at_ms)
    customer, which, number, at_ms = customer[due], which[due], number[due], at_ms[due]
    merchant = people.subscriptions[customer, which]
    category = scene.merchants.category[merchant]
    euros = categories.EUROS[category] * scene.merchants.price[merchant] * (0.6 + 0.9 * unit(number, key ^ 1))
    return intents(
        at_ms,
        customer,
        merchant,
        np.full(len(customer), ECOM),
        euros,
        people.city[customer],
        entry=STORED,
        familiar=True,
        recurring=True,
    )
