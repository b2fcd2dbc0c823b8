"""What a table at rest is validated against: its row rules, and what else its contract says."""

from collections.abc import Mapping
from typing import Any

from expectations.suites import suite
from lakehouse.tables import Required, Table


def unique_columns(table: Table) -> tuple[str, ...]:
    """The columns that no two rows share: the key, or the position where a key may come again after the horizon."""
    return table.key if table.position is None or "offset" in table.key else table.position


def suite_at_rest(table: Table) -> dict[str, Any]:
    """The suite of a table with everything that needs the whole table, in Great Expectations' own JSON form."""
    content = suite(table)
    required = {rule.column for rule in table.rules if isinstance(rule, Required)}
    unique = list(unique_columns(table))
    expectations = [
        *content["expectations"],
        *(
            _one(f"{column.name}_is_there", "expect_column_values_to_not_be_null", {"column": column.name})
            for column in table.columns
            if not column.nullable and column.name not in required
        ),
        _one(
            "key_is_unique",
            "expect_compound_columns_to_be_unique" if len(unique) > 1 else "expect_column_values_to_be_unique",
            {"column_list": unique} if len(unique) > 1 else {"column": unique[0]},
        ),
    ]
    return {**content, "expectations": expectations}


def _one(name: str, kind: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": kind, "kwargs": dict(kwargs), "meta": {"rule": name}}
