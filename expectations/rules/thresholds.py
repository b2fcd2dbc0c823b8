"""The cuts between the bands of scores, from the payload of scope `thresholds`.

{"cuts": {"challenge": 0.3, "review": 0.5, "decline": 0.8}}
"""

from collections.abc import Mapping

from expectations.rules import shapes
from expectations.rules.rule_set import OUTCOMES
from lakehouse.errors import ControlRefused


def cuts_of(payload: str) -> Mapping[str, float]:
    """The cut of every band but the lowest; ControlRefused unless they rise from above 0 to at most 1."""
    content = shapes.loaded("thresholds", payload, ("cuts",))
    cuts = shapes.shaped("cuts", content["cuts"], OUTCOMES[1:])
    values = [cuts[name] for name in OUTCOMES[1:]]
    if any(type(value) not in (int, float) for value in values) or not 0 < values[0] <= values[1] <= values[2] <= 1:
        raise ControlRefused("The cuts must rise: 0 < challenge <= review <= decline <= 1.")
    return {name: float(value) for name, value in zip(OUTCOMES[1:], values, strict=True)}
