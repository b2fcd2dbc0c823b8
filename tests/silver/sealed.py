"""Records as bronze has them, without a broker."""

from datetime import datetime

import pyarrow as pa

from bronze.sealing import sealing
from lakehouse.keys import KeySource


def in_bronze(source: KeySource, values: list[bytes], broker_time: datetime, ingested_at: datetime) -> pa.RecordBatch:
    """Rows of bronze at offsets from 0 of topic id T."""
    n = len(values)
    rows = {
        "key": pa.array([None] * n, pa.binary()),
        "value": pa.array(values, pa.binary()),
        "headers": pa.array([None] * n, pa.string()),
        "partition": pa.array([0] * n, pa.int32()),
        "offset": pa.array(range(n), pa.int64()),
        "timestamp": pa.array([broker_time] * n, pa.timestamp("us", "UTC")),
    }
    return next(iter(sealing(source, "T", ingested_at)([pa.RecordBatch.from_pydict(rows)])))
