"""When people pay: hours of the day by kind of person, days of the week, in local time."""

import numpy as np

from simulator.options import DAY_MS, DAY_S, HOUR_MS
from simulator.randomness import Doubles, Flags, Ints

# Share of a person's payments by local hour, 0 to 23, chosen after published hourly card volumes: two humps at noon and
# early evening, one in a thousand between three and four at night. Night owls shift them by six hours.
_DAY = (4, 2, 1, 1, 1, 3, 12, 32, 52, 60, 66, 74, 92, 82, 68, 66, 74, 92, 96, 74, 50, 34, 20, 9)
_WORKING = (3, 2, 1, 1, 2, 8, 34, 70, 52, 26, 24, 38, 96, 72, 28, 26, 40, 100, 112, 84, 56, 34, 18, 8)
_HOME = (2, 1, 1, 1, 1, 3, 10, 36, 78, 104, 108, 92, 66, 52, 62, 74, 72, 58, 38, 24, 14, 8, 5, 3)
_NIGHT = (56, 48, 38, 26, 14, 8, 6, 8, 10, 14, 20, 28, 38, 44, 46, 48, 54, 62, 70, 72, 74, 76, 74, 66)
PROFILES = np.array([_DAY, _WORKING, _HOME, _NIGHT], np.float64)
PROFILE_WEIGHTS = np.array([0.44, 0.32, 0.16, 0.08])
NIGHT_OWL = 3

WEEKDAYS = np.array([0.92, 0.93, 0.96, 1.00, 1.16, 1.22, 0.81])
"""Monday to Sunday, mean one: shops fill on Friday and Saturday."""

_STEPS = 2048
_THURSDAY = 3
"""1 January 1970 was one; Monday is 0."""


def _inverse() -> Doubles:
    edges = np.linspace(0, DAY_S, 25)
    return np.array(
        [
            np.interp(np.linspace(0, 1, _STEPS + 1), np.concatenate([[0], np.cumsum(p) / p.sum()]), edges)
            for p in PROFILES
        ]
    )


_INVERSE = _inverse()


def moments(day_ms: int | Ints, offset_min: Ints, profile: Ints, u: Doubles) -> Ints:
    """The instant in the 24 hours from `day_ms` at which the local clock of each row shows its drawn time of day."""
    step = u * _STEPS
    low = step.astype(np.int64)
    second = _INVERSE[profile, low] + (step - low) * (_INVERSE[profile, low + 1] - _INVERSE[profile, low])
    midnight_ms = (day_ms + offset_min * 60_000) % DAY_MS
    return day_ms + ((second * 1000).astype(np.int64) - midnight_ms) % DAY_MS


def local_hour(at_ms: Ints, offset_min: Ints) -> Ints:
    """Hour of the local clock, 0 to 23."""
    return (at_ms + offset_min * 60_000) % DAY_MS // HOUR_MS


def busy(at_ms: Ints, offset_min: Ints, u: Doubles) -> Flags:
    """Which of the drawn payments happen, so that weekdays differ as WEEKDAYS says."""
    weekday = ((at_ms + offset_min * 60_000) // DAY_MS + _THURSDAY) % 7
    happens: Flags = u * WEEKDAYS.max() < WEEKDAYS[weekday]
    return happens


def awake(at_ms: Ints, offset_min: Ints, u: Doubles) -> Ints:
    """The same instants, but four in five of those that fall into the local night wait for the morning."""
    asleep = (local_hour(at_ms, offset_min) >= 1) & (local_hour(at_ms, offset_min) < 7) & (u < 0.8)
    return at_ms + np.where(asleep, NIGHT_MS, 0)


NIGHT_MS = 7 * HOUR_MS
THINNING = float(WEEKDAYS.mean() / WEEKDAYS.max())
"""Share of the drawn payments that `busy` keeps over a week."""
