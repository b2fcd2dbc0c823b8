"""How late labels of fraud come, by source: the share that has arrived at an age, and how much is still to come.

A label of a young payment can only be seen if it came early, so counting what is there makes labels look faster than
they are (right truncation). The share within k days is the product-limit estimate in reverse time (Lynden-Bell 1971;
Lagakos, Barraj and De Gruttola, Biometrika 75, 1988):

    G(k) = product over j = k .. H-1 of (1 - n_j / r_j)

n_j: labels with a delay of j whole days, r_j: of at most j days, both of payments that are older than j days.
It is the share of what comes within the horizon H; later labels are taken not to exist. What payments of an age still
have to expect is payments x rate x (1 - G(age)), the rate being labels over payments x G(age) of all ages together
(the Cape Cod method of claims reserving; Mack, Insurance: Mathematics and Economics 12, 1993, has it beside chain
ladder): a quotient by the own small G of a young day would be noise. Intervals are bootstrap percentiles over days of
payment, since frauds of a day come together; what is still to come is drawn around each, as much more spread than
Poisson's as the days so far were.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lakehouse.moments import DAY_MS

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

ANY = "any"
"""In place of a source: the first label of whatever source."""
DRAWS = 400
LOW, HIGH = 2.5, 97.5
"""Percentiles: 95 % intervals."""


@dataclass(frozen=True)
class Delays:
    """First labels of fraud by day of payment; `age_d` and `payments` have an entry a day of payment."""

    age_d: Ints
    """Whole days from the end of the day of payment to the moment."""
    payments: Ints
    labels: Ints
    """(days of payment, delays): labels that came within delay + 1 whole days, each counted where it falls."""


@dataclass(frozen=True)
class Curve:
    """One source's maturity; entries 0 .. horizon are ages in days."""

    labels: int
    """That had arrived."""
    share: Doubles
    share_low: Doubles
    share_high: Doubles
    to_come: Doubles
    """Expected labels that payments of exactly this age still wait for; NaN where no payment has it."""
    to_come_low: Doubles
    to_come_high: Doubles
    total_to_come: tuple[float, float, float]
    """(expected, low, high) of all ages together."""


def delays(paid_day: Ints, delay_ms: Ints, days: Ints, payments: Ints, as_of_ms: int, horizon_d: int) -> Delays:
    """Labels by day of payment and delay; `days` are days since 1970 with `payments`, newest or oldest first.

    A payment counts as being as old as the end of its day, so every delay below its age is seen in full. Labels beyond
    that, or beyond the horizon, are left out.
    """
    age = np.maximum(as_of_ms // DAY_MS - days - 1, 0)
    place = {int(day): at for at, day in enumerate(days)}
    counts = np.zeros((len(days), horizon_d), np.int64)
    for day, delay in zip(paid_day.tolist(), (delay_ms // DAY_MS).tolist(), strict=True):
        at = place.get(day)
        if at is not None and 0 <= delay < min(horizon_d, int(age[at])):
            counts[at, delay] += 1
    return Delays(age, payments, counts)


def shares(labels: Doubles, seen: Doubles) -> Doubles:
    """G(0) .. G(H) of the counts n_j and r_j, the last axis being j; 1 beyond the last label, NaN without any label."""
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = np.where(seen > 0, 1 - labels / seen, 1.0)
    above = np.cumprod(kept[..., ::-1], axis=-1)[..., ::-1]
    found = np.concatenate([above, np.ones((*above.shape[:-1], 1))], axis=-1)
    return np.where(labels.sum(axis=-1, keepdims=True) > 0, found, np.nan)


def curve(found: Delays, seed: int) -> Curve:
    """The maturity of one source, with 95 % intervals; NaN throughout where it has no label."""
    horizon = found.labels.shape[1]
    at_risk = found.age_d[:, None] > np.arange(horizon)
    seen = np.where(at_risk, np.cumsum(found.labels, axis=1), 0)
    random = np.random.default_rng(seed)
    days = len(found.age_d)
    weights = np.vstack([np.ones(days), random.multinomial(days, np.full(days, 1 / max(days, 1)), DRAWS)])
    every = shares(weights @ found.labels, weights @ seen)
    age = np.minimum(found.age_d, horizon)
    # Of each draw: its own rate, applied to the payments that there are.
    matured = (weights * found.payments) @ np.eye(horizon + 1)[age]
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = (weights @ found.labels).sum(axis=1) / np.nansum(matured * every, axis=1)
    waiting = np.bincount(age, found.payments, horizon + 1)
    expected = rate[:, None] * waiting * (1 - every)
    drawn = _drawn(random, expected[1:], _dispersion(found, rate[0] * every[0]))
    low, high = _interval(every[1:])
    to_come_low, to_come_high = _interval(drawn)
    return Curve(
        int(found.labels.sum()),
        share=every[0],
        share_low=low,
        share_high=high,
        to_come=np.where(waiting > 0, expected[0], np.nan),
        to_come_low=np.where(waiting > 0, to_come_low, np.nan),
        to_come_high=np.where(waiting > 0, to_come_high, np.nan),
        total_to_come=_total(expected[0], drawn),
    )


def _dispersion(found: Delays, rate: Doubles) -> float:
    """Pearson's: how much more the counts of days vary than Poisson's would, at least 1; `rate` is by age."""
    expected = found.payments * rate[np.minimum(found.age_d, len(rate) - 1)]
    days = np.flatnonzero(expected > 0)
    if len(days) < 2:
        return 1.0
    excess = (found.labels[days].sum(axis=1) - expected[days]) ** 2 / expected[days]
    return max(1.0, float(excess.sum()) / (len(days) - 1))


def _drawn(random: np.random.Generator, expected: Doubles, dispersion: float) -> Doubles:
    """Counts around what is expected, with variance dispersion x mean; NaN where nothing is expected."""
    mean = np.nan_to_num(expected)
    if dispersion > 1:
        mean = random.gamma(mean / (dispersion - 1), dispersion - 1)
    return np.where(np.isnan(expected), np.nan, random.poisson(mean))


def _interval(draws: Doubles) -> tuple[Doubles, Doubles]:
    """(low, high) by column; NaN where no draw has a value."""
    known = ~np.isnan(draws).all(axis=0)
    out = np.full((2, draws.shape[1]), np.nan)
    if known.any():
        out[:, known] = np.nanpercentile(draws[:, known], [LOW, HIGH], axis=0)
    return out[0], out[1]


def _total(expected: Doubles, draws: Doubles) -> tuple[float, float, float]:
    if np.isnan(expected).all():
        return (float("nan"),) * 3
    low, high = np.percentile(np.nansum(draws, axis=1), [LOW, HIGH])
    return float(np.nansum(expected)), float(low), float(high)


def rows(curves: Mapping[str, Curve], as_of: Any) -> list[dict[str, Any]]:
    """Rows of gold.label_maturity: one a source and age in days."""

    def known(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    return [
        {
            "source": source,
            "age_d": age,
            "labels": one.labels,
            **{
                name: known(float(getattr(one, name)[age]))
                for name in ("share", "share_low", "share_high", "to_come", "to_come_low", "to_come_high")
            },
            "as_of": as_of,
        }
        for source, one in curves.items()
        for age in range(len(one.share))
    ]
