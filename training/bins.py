"""A feature's values as counts: what its distribution was, and what it is.

Values that many payments share (0 and 1 of a flag, zero of a count) are bins of their own; the others fall between
their own quantiles, so that a feature that is mostly zero still shows how the rest moves. What was never seen of a
feature with few values falls into a bin that was empty; what is missing has a bin, too.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

FEW = 20
"""Up to so many different values each is a bin."""
SPIKE = 0.05
"""A value that so many of the known ones are is a bin, too."""
QUANTILES = 10
"""Bins of all other values."""
MARKS = 50
"""Values at which the cumulative distribution is compared."""


@dataclass(frozen=True)
class Bins:
    """The bins of one feature: its spikes, then the intervals between edges, then what is missing."""

    spikes: Doubles
    edges: Doubles
    marks: Doubles

    @staticmethod
    def of(values: Values) -> "Bins":
        """From a sample of how the feature was; NaN is missing."""
        known = np.asarray(values, np.float64)
        known = known[~np.isnan(known)]
        different, counts = np.unique(known, return_counts=True)
        few = len(different) <= FEW
        spikes = different if few else different[counts >= SPIKE * len(known)]
        rest = known[~np.isin(known, spikes)]
        edges = np.unique(np.quantile(rest, np.arange(1, QUANTILES) / QUANTILES)) if len(rest) else rest
        marks = np.unique(np.quantile(known, np.arange(1, MARKS) / MARKS)) if len(known) else known
        return Bins(spikes, edges, marks)

    @property
    def closed(self) -> bool:
        """Whether the feature had few values, so that another one is news; it falls into the bin before the last."""
        return len(self.spikes) > 0 and len(self.edges) == 0

    @property
    def size(self) -> int:
        """How many bins there are."""
        return len(self.spikes) + len(self.edges) + 2

    def counts(self, values: Values) -> Ints:
        """(size,): values in each bin."""
        values = np.asarray(values, np.float64)
        missing = np.isnan(values)
        known = values[~missing]
        at = len(self.spikes) + np.searchsorted(self.edges, known, side="left")
        if len(self.spikes):
            near = np.minimum(np.searchsorted(self.spikes, known), len(self.spikes) - 1)
            at = np.where(self.spikes[near] == known, near, at)
        found: Ints = np.bincount(at, minlength=self.size).astype(np.int64)
        found[-1] = int(missing.sum())
        return found

    def below(self, values: Values) -> Ints:
        """(marks + 1,): known values up to each mark, and all of them."""
        values = np.asarray(values, np.float64)
        at = np.searchsorted(self.marks, values[~np.isnan(values)], side="left")
        found: Ints = np.cumsum(np.bincount(at, minlength=len(self.marks) + 1)).astype(np.int64)
        return found


def psi(counts: Ints, before: Ints) -> float:
    """Population stability index: sum of (p - q) ln(p / q) over bins, each count raised by a half."""
    p, q = ((one + 0.5) / (one.sum() + 0.5 * len(one)) for one in (counts, before))
    return float(((p - q) * np.log(p / q)).sum())


def ks(below: Ints, before: Ints) -> float:
    """Largest distance of two cumulative distributions at the marks (Kolmogorov-Smirnov); NaN where one is empty."""
    if below[-1] == 0 or before[-1] == 0:
        return float("nan")
    return float(np.abs(below / below[-1] - before / before[-1]).max())
