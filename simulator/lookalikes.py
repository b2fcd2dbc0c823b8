"""Genuine payments that look like fraud: what makes detection hard, and a false alarm expensive.

Journeys, new phones, shared devices, VPNs and the like are in `behaviour` and `habits`; here are the days that are not
ordinary. Each function adds the payments of one kind; SHARES says how much of all payments they are.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from simulator import behaviour, categories, habits, places
from simulator.intents import (
    CLEARANCE_SALE,
    CROWD,
    ECOM,
    FUNDS,
    FUNDS_STREAK,
    LARGE_PURCHASE,
    MOVING_HOUSE,
    POS,
    RISING_SERIES,
    SHOPPING_BURST,
    SMALL_SERIES,
    USUAL,
    WALLET,
    Intents,
    concat,
    intents,
)
from simulator.options import DAY_MS
from simulator.randomness import Ints, generator
from simulator.scene import Scene
from simulator.series import Series, series

Columns = dict[str, Any]


def _people(scene: Scene, rng: np.random.Generator, n: int, day: int) -> tuple[Ints, Ints]:
    # (customer, a moment of the day in their rhythm)
    customer = scene.customers(rng.random(n))
    return customer, behaviour.moments(scene, rng, customer, day)


def _repeated(columns: Columns, rows: Series) -> Columns:
    return {name: column[rows.of] for name, column in columns.items()}


def _online(scene: Scene, rng: np.random.Generator, customer: Ints, start_ms: Ints, rows: Series) -> Columns:
    # One device and network for a whole series, as people do not change theirs between two clicks.
    city, away, _ = scene.population.whereabouts(customer, start_ms)
    surf = habits.surfing(scene, rng, customer, city, away, start_ms, habits.UNSEEN_IN_SERIES)
    columns: Columns = {"city": city, **surf}
    return _repeated(columns, rows)


def _large(scene: Scene, rng: np.random.Generator, day: int, payments: float) -> Intents:
    customer, at_ms = _people(scene, rng, rng.poisson(payments), day)
    columns = habits.online(scene, rng, customer, at_ms)
    city, _, _ = scene.population.whereabouts(customer, at_ms)
    shop, known = habits.shops(scene, rng, customer, city, at_ms)
    in_shop = rng.random(len(customer)) < 0.5
    columns["merchant"] = np.where(in_shop, shop, columns["merchant"])
    columns["channel"] = np.where(in_shop, POS, ECOM)
    columns["familiar"] = np.where(in_shop, known, columns["familiar"])
    columns["euros"] = habits.prices(scene, rng, customer, columns["merchant"]) * rng.uniform(3, 9, len(customer))
    for name in ("device", "network"):
        columns[name] = np.where(in_shop, -1, columns[name])
    return intents(**{**columns, "lookalike": np.full(len(customer), LARGE_PURCHASE)})


def _small(scene: Scene, rng: np.random.Generator, day: int, payments: float) -> Intents:
    customer, start_ms = _people(scene, rng, rng.poisson(payments / 3), day)
    rows = series(rng.integers(2, 5, len(customer)))
    columns = _online(scene, rng, customer, start_ms, rows)
    shop = scene.merchants.web_of(categories.SMALL).draw(np.zeros(len(customer), np.int64), rng.random(len(customer)))
    return intents(
        rows.times(start_ms, rng.exponential(5, len(rows))),
        customer[rows.of],
        shop[rows.of],
        np.full(len(rows), ECOM),
        np.exp(rng.normal(0.8, 0.6, len(rows))),
        familiar=(rng.random(len(customer)) < 0.5)[rows.of],
        **{**columns, "lookalike": np.full(len(rows), SMALL_SERIES)},
    )


def _rising(scene: Scene, rng: np.random.Generator, day: int, payments: float) -> Intents:
    # Topping up a game, raising a bid, one round more for the table.
    customer, start_ms = _people(scene, rng, rng.poisson(payments / 4), day)
    rows = series(rng.integers(3, 6, len(customer)))
    columns = _online(scene, rng, customer, start_ms, rows)
    merchant, known = habits.sites(scene, rng, customer, start_ms)
    first = np.exp(rng.normal(1.7, 0.6, len(customer)))
    return intents(
        rows.times(start_ms, rng.lognormal(1.6, 1.0, len(rows))),
        customer[rows.of],
        merchant[rows.of],
        np.full(len(rows), ECOM),
        first[rows.of] * rows.growth(rng.uniform(1.1, 2.2, len(rows))),
        familiar=known[rows.of],
        **{**columns, "lookalike": np.full(len(rows), RISING_SERIES)},
    )


def _short_of_funds(scene: Scene, rng: np.random.Generator, day: int, payments: float) -> Intents:
    customer, start_ms = _people(scene, rng, rng.poisson(payments / 3), day)
    rows = series(rng.integers(2, 5, len(customer)))
    n = len(customer)
    columns = _online(scene, rng, customer, start_ms, rows)
    city, _, _ = scene.population.whereabouts(customer, start_ms)
    shop, known_shop = habits.shops(scene, rng, customer, city, start_ms)
    site, known_site = habits.sites(scene, rng, customer, start_ms)
    in_shop = rng.random(n) < 0.6
    merchant = np.where(in_shop, shop, site)
    # Tried again as it was, or with less; in half of the series the last try is paid.
    euros = habits.prices(scene, rng, customer, merchant) * 1.6
    less = np.where((rows.rank > 0) & (rng.random(len(rows)) < 0.4), 0.6, 1.0)
    paid = (rows.last == 0) & (rng.random(len(rows)) < 0.5)
    for name in ("device", "network"):
        columns[name] = np.where(in_shop[rows.of], -1, columns[name])
    return intents(
        rows.times(start_ms, rng.lognormal(0.2, 0.8, len(rows))),
        customer[rows.of],
        merchant[rows.of],
        np.where(in_shop, POS, ECOM)[rows.of],
        euros[rows.of] * less,
        card=np.where(paid, scene.population.second_card[customer[rows.of]], 0),
        familiar=np.where(in_shop, known_shop, known_site)[rows.of],
        refused=np.where(paid, USUAL, FUNDS),
        **{**columns, "lookalike": np.full(len(rows), FUNDS_STREAK)},
    )


def _bursts(scene: Scene, rng: np.random.Generator, day: int, payments: float) -> Intents:
    customer, start_ms = _people(scene, rng, rng.poisson(payments / 4.5), day)
    return _spree(scene, rng, customer, start_ms, rng.integers(3, 7, len(customer)), 25.0, 1.1, SHOPPING_BURST)


def _spree(
    scene: Scene,
    rng: np.random.Generator,
    customer: Ints,
    start_ms: Ints,
    size: Ints,
    gap: float,
    dear: float,
    kind: int,
) -> Intents:
    # Purchases at many merchants, `gap` minutes apart in the median and `dear` times as expensive as usual.
    rows = series(size)
    who = customer[rows.of]
    at_ms = rows.times(start_ms, rng.lognormal(np.log(gap), 1.0, len(rows)))
    columns = _online(scene, rng, customer, start_ms, rows)
    shop, known_shop = habits.shops(scene, rng, who, columns["city"].astype(np.int64), at_ms)
    site, known_site = habits.sites(scene, rng, who, at_ms)
    in_shop = (rng.random(len(customer)) < 0.5)[rows.of]
    merchant = np.where(in_shop, shop, site)
    for name in ("device", "network"):
        columns[name] = np.where(in_shop, -1, columns[name])
    return intents(
        at_ms,
        who,
        merchant,
        np.where(in_shop, POS, ECOM),
        habits.prices(scene, rng, who, merchant) * dear,
        card=habits.cards(scene, rng, customer)[rows.of],
        familiar=np.where(in_shop, known_shop, known_site),
        **{**columns, "lookalike": np.full(len(rows), kind)},
    )


def _moving_house(scene: Scene, rng: np.random.Generator, day: int, payments: float) -> Intents:
    people, noon = scene.population, scene.options.day_ms(day) + DAY_MS // 2
    since = noon - people.household_moves_ms[people.household]
    moved = np.flatnonzero((since >= 0) & (since < behaviour.NEW_FOR_DAYS * DAY_MS))
    wanted = rng.poisson(payments / 4.5)
    customer = rng.choice(moved, min(wanted, len(moved)), replace=False) if len(moved) else moved
    start_ms = behaviour.moments(scene, rng, customer, day)
    return _spree(scene, rng, customer, start_ms, rng.integers(3, 7, len(customer)), 150.0, 1.8, MOVING_HOUSE)


def _crowds(scene: Scene, rng: np.random.Generator, day: int, payments: float) -> Intents:
    # A stadium's bar, a street market, a sale of tickets, an appeal for donations, an office that orders lunch.
    size = rng.integers(8, 30, rng.poisson(payments / 18.5))
    rows, n = series(size), len(size)
    day_ms = scene.options.day_ms(day)
    start_ms = day_ms + (rng.random(n) * DAY_MS).astype(np.int64)
    city = places.cities(rng.random(n))
    street = rng.random(n) < 0.5
    nowhere = np.zeros(n, np.int64)
    merchant = np.where(
        street,
        scene.merchants.opened(
            scene.merchants.street.draw(city, rng.random(n)), scene.merchants.street.best(city), start_ms
        ),
        scene.merchants.opened(
            scene.merchants.web.draw(nowhere, rng.random(n)), scene.merchants.web.best(nowhere), start_ms
        ),
    )
    at_ms = rows.times(start_ms, rng.exponential(2.5, len(rows)))
    local = scene.residents.draw(city[rows.of], rng.random(len(rows)))
    customer = np.where(street[rows.of], local, scene.customers(rng.random(len(rows))))
    where, away, _ = scene.population.whereabouts(customer, at_ms)
    columns = habits.surfing(scene, rng, customer, where, away, at_ms)
    # A third of the web crowds sits behind one network; half of those orders from one computer.
    together = ~street & (rng.random(n) < 0.33)
    one_device = together & (rng.random(n) < 0.5)
    office = scene.devices.public_network(city, rng.random(n))
    columns["network"] = np.where(together[rows.of], office[rows.of], columns["network"])
    columns["network_city"] = np.where(together[rows.of], city[rows.of], columns["network_city"])
    first = columns["device"][rows.rank == 0]
    columns["device"] = np.where(one_device[rows.of], first[rows.of], columns["device"])
    by_phone = street[rows.of] & (rng.random(len(rows)) < 0.35)
    phone = scene.devices.phone(customer, at_ms)
    columns["device"] = np.where(street[rows.of], np.where(by_phone, phone, -1), columns["device"])
    columns["network"] = np.where(street[rows.of], -1, columns["network"])
    usual = np.exp(rng.normal(1.9, 0.8, n))
    return intents(
        at_ms,
        customer,
        merchant[rows.of],
        np.where(street[rows.of], np.where(by_phone, WALLET, POS), ECOM),
        usual[rows.of] * np.exp(rng.normal(0, 0.35, len(rows))),
        np.where(street[rows.of], city[rows.of], where),
        **{**columns, "lookalike": np.full(len(rows), CROWD)},
    )


def _clearance(scene: Scene, rng: np.random.Generator, day: int, payments: float) -> Intents:
    # A shop sells out: more customers than ever, most of them new to it, and larger baskets.
    size = rng.integers(8, 20, rng.poisson(payments / 13.5))
    rows, n = series(size), len(size)
    city = places.cities(rng.random(n))
    street = scene.merchants.street
    merchant = street.any(city, rng.random(n))
    customer = scene.residents.draw(city[rows.of], rng.random(len(rows)))
    at_ms = behaviour.moments(scene, rng, customer, day)
    merchant = scene.merchants.opened(merchant[rows.of], street.best(city)[rows.of], at_ms)
    return intents(
        at_ms,
        customer,
        merchant,
        np.full(len(rows), POS),
        habits.prices(scene, rng, customer, merchant) * rng.uniform(1.3, 3, len(rows)),
        city[rows.of],
        card=habits.cards(scene, rng, customer),
        lookalike=CLEARANCE_SALE,
    )


_KINDS: dict[int, tuple[float, Callable[[Scene, np.random.Generator, int, float], Intents]]] = {
    LARGE_PURCHASE: (0.006, _large),
    SMALL_SERIES: (0.004, _small),
    RISING_SERIES: (0.004, _rising),
    FUNDS_STREAK: (0.006, _short_of_funds),
    SHOPPING_BURST: (0.005, _bursts),
    MOVING_HOUSE: (0.003, _moving_house),
    CROWD: (0.007, _crowds),
    CLEARANCE_SALE: (0.005, _clearance),
}
"""Kind -> share of all payments, its generator. Shares are chosen so that each outnumbers the fraud it looks like."""

SHARE = sum(share for share, _ in _KINDS.values())


def lookalikes(scene: Scene, day: int) -> Intents:
    """The day's genuine payments that look like fraud."""
    parts = []
    for kind, (share, make) in _KINDS.items():
        rng = generator(scene.options.seed, f"lookalike {kind}", day)
        parts.append(make(scene, rng, day, share * scene.options.payments_per_day))
    made = concat(parts)
    # Closed accounts pay nothing, nobody pays in a shop where he is not, and a day ends where the next begins.
    city, _, moving = scene.population.whereabouts(made.customer, made.at_ms)
    present = (scene.merchants.city[made.merchant] == city) & ~moving
    today = made.at_ms < scene.options.day_ms(day + 1)
    kept = today & (present | (made.channel == ECOM)) & scene.population.active(made.customer, made.at_ms)
    return made.take(kept)
