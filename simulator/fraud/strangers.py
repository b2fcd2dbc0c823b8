"""The people behind stolen cards: whose devices they use, through which networks, speaking which language.

Most of what they use has a life of its own on the log: a hijacked computer, somebody's phone, a household's address
rented out as a proxy. What gives them away is that it is new to the *card*.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator import places
from simulator.devices import single_use
from simulator.fraud.balance import CANDIDATES, Balance
from simulator.randomness import Flags, Ints

BORROWED = 0.7
"""Share of devices that somebody else uses honestly; the rest is new (burners, wiped browsers, virtual machines)."""
NEAR = 0.6
"""Share of strangers that live where their victim lives; distance alone gives few away."""


@dataclass(frozen=True)
class Strangers:
    """One entry an episode."""

    city: Ints
    owner: Ints
    device: Ints
    tampered: Flags
    network: Ints
    network_city: Ints

    def columns(self, of: Ints) -> dict[str, Any]:
        """The columns of intents for rows of these episodes."""
        return {
            "city": self.city[of],
            "owner": self.owner[of],
            "device": self.device[of],
            "tampered": self.tampered[of],
            "network": self.network[of],
            "network_city": self.network_city[of],
            "stranger": np.ones(len(of), np.bool_),
        }


def strangers(balance: Balance, rng: np.random.Generator, victim_city: Ints, at_ms: Ints, weight: Ints) -> Strangers:
    """One stranger for each row; `weight` is how many payments he will make."""
    scene, n = balance.scene, len(at_ms)
    people, devices = scene.population, scene.devices
    near = rng.random(n) < NEAR
    city = np.where(near, victim_city, places.cities(rng.random(n)))
    owner = scene.residents.draw(city, rng.random(n))
    row = np.repeat(np.arange(n), CANDIDATES)
    other = scene.customers(rng.random(len(row)))
    phone, computer = devices.phone(other, at_ms[row]), devices.computer(people.household[other], at_ms[row])
    handheld = rng.random(n)[row] < 0.45
    borrowed = rng.random(n) < BORROWED
    candidates = np.where(borrowed[row], np.where(handheld, phone, computer), single_use(rng, len(row)))
    owners = np.where(borrowed[row], other, -1)
    device = balance.devices(rng, candidates.reshape(n, CANDIDATES), owners.reshape(n, CANDIDATES), weight)
    network, network_city = _networks(balance, rng, victim_city, city, at_ms)
    return Strangers(city, owner, device, ~borrowed & (rng.random(n) < 0.3), network, network_city)


def _networks(
    balance: Balance, rng: np.random.Generator, victim_city: Ints, city: Ints, at_ms: Ints
) -> tuple[Ints, Ints]:
    scene, n = balance.scene, len(at_ms)
    devices = scene.devices
    u = rng.random(n)
    # A rented household near the victim, a gateway or hotspot there, a VPN, or without care his own line.
    neighbour = scene.residents.draw(victim_city, rng.random(n))
    own = scene.residents.draw(city, rng.random(n))
    lodging = np.where(u < 0.5, neighbour, own)
    home = devices.home_network(scene.population.household[lodging], at_ms)
    carrier = devices.carrier_network(places.COUNTRY[victim_city], rng.random(n))
    hotspot = devices.public_network(victim_city, rng.random(n))
    exit_, exit_city = devices.vpn(rng.random(n))
    cases = [u < 0.5, u < 0.74, u < 0.86, u < 0.92]
    network = np.select(cases, [home, carrier, hotspot, exit_], home)
    return network, np.select(cases, [victim_city, victim_city, victim_city, exit_city], city)
