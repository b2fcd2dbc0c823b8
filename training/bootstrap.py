"""How far a figure would move with other cards and other days: a bootstrap over both at once.

Every card and every day is drawn with a Poisson(1) number of repeats, and a payment counts as often as its card times
its day: the product weights of Owen and Eckles (2012), which follow what payments of one card, or of one day, share.
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Statistics = Callable[[Doubles, Doubles], Mapping[str, float]]
"""(repeats of every card, repeats of every day) -> figures."""

RESAMPLES = 200
LOW, HIGH = 2.5, 97.5


def intervals(
    statistics: Statistics, cards: int, days: int, seed: int, resamples: int = RESAMPLES
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of figures; NaN where no resample had one."""
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        of_card, of_day = random.poisson(1.0, cards), random.poisson(1.0, days)
        drawn.append(dict(statistics(of_card.astype(np.float64), of_day.astype(np.float64))))
    found: dict[str, tuple[float, float]] = {}
    for name in drawn[0]:
        values = np.array([one[name] for one in drawn])
        values = values[~np.isnan(values)]
        low, high = np.percentile(values, [LOW, HIGH]) if len(values) else (np.nan, np.nan)
        found[name] = (float(low), float(high))
    return found
