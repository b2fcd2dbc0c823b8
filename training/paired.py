"""Champion and challenger on the same payments: what the challenger saves a payment, and how sure that is."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lakehouse.experiment_settings import Costs
from training.costs import costs
from training.sequential import Interval, interval

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Pairs(NamedTuple):
    """Matured payments that both models decided, one row each."""

    event_ms: Ints
    card: Ints
    """Codes from zero on: payments of a card are not independent."""
    fraud: Flags
    amount_minor: Ints
    champion: Ints
    """Outcome, an index into approve, challenge, review, decline."""
    challenger: Ints

    def taken(self, rows: Flags | Ints) -> "Pairs":
        """Some of them."""
        return Pairs(**{name: column[rows] for name, column in self._asdict().items()})


@dataclass(frozen=True)
class Savings:
    """What the challenger saves on payments: sums by card, minor units, of the cards that have any difference."""

    payments: int
    by_card: Doubles
    payments_by_card: Ints
    champion_minor: float
    """What the champion's decisions cost, all together."""

    @property
    def mean(self) -> float:
        """Saved by payment, minor units."""
        return float(self.by_card.sum()) / max(1, self.payments)

    @property
    def share(self) -> float:
        """Saved of the champion's cost."""
        return float(self.by_card.sum()) / self.champion_minor if self.champion_minor else 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation of a payment's saving, clustered by card: the root of the mean squared sum by card.

        Cards whose payments cost the same under both count with the mean alone, which is next to nothing.
        """
        if not self.payments:
            return 0.0
        squares = float(((self.by_card - self.mean * self.payments_by_card) ** 2).sum())
        return float(np.sqrt(squares / self.payments))

    def interval(self, alpha: float, rho: float) -> Interval:
        """The confidence sequence's interval for the mean saving at this look."""
        return interval(self.payments, self.mean, self.deviation, alpha, rho)

    def bootstrap(self, runs: int, alpha: float, seed: int) -> Interval:
        """The mean saving with the interval of a bootstrap over cards, each drawn Poisson(1) times; for one look only.

        The number of payments is held: most cards have no difference and are not drawn.
        """
        random = np.random.default_rng(seed)
        drawn = (random.poisson(1.0, len(self.by_card)) @ self.by_card for _ in range(runs))
        means = np.fromiter(drawn, np.float64, runs) / max(1, self.payments)
        low, high = np.quantile(means, (alpha / 2, 1 - alpha / 2)) if len(self.by_card) else (0.0, 0.0)
        return Interval(self.mean, float(low), float(high))


def savings(pairs: Pairs, of: Costs, cap_minor: int | None) -> Savings:
    """What the challenger saves; amounts above the cap count as the cap, with None they count whole."""
    amount = pairs.amount_minor.astype(np.float64)
    if cap_minor is not None:
        amount = np.minimum(amount, cap_minor)
    before = costs(pairs.champion, pairs.fraud, amount, of)
    saved = before - costs(pairs.challenger, pairs.fraud, amount, of)
    differs = np.bincount(pairs.card, saved != 0) > 0
    by_card: Doubles = np.bincount(pairs.card, saved).astype(np.float64)
    return Savings(len(saved), by_card[differs], np.bincount(pairs.card)[differs], float(before.sum()))
