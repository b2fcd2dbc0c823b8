"""Which dimension of quality a reason for refusal belongs to."""

from functools import cache

from lakehouse.contracts.silver import BY_KIND
from lakehouse.tables import Holds, Required, Rule

COMPLETENESS, VALIDITY, UNIQUENESS = "completeness", "validity", "uniqueness"
TIMELINESS, CONSISTENCY = "timeliness", "consistency"
DIMENSIONS = (COMPLETENESS, VALIDITY, UNIQUENESS, TIMELINESS, CONSISTENCY)

_TIMES = ("seconds_behind_broker", "seconds_late", "seconds_until_available")
_AGAINST_OTHERS = ("conflict", "currency_without_rate", "no_reference_in_force", "control_refused")
"""Reasons of admission's ordered pass: the record contradicts, or lacks, what other records say."""


def dimension_of(rule: Rule) -> str:
    """The dimension of a row rule: by what it looks at."""
    if isinstance(rule, Required):
        return COMPLETENESS
    if rule.column in _TIMES:
        return TIMELINESS
    return CONSISTENCY if isinstance(rule, Holds) and rule.column == "dates_plausible" else VALIDITY


@cache
def _rules() -> dict[str, str]:
    return {rule.name: dimension_of(rule) for table in BY_KIND.values() for rule in table.rules}


def dimension_of_reason(reason: str) -> str:
    """The dimension of a reason as quarantine names it; what cannot be decoded is not valid."""
    name = reason.split(":", 1)[0]
    return CONSISTENCY if name in _AGAINST_OTHERS else _rules().get(name, VALIDITY)
