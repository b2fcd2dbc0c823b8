"""Intervals for a mean that hold at every look: asymptotic confidence sequences.

Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic
confidence sequences", Annals of Statistics 52(6), 2024; theorem 2.2 (Robbins' normal mixture), appendix B.2 (rho).
Looking every day at an ordinary 95 % interval promotes one of two identical models far more often than in 5 % of tests;
these intervals may be looked at after every payment.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean and the interval around it."""

    mean: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0


def best_rho(payments: float, alpha: float) -> float:
    """The mixture's parameter for which the interval is narrowest at so many payments."""
    doubled = -2 * np.log(alpha)
    return float(np.sqrt((doubled + np.log(doubled + 1)) / payments))


def radius(payments: Doubles, deviation: Doubles, alpha: float, rho: float) -> Doubles:
    """Half of the interval's width after so many payments whose standard deviation is estimated as `deviation`."""
    grown = payments * rho**2 + 1
    found: Doubles = deviation * np.sqrt(2 * grown / (payments * rho) ** 2 * np.log(np.sqrt(grown) / alpha))
    return found


def interval(payments: int, mean: float, deviation: float, alpha: float, rho: float) -> Interval:
    """The interval at one look; the whole line before two payments."""
    if payments < 2:
        return Interval(mean, -np.inf, np.inf)
    half = float(radius(np.array([payments], np.float64), np.array([deviation]), alpha, rho)[0])
    return Interval(mean, mean - half, mean + half)
