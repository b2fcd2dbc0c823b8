"""What a feature is: data, from which its program, its documentation and its column are derived."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from expectations.rules.vocabulary import PATTERNS as PATTERNS
from features.expressions import Operation
from features.windows import WINDOWS

Family = Literal["velocity", "device", "behaviour", "geography", "history", "ring"]

EXACT = "exact"
OWN_VALUE = "its value"
"""What a feature that has no history is without history."""
FAR_EDGE = "far edge within 1/64 of the window for keys that had more than 48 events in 37 days"
DELAYED_EDGE = (
    "both edges of the moved window within 1/64 of their age (delay, delay and window) for keys that had more than "
    "48 events in 37 days"
)
SKETCHED = (
    "exact for keys with up to 48 events in 37 days and for the newest events of others; "
    "else linear counting over 64 bits, 310 at most"
)


def window_in(statistic: str) -> str | None:
    """The window that the name of a statistic ends with, if any."""
    ending = statistic.rsplit("_", 1)[-1]
    return ending if ending in WINDOWS else None


@dataclass(frozen=True)
class Feature:
    """One feature: `entity` is whose state it uses ("payment" for none), `inputs` are names of statistics.

    An input `payment.x` is the payment's own statistic x; another is one of the entity's.
    """

    name: str
    family: Family
    entity: str
    operation: Operation
    inputs: tuple[str, ...]
    unit: str
    meaning: str
    pattern: str
    without_history: str = "missing"
    bound: str = EXACT

    @property
    def window(self) -> str:
        """The longest window of its inputs; `life` where it has none, `-` for the payment's own."""
        if self.entity == "payment":
            return "-"
        named = [window for window in map(window_in, self.inputs) if window]
        return max(named, key=WINDOWS.__getitem__, default="life")


def windowed(
    family: Family,
    entity: str,
    statistic: str,
    windows: Iterable[str],
    unit: str,
    meaning: str,
    pattern: str,
    bound: str = FAR_EDGE,
    without_history: str = "0",
) -> list[Feature]:
    """One feature per window: the statistic itself."""
    return [
        Feature(
            f"{entity}_{statistic}_{window}",
            family,
            entity,
            Operation.VALUE,
            (f"{statistic}_{window}",),
            unit,
            f"{meaning} in the {window} before this payment",
            pattern,
            without_history,
            bound,
        )
        for window in windows
    ]


def own(name: str, family: Family, unit: str, meaning: str, pattern: str) -> Feature:
    """A feature that is the payment's own statistic of the same name."""
    return Feature(name, family, "payment", Operation.VALUE, (f"payment.{name}",), unit, meaning, pattern, OWN_VALUE)


def ratio(
    name: str,
    family: Family,
    entity: str,
    over: str,
    under: str,
    unit: str,
    meaning: str,
    pattern: str,
    bound: str = EXACT,
) -> Feature:
    """One statistic over another."""
    return Feature(name, family, entity, Operation.RATIO, (over, under), unit, meaning, pattern, "missing", bound)


def value(
    name: str,
    family: Family,
    entity: str,
    statistic: str,
    unit: str,
    meaning: str,
    pattern: str,
    without_history: str = "missing",
) -> Feature:
    """A long-term statistic of an entity or pair, under a feature's name."""
    return Feature(name, family, entity, Operation.VALUE, (statistic,), unit, meaning, pattern, without_history)
