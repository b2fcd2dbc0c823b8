"""The record that is to take a refused one's place: the same bytes, other bytes, or an event given as JSON."""

import base64
import binascii
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import orjson

from expectations.decoded import broken_rules, decode
from lakehouse import single
from lakehouse.crypto import Digests
from lakehouse.errors import Terminal
from lakehouse.registry import PREFIX_BYTES, Schema, registry, schema_ids
from lakehouse.texts import Texts
from lakehouse.topics import EVENT_KINDS


class RepairRefused(Terminal):
    """A repair cannot be made, would be refused again, or was made before in another form."""


_EPOCH, _DAY_0 = datetime(1970, 1, 1, tzinfo=UTC), date(1970, 1, 1)


def schema_of(record: bytes) -> Schema:
    """The schema that a record names; RepairRefused when it is of no kind of topic `events`."""
    texts = Texts.of([record])
    (schema_id,) = schema_ids(texts.buffer, texts.start, texts.start + texts.length).tolist()
    schema = registry().by_id().get(schema_id)
    if schema is None or schema.kind not in EVENT_KINDS:
        named = "no schema id" if schema_id < 0 else f"schema id {schema_id}"
        raise RepairRefused(f"The record has {named} of a kind of topic events.", "Give the event as JSON.")
    return schema


def reasons_to_refuse(record: bytes, broker_ms: int, digests: Digests) -> list[str]:
    """The row rules that a record breaks, or how it cannot be decoded; nothing that depends on other records."""
    schema = schema_of(record)
    end = np.array([len(record)])
    found = decode(schema, record, np.zeros(1, np.int64), end, np.array([broker_ms]), digests)
    return [name for name in broken_rules(found)[0].split(",") if name]


def record_of(kind: str, fields: Mapping[str, Any]) -> bytes:
    """The record of an event given as JSON; RepairRefused names the field, never its value.

    Times are ISO 8601 with their zone, or milliseconds; days are ISO 8601; bytes are base64; what is not given is null.
    """
    schema = registry().latest(kind)
    declared = {field["name"]: field["type"] for field in schema.parsed["fields"]}
    if unknown := sorted(set(fields) - set(declared)):
        raise RepairRefused(f"A {kind} has no field {', '.join(unknown)}.", f"It has {', '.join(declared)}.")
    return single.written(schema, {name: _value(name, type_, fields.get(name)) for name, type_ in declared.items()})


def changed(record: bytes, changes: Mapping[str, Any]) -> bytes:
    """A record with some of its fields changed; RepairRefused when it cannot be decoded."""
    schema = schema_of(record)
    start, end = np.array([PREFIX_BYTES]), np.array([len(record)])
    if schema.codec.decode(np.frombuffer(record, np.uint8), start, end).fault.any():
        raise RepairRefused("The refused record cannot be decoded, so none of its fields can be kept.", "Use --event.")
    held = single.read(schema, record)
    kept = {name: base64.b64encode(v).decode() if isinstance(v, bytes) else v for name, v in held.items()}
    return record_of(schema.kind, {**kept, **changes})


def fields_of(text: bytes, place: str) -> dict[str, Any]:
    """The fields of a JSON file."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise RepairRefused(f"{place} holds no JSON object.", "Write the event's fields by name.")
    return found


def _value(name: str, declared: Any, given: Any) -> Any:
    nullable = isinstance(declared, list)
    type_ = declared[1] if nullable else declared
    if given is None:
        if nullable:
            return None
        raise RepairRefused(f"{name} may not be null.", "Give it a value.")
    logical = type_.get("logicalType") if isinstance(type_, dict) else None
    plain = type_["type"] if isinstance(type_, dict) else type_
    try:
        if isinstance(given, str) and logical == "timestamp-millis":
            moment = datetime.fromisoformat(given)
            return (
                (moment.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
                if moment.tzinfo
                else _refused(name, plain)
            )
        if isinstance(given, str) and logical == "date":
            return (date.fromisoformat(given) - _DAY_0).days
        if isinstance(given, str) and plain == "bytes":
            return base64.b64decode(given, validate=True)
    except (ValueError, binascii.Error):
        _refused(name, logical or plain)
    fits = {
        "string": isinstance(given, str),
        "boolean": isinstance(given, bool),
        "int": _whole(given, 32),
        "long": _whole(given, 64),
        "double": isinstance(given, float | int) and not isinstance(given, bool) and math.isfinite(given),
    }
    return given if fits.get(plain, False) else _refused(name, logical or plain)


def _whole(given: Any, bits: int) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and -(1 << bits - 1) <= given < 1 << bits - 1


def _refused(name: str, type_: str) -> Any:
    raise RepairRefused(f"{name} is no {type_}.", "Times need their zone; bytes are base64; numbers have no quotes.")
