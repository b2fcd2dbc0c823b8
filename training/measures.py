"""What is measured of a window against a reference, with limits from the reference's own windows. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.bins import Bins, Ints, Values, ks, psi
from training.null import distance_limit, independent_ks, independent_psi, quotient_limits, rate_limits

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """One figure of a window, and what it stays within without a change."""

    subject: str
    name: str
    value: float
    low: float | None
    high: float
    rows: int

    @property
    def alarm(self) -> bool:
        """Whether it does not stay within."""
        return self.value > self.high or (self.low is not None and self.value < self.low)


@dataclass(frozen=True)
class Counted:
    """Values of one subject as counts, a row a window."""

    bins: Bins
    counts: Ints
    """(windows, bins)."""
    below: Ints
    """(windows, marks + 1)."""

    @staticmethod
    def of(bins: Bins, windows: Sequence[Values]) -> "Counted":
        """The windows' values, counted."""
        return Counted(
            bins, np.stack([bins.counts(one) for one in windows]), np.stack([bins.below(one) for one in windows])
        )


def _to_others(rows: Ints, distance: object) -> Doubles:
    """Of every window its distance to all others together."""
    assert callable(distance)
    whole = rows.sum(axis=0)
    return np.array([distance(one, whole - one) for one in rows])


def distribution(subject: str, before: Counted, counts: Ints, below: Ints, alpha: float) -> list[Measure]:
    """PSI, KS, missing rate and, of a feature with few values, the share of unseen ones: a window and the reference."""
    rows, reference = int(counts.sum()), before.counts.sum(axis=0)
    total = int(reference.sum())
    filled = int((reference + counts > 0).sum())
    far = distance_limit(_to_others(before.counts, psi), independent_psi(filled, rows, total, alpha), alpha)
    out = [Measure(subject, "psi", psi(counts, reference), None, far, rows)]
    known, known_before = int(below[-1]), int(before.below[:, -1].sum())
    if known and known_before:
        far = distance_limit(_to_others(before.below, ks), independent_ks(known, known_before, alpha), alpha)
        out.append(Measure(subject, "ks", ks(below, before.below.sum(axis=0)), None, far, known))
    asked = {"missing_rate": -1} | ({"unseen_rate": -2} if before.bins.closed else {})
    return out + [
        rate(subject, name, before.counts[:, at], before.counts.sum(axis=1), int(counts[at]), rows, alpha)
        for name, at in asked.items()
    ]


def rate(subject: str, name: str, hits: Ints, rows: Ints, hits_now: int, rows_now: int, alpha: float) -> Measure:
    """A share of the window's payments, against that of the windows of the reference."""
    low, high = rate_limits(hits.astype(np.float64), rows.astype(np.float64), rows_now, alpha)
    return Measure(subject, name, hits_now / max(rows_now, 1), low, high, rows_now)


def calibration(
    frauds: Doubles, expected: Doubles, frauds_now: float, expected_now: float, rows_now: int, alpha: float
) -> Measure:
    """Frauds found over those that the scores expected, against the windows of the reference."""
    low, high = quotient_limits(frauds, expected, expected_now, alpha)
    return Measure("labels", "calibration", (frauds_now + 0.5) / (expected_now + 0.5), low, high, rows_now)
