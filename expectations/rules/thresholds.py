"""The cuts between the bands of scores and how much is explored, from the payload of scope `thresholds`.

{"cuts": {"challenge": 0.3, "review": 0.5, "decline": 0.8}, "exploration": {"share": 0.02, "up_to_minor": 3000}}

Without `exploration` nothing is explored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expectations.rules import shapes
from expectations.rules.rule_set import OUTCOMES
from lakehouse.errors import ControlRefused

MOST_EXPLORED = 0.05
"""No two people may let through a larger share: one in twenty answers questions about hundreds of declines."""


@dataclass(frozen=True)
class Exploration:
    """Which share of declined payments is let through, and up to what amount, minor units of the base currency."""

    share: float
    up_to_minor: int


def _content(payload: str) -> dict[str, Any]:
    content = shapes.loaded_with("thresholds", payload, ("cuts",), ("exploration",))
    return content


def cuts_of(payload: str) -> Mapping[str, float]:
    """The cut of every band but the lowest; ControlRefused unless they rise from above 0 to at most 1."""
    cuts = shapes.shaped("cuts", _content(payload)["cuts"], OUTCOMES[1:])
    values = [cuts[name] for name in OUTCOMES[1:]]
    if any(type(value) not in (int, float) for value in values) or not 0 < values[0] <= values[1] <= values[2] <= 1:
        raise ControlRefused("The cuts must rise: 0 < challenge <= review <= decline <= 1.")
    return {name: float(value) for name, value in zip(OUTCOMES[1:], values, strict=True)}


def exploration_of(payload: str) -> Exploration | None:
    """How much is explored, None for nothing; ControlRefused beyond the cap, or without an amount."""
    given = _content(payload).get("exploration")
    if given is None:
        return None
    asked = shapes.shaped("exploration", given, ("share", "up_to_minor"))
    share, limit = asked["share"], asked["up_to_minor"]
    if type(share) not in (int, float) or not 0 < share <= MOST_EXPLORED:
        raise ControlRefused(f"The explored share must be above 0 and at most {MOST_EXPLORED}.")
    if type(limit) is not int or limit < 1:
        raise ControlRefused("Exploration needs its limit: up_to_minor, a whole number of minor units, at least 1.")
    return Exploration(float(share), limit)
