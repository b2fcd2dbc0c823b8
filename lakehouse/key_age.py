"""How old the master key is that wraps data keys, and whether it should have been rotated."""

from datetime import UTC, datetime

from prometheus_client import Gauge

from lakehouse import keys
from lakehouse.errors import KeysMissing
from lakehouse.keys import MADE_AT, VARIABLE, Keyring
from lakehouse.log import logger
from lakehouse.settings import Settings

DAY_S = 86_400
AGE = Gauge("fraudlake_sealing_key_age_seconds", "Age of the master key that wraps new data keys; NaN: not known")


def age_s(ring: Keyring, now: datetime) -> float | None:
    """Seconds since the newest master key was made; None where nobody wrote down when."""
    made_at = ring.made_at.get(ring.current)
    return None if made_at is None else (now - made_at).total_seconds()


def too_old(ring: Keyring, max_age_days: int, now: datetime) -> str | None:
    """Why the newest master key has to be rotated, and how; None where it has not."""
    age = age_s(ring, now)
    if age is None:
        return (
            f"Nobody knows how old master key version {ring.current} is. "
            f"Set {VARIABLE}{ring.current}{MADE_AT}, or made_at in keyring.json."
        )
    if age > max_age_days * DAY_S:
        return (
            f"Master key version {ring.current} is {age / DAY_S:.0f} days old, keys.max_age_days is {max_age_days}. "
            "Rotate it: python -m lakehouse.keys rotate, then rewrap."
        )
    return None


def checked(settings: Settings) -> str | None:
    """The same of the keys as they are now; sets the metric."""
    try:
        ring = keys.source(settings).keyring()
    except KeysMissing as error:
        AGE.set(float("nan"))
        return str(error)
    now = datetime.now(UTC)
    age = age_s(ring, now)
    AGE.set(float("nan") if age is None else age)
    return too_old(ring, settings.keys.max_age_days, now)


def warn_of_age(settings: Settings) -> None:
    """Say in the log that a key is too old; KeysMissing where there is none."""
    keys.source(settings).keyring()
    if why := checked(settings):
        logger("keys").warning("the master key should be rotated", reason=why)
