"""Who is paid: shops of every city, cash machines, shops online; some open while the world runs."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulator import categories, places
from simulator.options import DAY_MS, Options
from simulator.randomness import Doubles, Flags, Ints, drawn, generator, key_of, unit, zipf

CUSTOMERS_PER_SHOP = 5.5
"""Chosen so that the median shop has about three payments a day: enough for a habit, few enough for a crowd to show."""
MIN_SHOPS_PER_CITY = 16
CUSTOMERS_PER_ONLINE_SHOP = 14
MIN_ONLINE_SHOPS = 180
BANKS_PER_CITY = 2
NEW_SHARE = 0.08
"""Share of shops that open within the world's span: new merchants are ordinary."""
ALWAYS_OPEN = 5
"""So many of the best-known shops of every street were there before the world began."""


@dataclass(frozen=True)
class Directory:
    """Merchants in groups, drawn by weight within a group; the best known of each group first."""

    items: Ints
    cumulative: Doubles
    first: Ints

    @staticmethod
    def of(items: Ints, group: Ints, groups: int, weight: Doubles) -> "Directory":
        """The directory of `items`, entry i in group[i] with weight[i]; every group has an entry."""
        order = np.lexsort((-weight, group))
        first = np.searchsorted(group[order], np.arange(groups + 1))
        assert (np.diff(first) > 0).all(), "a group without entries"
        return Directory(items[order], np.concatenate([[0.0], np.cumsum(weight[order])]), first)

    def draw(self, group: Ints, u: Doubles) -> Ints:
        """A merchant of each row's group."""
        low, high = self.first[group], self.first[group + 1]
        target = self.cumulative[low] + u * (self.cumulative[high] - self.cumulative[low])
        at = np.searchsorted(self.cumulative, target, side="right") - 1
        return self.items[np.clip(at, low, high - 1)]

    def any(self, group: Ints, u: Doubles) -> Ints:
        """A merchant of each row's group, well known or not."""
        low, high = self.first[group], self.first[group + 1]
        return self.items[low + (u * (high - low)).astype(np.int64)]

    def best(self, group: Ints) -> Ints:
        """The best-known merchant of each row's group."""
        return self.items[self.first[group]]


@dataclass(frozen=True)
class Merchants:
    """One entry a merchant; street shops first, then cash machines, then shops online."""

    category: Ints
    city: Ints
    online: Flags
    weight: Doubles
    """How well known, within its city or online."""
    price: Doubles
    """Factor on what its category costs."""
    terminals: Ints
    first_terminal: Ints
    """Terminal j of merchant m is number first_terminal[m] + j."""
    opens_ms: Ints
    place_key: int

    def __len__(self) -> int:
        return len(self.category)

    @cached_property
    def country(self) -> Ints:
        """Country of each merchant."""
        return places.COUNTRY[self.city]

    @cached_property
    def street(self) -> Directory:
        """Shops by city."""
        return self._directory(~self.online & (self.category != categories.CASH), self.city, len(places.NAMES))

    @cached_property
    def cash(self) -> Directory:
        """Cash machines by city."""
        return self._directory(self.category == categories.CASH, self.city, len(places.NAMES))

    @cached_property
    def telephone(self) -> Directory:
        """Street shops that take orders by telephone, by city."""
        takes = categories.BY_TELEPHONE[self.category] & ~self.online
        return self._directory(takes, self.city, len(places.NAMES))

    @cached_property
    def web(self) -> Directory:
        """Shops online, all in group 0."""
        return self._directory(self.online, np.zeros(len(self), np.int64), 1)

    @cached_property
    def web_by_country(self) -> Directory:
        """Shops online by country."""
        return self._directory(self.online, self.country, len(places.COUNTRIES))

    def _directory(self, chosen: Flags, group: Ints, groups: int) -> Directory:
        items = np.flatnonzero(chosen)
        return Directory.of(items, group[items], groups, self.weight[items])

    def web_of(self, wanted: tuple[int, ...]) -> Directory:
        """Shops online of some categories, all in group 0."""
        return self._directory(self.online & np.isin(self.category, wanted), np.zeros(len(self), np.int64), 1)

    def opened(self, merchant: Ints, otherwise: Ints, at_ms: Ints) -> Ints:
        """Each row's merchant where it is open at that time, else the other."""
        return np.where(self.opens_ms[merchant] > at_ms, otherwise, merchant)


def _by_quota(weight: Doubles, n: int, rng: np.random.Generator) -> Ints:
    # n categories in the proportions of the weights, in random order: small cities get the same mix as large ones.
    return rng.permutation(drawn(np.cumsum(weight), (np.arange(n) + rng.random()) / n))


def build(options: Options, customers: int) -> Merchants:
    """The merchants of a world for so many customers."""
    rng = generator(options.seed, "merchants")
    share = places.RESIDENTS / places.RESIDENTS.sum()
    shops = np.maximum(MIN_SHOPS_PER_CITY, np.round(customers * share / CUSTOMERS_PER_SHOP)).astype(np.int64)
    online = max(MIN_ONLINE_SHOPS, customers // CUSTOMERS_PER_ONLINE_SHOP)
    category, city, weight = [], [], []
    for place, n in enumerate(shops):
        chosen = _by_quota(categories.STREET_WEIGHT, int(n), rng)
        if not categories.BY_TELEPHONE[chosen].any():
            chosen[-1] = categories.NAMES.index("hotel")
        category.append(chosen)
        city.append(np.full(n, place))
        weight.append(zipf(int(n), 0.9))
    category.append(np.full(BANKS_PER_CITY * len(places.NAMES), categories.CASH))
    city.append(np.repeat(np.arange(len(places.NAMES)), BANKS_PER_CITY))
    weight.append(np.ones(BANKS_PER_CITY * len(places.NAMES)))
    category.append(_by_quota(categories.ONLINE_WEIGHT, online, rng))
    # The best-known web shops cover every country and every category once before chance decides.
    seats = np.concatenate([[int(np.flatnonzero(c == places.COUNTRY)[0]) for c in range(len(places.COUNTRIES))]])
    city.append(np.concatenate([rng.permutation(seats), places.cities(rng.random(online - len(seats)))]))
    weight.append(zipf(online, 0.9))
    return _described(options, rng, np.concatenate(category), np.concatenate(city), np.concatenate(weight), online)


def _described(
    options: Options, rng: np.random.Generator, category: Ints, city: Ints, weight: Doubles, online: int
) -> Merchants:
    n = len(category)
    on_line = np.arange(n) >= n - online
    terminals = np.minimum(1 + rng.poisson(1.2, n), 6)
    terminals[category == categories.CASH] = 5
    # A third of the web shops name a virtual terminal of their payment provider.
    terminals[on_line] = unit(np.arange(n)[on_line], key_of(options.seed, "virtual terminals")) < 1 / 3
    opens = np.full(n, options.start_ms - 3_650 * DAY_MS)
    known = np.concatenate([[True], city[1:] != city[:-1]])
    rank = np.arange(n) - np.maximum.accumulate(np.where(known, np.arange(n), 0))
    rank[on_line] = np.arange(online)
    young = (rank >= ALWAYS_OPEN) & (rng.random(n) < NEW_SHARE) & (category != categories.CASH)
    first_day = options.start_ms - 20 * DAY_MS
    opens[young] = first_day + (rng.random(int(young.sum())) * (20 + options.span_days) * DAY_MS).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(terminals)[:-1]])
    return Merchants(
        category.astype(np.int64),
        city.astype(np.int64),
        on_line,
        weight,
        np.exp(rng.normal(0, 0.25, n)),
        terminals.astype(np.int64),
        first.astype(np.int64),
        opens.astype(np.int64),
        key_of(options.seed, "merchant places"),
    )
