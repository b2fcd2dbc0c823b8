"""Avro by fastavro: the independent writer and reader that ours is compared with."""

import io
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import fastavro
import numpy as np
from hypothesis import strategies as st

from lakehouse.avro import FAULTS
from lakehouse.codec import Batch, Column, Decoded, Strings
from lakehouse.registry import Schema, registry
from lakehouse.texts import Texts

Record = Mapping[str, Any]

KINDS = sorted({schema.kind for schema in registry().schemas})


def plain(declared: Any) -> Any:
    """An Avro type without logical types: the numbers and texts that really travel."""
    if isinstance(declared, list):
        return [plain(one) for one in declared]
    if isinstance(declared, dict) and declared["type"] != "array":
        return declared["type"]
    return declared


@cache
def _parsed(schema_id: int) -> Any:
    schema = registry().by_id()[schema_id].parsed
    fields = [{"name": f["name"], "type": plain(f["type"])} for f in schema["fields"]]
    return fastavro.parse_schema({"type": "record", "name": schema["name"], "fields": fields})


def written(schema: Schema, record: Record) -> bytes:
    """The body that fastavro writes."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _parsed(schema.id), record)
    return out.getvalue()


def read(schema: Schema, body: bytes) -> Record | None:
    """The record that fastavro reads when it reads the body to its end; None where it fails or leaves bytes over."""
    stream = io.BytesIO(body)
    try:
        record: Record = fastavro.schemaless_reader(stream, _parsed(schema.id), None)
    except (EOFError, IndexError, UnicodeDecodeError, OverflowError, ValueError, MemoryError):
        return None
    return record if stream.tell() == len(body) else None


_RANGE = {"int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}


def _values(declared: Any) -> st.SearchStrategy[Any]:
    if isinstance(declared, list):
        return st.none() | _values(declared[1])
    if isinstance(declared, dict):
        return st.lists(st.text(max_size=12), max_size=4)
    if declared in _RANGE:
        low, high = _RANGE[declared]
        return st.sampled_from((low, -1, 0, 1, high)) | st.integers(low, high)
    return {
        "boolean": st.booleans(),
        "double": st.floats(),
        "bytes": st.binary(max_size=20),
        "string": st.text(max_size=20),
    }[declared]


@cache
def records(kind: str) -> st.SearchStrategy[Record]:
    """Any record that a schema allows: every mix of nulls, all of Unicode, the ends of ranges, NaN and infinities."""
    fields = registry().latest(kind).parsed["fields"]
    return st.fixed_dictionaries({f["name"]: _values(plain(f["type"])) for f in fields})


def batch_of(schema: Schema, rows: Sequence[Record]) -> Batch:
    """Records as the columns that our encoder takes."""
    columns: dict[str, Column] = {}
    valid = {}
    for field in schema.parsed["fields"]:
        name, declared = field["name"], plain(field["type"])
        values = [row[name] for row in rows]
        if isinstance(declared, list):
            valid[name] = np.array([v is not None for v in values], np.bool_)
            declared = declared[1]
        if isinstance(declared, dict):
            columns[name] = Strings.of(values)
        elif declared in ("string", "bytes"):
            columns[name] = Texts.of([b"" if v is None else v for v in values])
        else:
            kind = {"boolean": np.bool_, "double": np.float64}.get(declared, np.int64)
            columns[name] = np.array([0 if v is None else v for v in values], kind)
    return Batch(len(rows), columns, valid)


def rows_of(schema: Schema, batch: Batch) -> list[Record]:
    """Columns as records."""
    out: list[dict[str, Any]] = [{} for _ in range(batch.rows)]
    for field in schema.parsed["fields"]:
        name, declared = field["name"], plain(field["type"])
        kind = declared[1] if isinstance(declared, list) else declared
        column = batch.columns[name]
        values = column.tolist() if isinstance(column, np.ndarray) else column.to_list()
        for row, value, has in zip(out, values, batch.has(name).tolist(), strict=True):
            row[name] = None if not has else value.decode() if kind == "string" else value
    return list(out)


def exact(value: Any) -> Any:
    """A value that equals another one's exactly where both are the same bits (NaN is NaN, 0.0 is not -0.0)."""
    if isinstance(value, Mapping):
        return {name: exact(one) for name, one in value.items()}
    if isinstance(value, list):
        return [exact(one) for one in value]
    return struct.pack("<d", value) if isinstance(value, float) else value


def decoded(schema: Schema, bodies: Sequence[bytes], mark: str | None = None) -> Decoded:
    """What our decoder makes of bodies that lie one behind the other."""
    texts = Texts.of(bodies)
    return schema.codec.decode(texts.buffer, texts.start, texts.start + texts.length, mark)


def faults(schema: Schema, bodies: Sequence[bytes]) -> list[str]:
    """What our decoder says is wrong with each body; empty for a good one."""
    return [FAULTS[fault] for fault in decoded(schema, bodies).fault.tolist()]
