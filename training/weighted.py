"""Estimates over all payments from those whose outcome was seen, each weighted by one over its probability of that.

A declined payment has no outcome. Where a known share of them was let through by a keyed hash, each of those stands for
1 / p payments like it, and one that was approved anyway for itself alone (p = 1). Nothing is assumed of the others:

    total   sum of y / p                                     Horvitz and Thompson, JASA 47, 1952
    share   (sum of part / p) / (sum of whole / p)           Hajek's ratio, 1971

The variance of a total is that of Poisson sampling, sum of (1 - p) / p^2 y^2 (Sarndal, Swensson and Wretman 1992, 3.5):
draws are independent, payment by payment, so frauds that come together do not widen it. It grows with the total, so the
interval is a score interval: all totals that lie within 1.96 of their own deviations from what was found. The odds of a
share are a quotient of two totals over different payments, whose intervals give its own (Donner and Zou, Statistical
Methods in Medical Research 21, 2012). Both hold with twenty payments let through, where the normal one does not:
`python -m benchmarks.exploration`.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lakehouse.errors import Terminal

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

Z_95 = 1.959964
"""97.5 % point of the normal distribution."""
NONE_SEEN = 3.0
"""None of n seen leaves room for three (Hanley and Lippman-Hand, JAMA 249, 1983)."""


class PropensityRefused(Terminal):
    """A payment is given a probability of being seen that is none."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; NaN where nothing was seen."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Seen:
    """Payments whose outcome was seen."""

    propensity: Doubles
    """Probability of that, 0 < p <= 1; 1 for those that were approved anyway."""
    least: float
    """The smallest among all payments that could have been let through, whether any was or not; 1 without such."""

    def __post_init__(self) -> None:
        given = np.append(self.propensity, self.least)
        wrong = np.flatnonzero(~((given > 0) & (given <= 1)))
        if len(wrong):
            raise PropensityRefused(
                f"{len(wrong)} propensities are not above 0 and at most 1, the first is {given[wrong[0]]}.",
                "Give payments whose outcome was seen, with the propensity in their decision; 1 for approved ones.",
            )
        if len(self.propensity) and self.propensity.min() < self.least:
            raise PropensityRefused(
                f"A propensity of {self.propensity.min()} is below the least one, {self.least}.",
                "The least is that of all payments that could have been let through.",
            )

    def total(self, y: Doubles | Flags) -> Estimate:
        """Sum of y, which is nowhere negative, over all payments."""
        p, y = self.propensity, np.asarray(y, np.float64)
        certain = float(y[p == 1].sum())
        drawn = float((y / p)[p < 1].sum())
        if drawn == 0:
            room = NONE_SEEN * (1 - self.least) / self.least * float(y.max(initial=1.0))
            return Estimate(certain, certain, certain + room)
        per_unit = float(((1 - p) / p**2 * y**2).sum()) / drawn
        middle, square = drawn + Z_95**2 * per_unit / 2, Z_95**2 * per_unit * (drawn + Z_95**2 * per_unit / 4)
        # What was seen itself is there, whatever its weight.
        low = max(middle - math.sqrt(square), float(y[p < 1].sum()))
        return Estimate(certain + drawn, certain + low, certain + middle + math.sqrt(square))

    def share(self, part: Flags, whole: Flags) -> Estimate:
        """Which share of the payments that `whole` holds for are `part`, too, over all payments."""
        ours, others = self.total(part & whole), self.total(whole & ~part)
        if ours.value + others.value == 0:
            return Estimate(math.nan, math.nan, math.nan)
        low, high = _odds(ours, others), 1 / _odds(others, ours)
        return Estimate(ours.value / (ours.value + others.value), _share_of(low), _share_of(high))


def _odds(one: Estimate, other: Estimate) -> float:
    """Lower end of one / other: 0 where `one` may be nothing; infinite only where `other` cannot be anything."""
    if one.low == 0 or one.value == 0:
        return 0.0 if other.high else math.inf
    if other.value == 0:
        return one.low / other.high if other.high else math.inf
    below = math.hypot(math.log(one.value / one.low), math.log(other.high / other.value))
    return one.value / other.value * math.exp(-below)


def _share_of(odds: float) -> float:
    return 1.0 if math.isinf(odds) else odds / (1 + odds)
