"""Who pays: customers in households, with homes, habits, cards, phones and journeys.

People come and go: some accounts open and as many close while the world runs, phones and cards are replaced, families
move, e-mail addresses change. All of it is a function of the customer and the time, so that any day can be asked alone.
"""

from dataclasses import dataclass, replace

import numpy as np

from simulator import categories, places, rhythm
from simulator.merchants import Merchants
from simulator.options import DAY_MS, HOUR_MS, Options
from simulator.randomness import Doubles, Flags, Ints, drawn, generator, key_of, unit

PAYMENTS_PER_CUSTOMER = 0.8
"""A day; a euro-area resident made half a card payment a day in 2023 (ECB payment statistics), card owners more."""
TURNOVER_PER_DAY = 0.0007
"""Share of accounts that are opened, and closed, a day: a quarter of the portfolio in a year."""
TURNOVER_BEFORE_DAYS = 120
"""Accounts that opened so long before the world began are young in it, too."""
SECOND_CARD = 0.35
FAVOURITE_SHOPS, FAVOURITE_SITES = 8, 5
SUBSCRIPTIONS = 3
NEVER_MS = 2**60


@dataclass(frozen=True)
class Ring:
    """Households of accounts that one hand has opened with borrowed or invented names; one entry a ring."""

    opens_ms: Ints
    closes_ms: Ints
    size: Ints


@dataclass(frozen=True)
class Population:
    """One entry a customer, and where it says so a household."""

    household: Ints
    city: Ints
    rate: Doubles
    """Payments a day."""
    level: Doubles
    """Logarithm of the factor on what others spend."""
    profile: Ints
    """Row of rhythm.PROFILES."""
    channels: Doubles
    """(n, 5): cumulative shares of pos, ecom, moto, atm, wallet."""
    language: Ints
    second_card: Flags
    hides: Flags
    """Surfs through a VPN."""
    opens_ms: Ints
    closes_ms: Ints
    opened_ms: Ints
    """The account's opening date; where `opens_ms` lies before the world, years before it."""
    email_changes_ms: Ints
    favourite_shops: Ints
    favourite_sites: Ints
    subscriptions: Ints
    """(n, 3): merchant, or -1."""
    trip_every_ms: Ints
    trip_takes_ms: Ints
    trip_phase_ms: Ints
    household_city: Ints
    household_moves_ms: Ints
    household_size: Ints
    ring: Ints
    """The ring that invented the customer, -1 for people of flesh and blood."""
    start_ms: int
    trip_key: int

    def __len__(self) -> int:
        return len(self.household)

    def active(self, customer: Ints, at_ms: Ints) -> Flags:
        """Whether each customer's account is open at that time."""
        return (self.opens_ms[customer] <= at_ms) & (at_ms < self.closes_ms[customer])

    def whereabouts(self, customer: Ints, at_ms: Ints) -> tuple[Ints, Flags, Flags]:
        """(city, whether away from home, whether on the way) of each customer at that time."""
        every = self.trip_every_ms[customer]
        since = at_ms - self.start_ms + self.trip_phase_ms[customer]
        trip, into = since // every, since % every
        home = self.city[customer]
        there = drawn(places.RESIDENTS_CUMULATIVE, unit(customer * 4096 + trip, self.trip_key))
        away = (into < self.trip_takes_ms[customer]) & (there != home)
        way_ms = ((places.TRANSFER_H + places.distance_km(home, there) / places.FLIGHT_KMH) * HOUR_MS).astype(np.int64)
        moving = away & ((into < way_ms) | (into > self.trip_takes_ms[customer] - way_ms))
        return np.where(away, there, home), away, moving

    def moved(self, household: Ints, at_ms: Ints) -> Ints:
        """1 where the household lives at its second address, else 0."""
        return (at_ms >= self.household_moves_ms[household]).astype(np.int64)

    def closing(self, customer: Ints, at_ms: Ints) -> "Population":
        """The same people; these accounts close at the latest at these times."""
        closes = self.closes_ms.copy()
        np.minimum.at(closes, customer, at_ms)
        return replace(self, closes_ms=closes)


def slots(options: Options) -> int:
    """How many accounts are open at a time."""
    return round(options.payments_per_day / PAYMENTS_PER_CUSTOMER)


def _household_sizes(rng: np.random.Generator, customers: int) -> Ints:
    # One to five people; shares about those of Eurostat's household statistics.
    sizes = rng.choice(np.arange(1, 6), size=customers, p=[0.37, 0.31, 0.15, 0.12, 0.05])
    enough = int(np.searchsorted(np.cumsum(sizes), customers)) + 1
    sizes = sizes[:enough]
    sizes[-1] -= int(sizes.sum()) - customers
    return sizes.astype(np.int64)


def build(options: Options, merchants: Merchants, ring: Ring) -> Population:
    """The people of a world, the members of the rings scattered among them."""
    rng = generator(options.seed, "population")
    window_days = TURNOVER_BEFORE_DAYS + options.span_days
    turnover = round(slots(options) * TURNOVER_PER_DAY * window_days)
    honest = slots(options) + turnover
    sizes = np.concatenate([_household_sizes(rng, honest), ring.size])
    n, start = int(sizes.sum()), options.start_ms
    # Customers are numbered in an order that has nothing to do with their households.
    household = np.repeat(np.arange(len(sizes)), sizes)[rng.permutation(n)]
    in_ring = household - (len(sizes) - len(ring.size))

    change = start + ((rng.random(turnover) * window_days - TURNOVER_BEFORE_DAYS) * DAY_MS).astype(np.int64)
    chosen = rng.permutation(np.flatnonzero(in_ring < 0))
    opens, closes = np.full(n, -NEVER_MS), np.full(n, NEVER_MS)
    opens[chosen[:turnover]] = change
    closes[chosen[turnover : 2 * turnover]] = change
    opens[in_ring >= 0] = ring.opens_ms[in_ring[in_ring >= 0]]
    closes[in_ring >= 0] = ring.closes_ms[in_ring[in_ring >= 0]]
    # Old accounts are a year to some twenty-five old, five in the middle.
    age_days = 240 + 1_600 * np.exp(rng.normal(0, 0.7, n))
    opened = np.where(opens > -NEVER_MS, opens, start - (age_days * DAY_MS).astype(np.int64))

    # Every city has somebody, however small the world.
    settled = rng.permutation(len(places.NAMES))
    household_city = np.concatenate([settled, places.cities(rng.random(len(sizes) - len(settled)))])
    city = household_city[household]
    rate = np.exp(rng.normal(0, 0.55, n))
    online = np.clip(rng.beta(2.2, 4.2, n), 0.03, 0.9)
    wallet = np.where(rng.random(n) < 0.4, rng.beta(2, 4, n), 0.0)
    rest = 1 - online
    shares = np.stack(
        [rest * (0.88 - wallet * 0.85), online * 0.93, online * 0.07, rest * 0.12, rest * wallet * 0.85], 1
    )
    often = rng.random(n) < 0.25
    subscribed = np.arange(SUBSCRIPTIONS) < rng.poisson(1.0, n)[:, None]
    site = merchants.web.draw(np.zeros(n * FAVOURITE_SITES, np.int64), rng.random(n * FAVOURITE_SITES))
    at_home = merchants.web_by_country.draw(
        np.repeat(places.COUNTRY[city], FAVOURITE_SITES), rng.random(n * FAVOURITE_SITES)
    )
    trip_every = np.where(often, 60 + 120 * rng.random(n), 200 + 500 * rng.random(n)) * DAY_MS
    return Population(
        household=household,
        city=city,
        rate=rate / rate.mean() * PAYMENTS_PER_CUSTOMER,
        level=rng.normal(0, 0.4, n),
        profile=drawn(np.cumsum(rhythm.PROFILE_WEIGHTS), rng.random(n)),
        channels=np.cumsum(shares, axis=1),
        language=np.where(
            rng.random(n) < 0.86,
            places.LANGUAGE_OF[places.COUNTRY[city]],
            rng.integers(0, len(places.LANGUAGES), n),
        ),
        second_card=rng.random(n) < SECOND_CARD,
        hides=rng.random(n) < 0.04,
        opens_ms=opens,
        closes_ms=closes,
        opened_ms=opened,
        email_changes_ms=start + ((rng.random(n) * 1_400 - 700) * DAY_MS).astype(np.int64),
        favourite_shops=merchants.street.draw(
            np.repeat(city, FAVOURITE_SHOPS), rng.random(n * FAVOURITE_SHOPS)
        ).reshape(n, FAVOURITE_SHOPS),
        favourite_sites=np.where(rng.random(n * FAVOURITE_SITES) < 0.6, at_home, site).reshape(n, FAVOURITE_SITES),
        subscriptions=np.where(subscribed, _subscriptions(rng, merchants, n), -1),
        trip_every_ms=trip_every.astype(np.int64),
        trip_takes_ms=((2 + 7 * rng.random(n)) * DAY_MS).astype(np.int64),
        trip_phase_ms=(rng.random(n) * 10 * trip_every).astype(np.int64),
        household_city=household_city,
        household_moves_ms=start + ((rng.random(len(sizes)) * 2_400 - 1_200) * DAY_MS).astype(np.int64),
        household_size=sizes,
        ring=np.maximum(in_ring, -1),
        start_ms=start,
        trip_key=key_of(options.seed, "trips"),
    )


def _subscriptions(rng: np.random.Generator, merchants: Merchants, n: int) -> Ints:
    directory = merchants.web_of(categories.SUBSCRIBED)
    return directory.draw(np.zeros(n * SUBSCRIPTIONS, np.int64), rng.random(n * SUBSCRIPTIONS)).reshape(n, -1)
