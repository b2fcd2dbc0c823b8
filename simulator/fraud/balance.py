"""Whom fraud strikes: drawn like genuine payers, merchants and devices, and as evenly over every id as they are.

A few hundred episodes that chance alone assigns would by accident favour, say, customers whose id begins with a high
digit, and a model could learn the accident. So ids are divided into strata that genuine payments fill equally, and
each victim is the one among some candidates whose strata fraud has filled least. Candidates are drawn by activity, so
nothing but the form of an id, and how soon it appears on the log, is evened out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from simulator import habits, places
from simulator.ids import Ids
from simulator.intents import ECOM, WALLET
from simulator.merchants import Directory
from simulator.options import DAY_MS
from simulator.randomness import Doubles, Flags, Ints
from simulator.scene import Scene

CANDIDATES = 12
STRATA = 24
"""Of each id: with a dozen candidates nearly always one is left in each that is behind."""


@njit(cache=True)
def _chosen(stratum: Ints, weight: Doubles, allowed: Flags, ids: int, filled: Doubles, out: Ints) -> None:
    for i in range(stratum.shape[0]):
        best, least = 0, np.inf
        for k in range(stratum.shape[1]):
            if not allowed[i, k]:
                continue
            fill = 0.0
            for f in range(ids):
                # Who lacks an id is neither preferred nor passed over for it.
                fill += filled[f, stratum[i, k, f]] if stratum[i, k, f] >= 0 else filled[f].mean()
            if fill < least:
                best, least = k, fill
        out[i] = best
        for f in range(stratum.shape[2]):
            if stratum[i, best, f] >= 0:
                filled[f, stratum[i, best, f]] += weight[i]


def chosen(rank: Doubles, weight: Ints, allowed: Flags, filled: Doubles, ids: int | None = None) -> Ints:
    """Which candidate of each row fills the least filled strata; `rank` is (rows, candidates, ids) in [0, 1).

    A candidate that lacks an id has NaN there. `filled`, (ids, STRATA), holds what was filled so far and is carried on;
    only the first `ids` of them (None: all) decide.
    """
    out = np.zeros(len(rank), np.int64)
    stratum = np.where(np.isnan(rank), -1, np.clip(rank * STRATA, 0, STRATA - 1)).astype(np.int64)
    _chosen(stratum, weight.astype(np.float64), allowed, rank.shape[2] if ids is None else ids, filled, out)
    return out


@dataclass(frozen=True)
class _Rank:
    """Where a value stands among those that genuine payments carry, from 0 to 1."""

    value: npt.NDArray[np.float64]
    below: Doubles
    width: Doubles

    @staticmethod
    def of(value: npt.NDArray[np.float64], exposure: Doubles) -> "_Rank":
        order = np.argsort(value, kind="stable")
        share = exposure[order] / exposure.sum()
        return _Rank(value[order], np.cumsum(share) - share, share)

    def __call__(self, value: npt.NDArray[np.float64], u: Doubles) -> Doubles:
        # A value that many payments carry is spread over its whole share.
        at = np.clip(np.searchsorted(self.value, value), 0, len(self.value) - 1)
        rank: Doubles = self.below[at] + u * self.width[at]
        return rank


def _exposure(scene: Scene) -> Doubles:
    # Expected share of genuine payments at each merchant: favourites of its customers, and chance.
    people, merchants = scene.population, scene.merchants
    share = np.diff(people.channels, axis=1, prepend=0)
    out = np.zeros(len(merchants))
    for favourites, part, new, directory, group in (
        (people.favourite_shops, share[:, 0] + share[:, 4], habits.NEW_SHOP, merchants.street, people.city),
        (people.favourite_sites, share[:, 1], habits.NEW_SITE, merchants.web, np.zeros(len(people), np.int64)),
    ):
        paid = people.rate * part
        slot = 1 / np.arange(1, favourites.shape[1] + 1)
        weight = (paid * (1 - new))[:, None] * slot / slot.sum()
        out += np.bincount(favourites.reshape(-1), weight.reshape(-1), len(merchants))
        of_group = np.bincount(group, paid * new, len(directory.first) - 1)
        known = np.diff(directory.cumulative)
        size = np.diff(directory.first)
        total = np.add.reduceat(known, directory.first[:-1])
        out[directory.items] += known * np.repeat(of_group / total, size)
    return out


def _device_use(scene: Scene) -> Doubles:
    # Payments a day from each customer's own devices.
    share = np.diff(scene.population.channels, axis=1, prepend=0)
    use: Doubles = scene.population.rate * (share[:, ECOM] + share[:, WALLET])
    return use


@dataclass(frozen=True)
class Balance:
    """Draws of victims, merchants and devices for one world."""

    scene: Scene
    ids: Ids
    customers_rank: _Rank
    cards_rank: _Rank
    merchants_rank: _Rank
    terminals_rank: _Rank
    visits: Doubles
    """Expected payments at each merchant; with them comes how soon it appears on the log."""
    visits_rank: _Rank
    at_terminal_rank: _Rank
    use_rank: _Rank
    filled: dict[str, Doubles]
    """Strata by kind: they run on from scenario to scenario, so one may lean where others make up for it."""

    @staticmethod
    def of(scene: Scene) -> "Balance":
        """The balance of a scene."""
        people, options, shops = scene.population, scene.options, scene.merchants
        ids = Ids(options.seed, options.start_ms)
        everybody = np.arange(len(people))
        middle = np.full(len(people), options.start_ms + options.span_days * DAY_MS // 2)
        first, _ = ids.card_index(everybody, np.zeros_like(everybody), middle)
        second, _ = ids.card_index(everybody, np.ones_like(everybody), middle)
        number = np.concatenate([_number(ids, first), _number(ids, second)])
        held = people.rate * people.second_card * habits.SECOND_CARD_USE
        visits = _exposure(scene) + 1e-9
        at_terminal = np.repeat(visits / np.maximum(shops.terminals, 1), shops.terminals)
        use = _device_use(scene)
        return Balance(
            scene,
            ids,
            _Rank.of(_value(ids, "customer", everybody), people.rate),
            _Rank.of(number, np.concatenate([people.rate - held, held]) + 1e-12),
            _Rank.of(_value(ids, "merchant", np.arange(len(shops))), visits),
            _Rank.of(_value(ids, "terminal", np.arange(len(at_terminal))), at_terminal),
            visits,
            _Rank.of(-visits, visits),
            _Rank.of(-at_terminal, at_terminal),
            _Rank.of(-use, use),
            {"victims": np.zeros((2, STRATA)), "merchants": np.zeros((4, STRATA)), "devices": np.zeros((2, STRATA))},
        )

    def victims(
        self, rng: np.random.Generator, at_ms: Ints, weight: Ints, min_age_days: int = 30, near: Ints | None = None
    ) -> tuple[Ints, Ints]:
        """(customer, card) for each row: real people with an account at least so old, the active ones more often.

        Where `near` names a city (not -1), people who live there.
        """
        shape = (len(at_ms), CANDIDATES)
        flat_at = np.repeat(at_ms, CANDIDATES)
        people = self.scene.population
        customer = self.scene.customers(rng.random(len(flat_at)))
        if near is not None:
            city = np.repeat(near, CANDIDATES)
            local = self.scene.residents.draw(np.maximum(city, 0), rng.random(len(flat_at)))
            customer = np.where(city >= 0, local, customer)
        card = habits.cards(self.scene, rng, customer)
        index, _ = self.ids.card_index(customer, card, flat_at)
        aged = flat_at - people.opened_ms[customer] >= min_age_days * DAY_MS
        allowed = aged & people.active(customer, flat_at) & (people.ring[customer] < 0)
        u = rng.random(len(flat_at))
        by_id = self.customers_rank(_value(self.ids, "customer", customer), u)
        by_card = self.cards_rank(_number(self.ids, index), u)
        rank = np.stack([by_id, by_card], 1).reshape(*shape, 2)
        pick = np.arange(len(at_ms)) * CANDIDATES
        pick += chosen(rank, weight, allowed.reshape(shape), self.filled["victims"])
        return customer[pick], card[pick]

    def merchants(
        self, rng: np.random.Generator, draw: Callable[[Doubles, Ints], Ints], weight: Ints, as_drawn: bool = False
    ) -> Ints:
        """A merchant for each row; `draw(u, row)` gives candidates, `as_drawn`: also how well known they are."""
        n = len(weight)
        row = np.repeat(np.arange(n), CANDIDATES)
        candidate = draw(rng.random(len(row)), row)
        shops, u = self.scene.merchants, rng.random(len(row))
        terminal = shops.first_terminal[candidate] + (u * shops.terminals[candidate]).astype(np.int64)
        has, visits = shops.terminals[candidate] > 0, self.visits[candidate]
        rank = np.stack(
            [
                self.merchants_rank(_value(self.ids, "merchant", candidate), u),
                np.where(has, self.terminals_rank(_value(self.ids, "terminal", terminal), u), np.nan),
                self.visits_rank(-visits, u),
                np.where(has, self.at_terminal_rank(-visits / shops.terminals[candidate].clip(1), u), np.nan),
            ],
            axis=1,
        ).reshape(n, CANDIDATES, 4)
        allowed = np.ones((n, CANDIDATES), np.bool_)
        pick = np.arange(n) * CANDIDATES
        pick += chosen(rank, weight, allowed, self.filled["merchants"], 2 if as_drawn else 4)
        merchant: Ints = candidate[pick]
        return merchant

    def sites(self, rng: np.random.Generator, wanted: Directory, near: Ints, weight: Ints) -> Ints:
        """A web shop for each row: a wanted one, or as often one of the country of the city it is near to."""
        web, country = self.scene.merchants.web_by_country, places.COUNTRY[near]

        def draw(u: Doubles, row: Ints) -> Ints:
            # The lower half of u asks at home, the upper half goes for what is wanted.
            at_home = web.draw(country[row], np.minimum(2 * u, 0.999999))
            return np.where(u < 0.5, at_home, wanted.draw(np.zeros(len(u), np.int64), np.maximum(2 * u - 1, 0)))

        return self.merchants(rng, draw, weight)

    def devices(self, rng: np.random.Generator, candidate: Ints, owner: Ints, weight: Ints) -> Ints:
        """A device for each row of candidates; `owner` uses it honestly, -1 nobody."""
        value = self.ids.words("device", candidate.reshape(-1)).astype(np.float64) * 2.0**-64
        use = np.where(owner >= 0, _device_use(self.scene)[owner], 0).reshape(-1)
        rank = np.stack([value, self.use_rank(-use, rng.random(len(value)))], axis=1)
        allowed = np.ones(candidate.shape, np.bool_)
        pick = chosen(rank.reshape(*candidate.shape, 2), weight, allowed, self.filled["devices"])
        device: Ints = candidate[np.arange(len(candidate)), pick]
        return device


def _value(ids: Ids, kind: str, index: Ints) -> npt.NDArray[np.float64]:
    return ids.words(kind, index).astype(np.float64)


def _number(ids: Ids, card_index: Ints) -> npt.NDArray[np.float64]:
    # The card number as a number: exact in a double, as it stays below 2**53.
    digits, _ = ids.cards(card_index).packed()
    weights = 10.0 ** np.arange(15, -1, -1)
    number: npt.NDArray[np.float64] = (digits.reshape(-1, 16).astype(np.float64) - 48) @ weights
    return number
