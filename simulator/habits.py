"""How a customer pays: where from, at which merchant, how much. Bricks of every genuine payment, and of stolen ones."""

from typing import Any

import numpy as np

from simulator import categories, places
from simulator.devices import single_use
from simulator.intents import ECOM, PUBLIC_DEVICE, SHARED_DEVICE, SINGLE_USE_DEVICE
from simulator.intents import VPN as BEHIND_VPN
from simulator.randomness import Doubles, Flags, Ints, drawn
from simulator.scene import Scene

LEVEL_WEIGHT = 0.8
"""How much of a customer's spending level shows in one payment; the rest is what the thing costs."""
NEW_SHOP, NEW_SITE = 0.3, 0.42
"""Share of payments at merchants that are not among the customer's favourites."""
UNSEEN, UNSEEN_IN_SERIES = 0.1, 0.02
"""Shares of payments online from a device nobody has seen: private windows, a friend's tablet, a new browser; who pays
several times in a row sits at his own."""
SECOND_CARD_USE = 0.3
"""Share of payments with the second card of those who have two."""
PUBLIC_MACHINES = 3
"""Per city: computers of libraries and hotels that strangers use one after the other."""


def _favourite(favourites: Ints, u: Doubles) -> Ints:
    # The first is visited about as often as the second and third together (Zipf).
    weights = np.cumsum(1 / np.arange(1, favourites.shape[1] + 1))
    return favourites[np.arange(len(favourites)), drawn(weights, u)]


def shops(scene: Scene, rng: np.random.Generator, customer: Ints, city: Ints, at_ms: Ints) -> tuple[Ints, Flags]:
    """(street shop where each customer is, whether it is a favourite)."""
    n = len(customer)
    at_home = city == scene.population.city[customer]
    favourite = _favourite(scene.population.favourite_shops[customer], rng.random(n))
    other = scene.merchants.street.draw(city, rng.random(n))
    known = at_home & (rng.random(n) >= NEW_SHOP)
    merchant = np.where(known, favourite, other)
    return scene.merchants.opened(merchant, scene.merchants.street.best(city), at_ms), known


def sites(scene: Scene, rng: np.random.Generator, customer: Ints, at_ms: Ints) -> tuple[Ints, Flags]:
    """(web shop, whether it is a favourite)."""
    n = len(customer)
    favourite = _favourite(scene.population.favourite_sites[customer], rng.random(n))
    country = places.COUNTRY[scene.population.city[customer]]
    nowhere = np.zeros(n, np.int64)
    other = np.where(
        rng.random(n) < 0.35,
        scene.merchants.web_by_country.draw(country, rng.random(n)),
        scene.merchants.web.draw(nowhere, rng.random(n)),
    )
    known = rng.random(n) >= NEW_SITE
    merchant = np.where(known, favourite, other)
    return scene.merchants.opened(merchant, scene.merchants.web.best(nowhere), at_ms), known


def prices(scene: Scene, rng: np.random.Generator, customer: Ints, merchant: Ints) -> Doubles:
    """What each customer spends there, in euros."""
    category = scene.merchants.category[merchant]
    noise = rng.normal(0, 1, len(customer)) * categories.SPREAD[category]
    level = scene.population.level[customer] * LEVEL_WEIGHT
    euros: Doubles = categories.EUROS[category] * scene.merchants.price[merchant] * np.exp(noise + level)
    return euros


def surfing(
    scene: Scene, rng: np.random.Generator, customer: Ints, city: Ints, away: Flags, at_ms: Ints, unseen: float = UNSEEN
) -> dict[str, Any]:
    """Device, network, its city, and what of it looks like fraud, of customers who pay online."""
    n, population, devices = len(customer), scene.population, scene.devices
    household = population.household[customer]
    u = rng.random(n)
    by_phone = u < np.where(away, 0.9, 0.62)
    device = np.where(by_phone, devices.phone(customer, at_ms), devices.computer(household, at_ms))
    shared = ~by_phone & (population.household_size[household] > 1)
    once = rng.random(n) < unseen
    device = np.where(once, single_use(rng, n), device)
    public = ~once & (rng.random(n) < 0.006)
    machine = (2**40 + city * 16 + rng.integers(0, PUBLIC_MACHINES, n) * 2 + 1) << 16
    device = np.where(public, machine, device)

    country = places.COUNTRY[np.where(away & (rng.random(n) < 0.4), population.city[customer], city)]
    at_home = devices.home_network(household, at_ms)
    carrier = devices.carrier_network(country, rng.random(n))
    hotspot = devices.public_network(city, rng.random(n))
    v = rng.random(n)
    roams = np.where(v < 0.55, carrier, hotspot)
    settled = np.where(
        v < np.where(by_phone, 0.52, 0.93), at_home, np.where(v < np.where(by_phone, 0.9, 0.93), carrier, hotspot)
    )
    network = np.where(public, hotspot, np.where(away, roams, settled))
    # Who opens a private window, or a new browser, does so at home.
    network = np.where(once & ~away & (rng.random(n) < 0.85), at_home, network)
    hidden = rng.random(n) < np.where(population.hides[customer], 0.7, 0.006)
    exit_, exit_city = devices.vpn(rng.random(n))
    lookalike = np.select(
        [public, once, hidden, shared], [PUBLIC_DEVICE, SINGLE_USE_DEVICE, BEHIND_VPN, SHARED_DEVICE], 0
    )
    return {
        "device": device,
        "network": np.where(hidden, exit_, network),
        "network_city": np.where(hidden, exit_city, city),
        "lookalike": lookalike,
    }


def online(scene: Scene, rng: np.random.Generator, customer: Ints, at_ms: Ints) -> dict[str, Any]:
    """Columns of genuine payments online by these customers at these times."""
    city, away, _ = scene.population.whereabouts(customer, at_ms)
    merchant, known = sites(scene, rng, customer, at_ms)
    return {
        "at_ms": at_ms,
        "customer": customer,
        "merchant": merchant,
        "channel": np.full(len(customer), ECOM),
        "euros": prices(scene, rng, customer, merchant),
        "city": city,
        "familiar": known,
        **surfing(scene, rng, customer, city, away, at_ms),
    }


def cards(scene: Scene, rng: np.random.Generator, customer: Ints) -> Ints:
    """Which of their cards the customers take: mostly the first."""
    return (scene.population.second_card[customer] & (rng.random(len(customer)) < SECOND_CARD_USE)).astype(np.int64)
