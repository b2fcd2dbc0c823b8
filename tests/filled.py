"""Rows of a table in which only what matters to a test is given."""

from datetime import UTC, date, datetime
from typing import Any

from lakehouse.tables import Table

DAY_1 = datetime(2026, 1, 1, tzinfo=UTC)
DEFAULTS: dict[str, Any] = {
    "string": "x",
    "timestamp": DAY_1,
    "bigint": 0,
    "int": 0,
    "double": 0.5,
    "boolean": False,
    "binary": b"",
    "date": date(2026, 1, 1),
    "array<float>": [0.25],
    "array<string>": [],
}


def row(table: Table, offset: int, **given: Any) -> dict[str, Any]:
    """A row at an offset: what is not given has a default of its type, or is null where it may be."""
    place = {"topic_id": "T", "partition": 0, "offset": offset}
    return {c.name: None if c.nullable else DEFAULTS[c.type] for c in table.columns} | place | given
