"""How far a figure of one window goes when nothing has changed: limits from the windows of the reference itself.

Payments of a card, a day and a week go together, so a formula for independent rows calls every Sunday a drift, and a
fixed 0.1 or 0.25 knows nothing of how many rows there are. Each window of the reference is compared with the others
instead, and the limit is that of a prediction: what one more window of the same kind stays below but for a chance of
`alpha` (Hahn and Meeker, Statistical Intervals, 1991, chapter 4: mean + t(n - 1) x deviation x sqrt(1 + 1/n)), on a
scale on which the figure is near normal. No limit is tighter than the one for independent rows: windows that happen to
agree prove nothing.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

Doubles = npt.NDArray[np.float64]

LEAST_WINDOWS = 8
"""Of a reference: with fewer the quantiles of t grow so large that nothing is found."""


def _t(n: int, alpha: float) -> float:
    """How many deviations one more value stays within but for a chance of alpha on one side."""
    return float(stats.t.ppf(1 - alpha, n - 1)) * math.sqrt(1 + 1 / n)


def _limits(values: Doubles, independent: Doubles, independent_now: float, alpha: float) -> tuple[float, float]:
    """(low, high) of one more value, on a scale on which values are near normal.

    `independent` is the variance that each would have with independent rows, which is known; what windows vary more
    than that is estimated, so it takes the quantile of t.
    """
    n = len(values)
    excess = max(0.0, float(values.var(ddof=1)) - float(independent.mean()))
    z = float(stats.norm.ppf(1 - alpha / 2))
    reach = math.sqrt(_t(n, alpha / 2) ** 2 * excess + z**2 * (independent_now + float(independent.mean()) / n))
    mean = float(values.mean())
    return mean - reach, mean + reach


def distance_limit(distances: Doubles, independent: float, alpha: float) -> float:
    """The limit of a distance (PSI, KS), from those of each reference window to the others, on the scale of cube roots.

    Those of a chi-squared figure are near normal (Wilson and Hilferty, PNAS 17, 1931), and PSI is near one.
    `independent` is the limit for rows that do not go together.
    """
    known = distances[~np.isnan(distances)]
    if len(known) < LEAST_WINDOWS:
        return independent
    roots = np.cbrt(known)
    return max(independent, float(roots.mean() + _t(len(roots), alpha) * roots.std(ddof=1)) ** 3)


def independent_psi(bins: int, rows: int, before: int, alpha: float) -> float:
    """The limit of PSI for independent rows: it is near chi-squared of bins - 1, over rows (Yurdakul 2018)."""
    return float(stats.chi2.ppf(1 - alpha, max(1, bins - 1))) * (1 / max(rows, 1) + 1 / max(before, 1))


def independent_ks(rows: int, before: int, alpha: float) -> float:
    """The limit of KS for independent rows: sqrt(-ln(alpha / 2) / 2 x (1/n + 1/m)) (Smirnov 1948)."""
    return math.sqrt(-math.log(alpha / 2) / 2 * (1 / max(rows, 1) + 1 / max(before, 1)))


def rate_limits(hits: Doubles, rows: Doubles, rows_now: int, alpha: float) -> tuple[float, float]:
    """(low, high) of a share in a window of `rows_now`, from its windows before, on the scale of its angle."""
    angles = np.arcsin(np.sqrt(hits / np.maximum(rows, 1)))
    # The variance of an angle is 1 / (4 n) for independent rows, whatever the share.
    low, high = _limits(angles, 0.25 / np.maximum(rows, 1), 0.25 / max(rows_now, 1), alpha)
    return math.sin(max(0.0, low)) ** 2, math.sin(min(math.pi / 2, high)) ** 2


def quotient_limits(found: Doubles, expected: Doubles, expected_now: float, alpha: float) -> tuple[float, float]:
    """(low, high) of found / expected in a window, each raised by a half, from its windows before, by logarithms."""
    quotients = np.log((found + 0.5) / (expected + 0.5))
    # Of a count that is expected to be m the logarithm varies by 1 / m.
    low, high = _limits(quotients, 1 / (expected + 0.5), 1 / (expected_now + 0.5), alpha)
    return math.exp(low), math.exp(high)
