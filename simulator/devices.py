"""Devices and network addresses by number: who has which when, what they look like, how they are spelled.

A device number is (owner << 16 | generation): phones belong to a customer, computers to a household, and every few
months a new one comes or its cookies go. A device that is seen once only (a private window, a friend's tablet, a
burner) has a large random number. The lowest bit of the owner of the number says whether it is held in the hand.
"""

from dataclasses import dataclass

import numpy as np

from simulator import places
from simulator.options import DAY_MS, Options
from simulator.population import Population
from simulator.randomness import Doubles, Flags, Ints, generator, key_of, unit

HOMES, CARRIERS, PUBLIC, EXITS = 0, 2**27, 2**27 + 2**26, 2**27 + 2**26 + 2**25
"""First network number of: leases of households, carriers' gateways, public places, VPN exits."""
VPN_EXITS = 64
KNOWN_EXITS = 0.8
"""Share of VPN exits that a proxy list knows; the lists always lag."""
V6_HOMES = 0.25

SYSTEMS = ("Android", "iOS", "Windows", "macOS", "Linux")
BROWSERS = ("Chrome", "Safari", "Firefox", "Edge", "Samsung Internet")
SCREENS = (
    "360x800",
    "390x844",
    "412x915",
    "430x932",
    "393x873",
    "1366x768",
    "1440x900",
    "1536x864",
    "1920x1080",
    "2560x1440",
)


@dataclass(frozen=True)
class Devices:
    """When devices and leases change hands; one entry a customer (phones) or household (computers, leases)."""

    phone_every_ms: Ints
    computer_every_ms: Ints
    lease_every_ms: Ints
    phase: Doubles
    household_phase: Doubles
    gateways: Ints
    """Carrier gateways by country."""
    hotspots: Ints
    """Public networks by city."""
    start_ms: int
    look_key: int
    network_key: int

    def _generation(self, at_ms: Ints, every_ms: Ints, phase: Doubles) -> Ints:
        return ((at_ms - self.start_ms) / every_ms + 1_000 + phase).astype(np.int64) - 1_000

    def phone(self, customer: Ints, at_ms: Ints) -> Ints:
        """Each customer's phone at that time."""
        generation = self._generation(at_ms, self.phone_every_ms[customer], self.phase[customer])
        return (customer * 2) << 16 | generation

    def phone_age_ms(self, customer: Ints, at_ms: Ints) -> Ints:
        """How long each customer has had that phone."""
        every = self.phone_every_ms[customer]
        into = ((at_ms - self.start_ms) / every + self.phase[customer]) % 1
        return (into * every).astype(np.int64)

    def computer(self, household: Ints, at_ms: Ints) -> Ints:
        """The computer that a household shares at that time."""
        generation = self._generation(at_ms, self.computer_every_ms[household], self.household_phase[household])
        return (household * 2 + 1) << 16 | generation

    def home_network(self, household: Ints, at_ms: Ints) -> Ints:
        """The network number that a household's provider leases to it at that time."""
        lease = self._generation(at_ms, self.lease_every_ms[household], self.household_phase[household])
        return HOMES + (household * 16 + lease % 16) % CARRIERS

    def carrier_network(self, country: Ints, u: Doubles) -> Ints:
        """One of the gateways behind which a country's phones share an address."""
        return CARRIERS + country * 2**16 + (u * self.gateways[country]).astype(np.int64)

    def public_network(self, city: Ints, u: Doubles) -> Ints:
        """A café, a hotel or a library of the city."""
        return PUBLIC + city * 2**14 + (u * self.hotspots[city]).astype(np.int64)

    def vpn(self, u: Doubles) -> tuple[Ints, Ints]:
        """(network number, city) of an exit."""
        exit_ = (u * VPN_EXITS).astype(np.int64)
        return EXITS + exit_, places.cities(unit(exit_, self.network_key))

    def is_known_proxy(self, network: Ints) -> Flags:
        """Whether a proxy list has the address."""
        return (network >= EXITS) & (unit(network, self.network_key ^ 5) < KNOWN_EXITS)

    def is_v6(self, network: Ints) -> Flags:
        """Whether it is an IPv6 address: some homes have one."""
        return (network < CARRIERS) & (unit(network >> 4, self.network_key ^ 9) < V6_HOMES)

    def look(self, device: Ints) -> tuple[Ints, Ints, Ints]:
        """(system, browser, screen) of each device, as indices."""
        u = unit(device, self.look_key)
        handheld = is_handheld(device)
        system = np.where(handheld, np.where(u < 0.56, 0, 1), np.where(u < 0.66, 2, np.where(u < 0.93, 3, 4)))
        v = unit(device, self.look_key ^ 3)
        on_ios = np.where(v < 0.86, 1, 0)
        on_android = np.where(v < 0.74, 0, np.where(v < 0.92, 4, 2))
        on_mac = np.where(v < 0.52, 1, np.where(v < 0.9, 0, 2))
        elsewhere = np.where(v < 0.58, 0, np.where(v < 0.84, 3, 2))
        browser = np.choose(system, [on_android, on_ios, elsewhere, on_mac, elsewhere])
        screen = (unit(device, self.look_key ^ 7) * 5).astype(np.int64) + np.where(handheld, 0, 5)
        return system, browser, screen


def is_handheld(device: Ints) -> Flags:
    """Whether the device is a phone or tablet."""
    handheld: Flags = (device >> 16) & 1 == 0
    return handheld


def single_use(rng: np.random.Generator, n: int) -> Ints:
    """Devices that nobody has seen before."""
    return rng.integers(2**56, 2**62, n)


def build(options: Options, population: Population) -> Devices:
    """The devices and networks of a world."""
    rng = generator(options.seed, "devices")
    n, households = len(population), len(population.household_city)
    residents = np.bincount(population.city, minlength=len(places.NAMES))
    by_country = np.bincount(places.COUNTRY, residents, len(places.COUNTRIES))

    def every(median_days: float, spread: float, size: int) -> Ints:
        return (median_days * np.exp(rng.normal(0, spread, size)) * DAY_MS).astype(np.int64)

    return Devices(
        # A phone lasts two and a half years, its app is reinstalled sooner; cookies of a computer live for months;
        # leases of dynamic addresses for weeks. Chosen so that new devices and addresses are seen every day.
        phone_every_ms=every(420, 0.6, n),
        computer_every_ms=every(130, 0.7, households),
        lease_every_ms=every(40, 1.0, households),
        phase=rng.random(n),
        household_phase=rng.random(households),
        # About thirty people behind one carrier gateway at a time, forty regulars of a hotspot.
        gateways=np.clip(by_country / 30, 4, 2**16 - 1).astype(np.int64),
        hotspots=np.clip(residents / 40, 3, 2**14 - 1).astype(np.int64),
        start_ms=options.start_ms,
        look_key=key_of(options.seed, "device looks"),
        network_key=key_of(options.seed, "networks"),
    )
