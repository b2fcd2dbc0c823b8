"""One record at a time, where records come alone: for so few fastavro is faster than the columns of `codec`.

The bytes are the same.
"""

import io
from functools import cache
from typing import Any, cast

import fastavro

from lakehouse.registry import PREFIX_BYTES, Schema, registry


def _number(declared: Any) -> Any:
    return declared["type"] if isinstance(declared, dict) and "logicalType" in declared else declared


@cache
def _parsed(schema_id: int, logical: bool) -> Any:
    parsed = dict(registry().by_id()[schema_id].parsed)
    if not logical:
        parsed["fields"] = [{**field, "type": _number(field["type"])} for field in parsed["fields"]]
    return fastavro.parse_schema(parsed)


def read(schema: Schema, record: bytes) -> dict[str, Any]:
    """The fields of a record that was written with `schema`; times as numbers, as a claimed one may be no date."""
    body = io.BytesIO(record[PREFIX_BYTES:])
    return cast(dict[str, Any], fastavro.schemaless_reader(body, _parsed(schema.id, logical=False)))


def written(schema: Schema, fields: dict[str, Any]) -> bytes:
    """A record behind the schema's prefix; times as datetime, cut to milliseconds, or as numbers."""
    out = io.BytesIO()
    out.write(schema.prefix)
    fastavro.schemaless_writer(out, _parsed(schema.id, logical=True), fields)
    return out.getvalue()
