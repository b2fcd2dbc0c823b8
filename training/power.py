"""How many payments a test needs, said before it starts."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from training.sequential import best_rho, radius


@dataclass(frozen=True)
class Plan:
    """A test: the improvement to find, the power with which, and after how many payments."""

    improvement_minor: float
    """By payment."""
    deviation_minor: float
    power: float
    alpha: float
    payments: int
    days: float
    rho: float
    """Of the confidence sequence; narrowest at `payments`."""
    clustered_by: str = "card"

    def text(self) -> str:
        """For people, before the test starts."""
        return (
            f"an improvement of {self.improvement_minor:.3f} minor units a payment (standard deviation "
            f"{self.deviation_minor:.1f}, clustered by {self.clustered_by}) is found with power "
            f"{self.power:.2f} within {self.payments:,} matured payments, {self.days:.1f} days; identical models are "
            f"told apart in at most {self.alpha:.0%} of tests, however often one looks"
        )


def power_at(payments: float, improvement: float, deviation: float, alpha: float, rho: float) -> float:
    """The chance that the interval lies above zero at that one look; earlier looks only add to it."""
    half = float(radius(np.array([payments]), np.array([deviation]), alpha, rho)[0])
    return NormalDist().cdf((improvement - half) * np.sqrt(payments) / deviation)


def planned(improvement: float, deviation: float, power: float, alpha: float, payments_per_day: float) -> Plan:
    """The smallest number of payments with that power; `improvement` and `deviation` in minor units by payment."""
    if improvement <= 0 or deviation <= 0:
        raise ValueError(f"improvement and deviation must be above zero, found {improvement} and {deviation}")
    low, high = 1.0, 2.0
    while power_at(high, improvement, deviation, alpha, best_rho(high, alpha)) < power:
        low, high = high, high * 2
    while high - low > 0.5:
        middle = (low + high) / 2
        if power_at(middle, improvement, deviation, alpha, best_rho(middle, alpha)) < power:
            low = middle
        else:
            high = middle
    payments = int(np.ceil(high))
    return Plan(
        improvement,
        deviation,
        power,
        alpha,
        payments,
        payments / payments_per_day,
        best_rho(payments, alpha),
    )
