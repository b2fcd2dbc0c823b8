"""Decoded columns as Arrow arrays of the contract's types."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.codec import Batch, Strings
from lakehouse.texts import Flags, Texts

_MAX_MS = 1 << 52
"""Times beyond it break the row rules; they are cut here so that microseconds fit 64 bits."""


def arrow_column(declared: Any, batch: Batch, name: str, valid: Flags) -> pa.Array:
    """A decoded column as the Arrow type of its contract; null where not valid."""
    if isinstance(declared, list):
        declared = declared[1]
    column = batch.columns[name]
    if isinstance(column, Strings):
        return pa.array(
            [v if ok else None for v, ok in zip(column.to_list(), valid.tolist(), strict=True)], pa.list_(pa.string())
        )
    if isinstance(column, Texts):
        return column.to_arrow(valid, binary=declared == "bytes")
    mask = ~valid
    if isinstance(declared, dict):
        if declared["logicalType"] == "timestamp-millis":
            micros = np.clip(column, -_MAX_MS, _MAX_MS) * 1000
            return pa.array(micros, pa.int64(), mask=mask).cast(pa.timestamp("us", "UTC"))
        return pa.array(column.astype(np.int32), pa.int32(), mask=mask).cast(pa.date32())
    kind = {"int": pa.int32(), "long": pa.int64(), "double": pa.float64(), "boolean": pa.bool_()}[declared]
    return pa.array(column, mask=mask).cast(kind)


def defaults(field: Mapping[str, Any], rows: int) -> pa.Array:
    """A field that an older version of the schema lacks: its default, which is null or an empty list."""
    declared = field["type"][1] if isinstance(field["type"], list) else field["type"]
    if isinstance(declared, dict):
        return pa.array([field["default"]] * rows, pa.list_(pa.string()))
    return pa.nulls(rows, {"double": pa.float64(), "string": pa.string(), "long": pa.int64()}[declared])
