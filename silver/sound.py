"""Sealed bronze rows of one schema -> those that break no row rule, decoded; on a worker, before anything is masked."""

import pyarrow as pa

from expectations.decoded import Decoded, broken_rules, decode
from lakehouse.crypto import Digests
from lakehouse.data_keys import DataKeys
from lakehouse.envelope import open_values
from lakehouse.registry import Schema
from lakehouse.texts import Texts


def sound(rows: pa.RecordBatch, schema: Schema, data_keys: DataKeys, digests: Digests) -> tuple[Decoded, list[int]]:
    """(records, rows of the sound ones); what cannot be opened is not sound."""
    texts = Texts.of(open_values(rows, data_keys, {}))
    broker_ms = rows.column("broker_time").cast(pa.int64()).to_numpy() // 1000
    found = decode(schema, texts.buffer.tobytes(), texts.start, texts.start + texts.length, broker_ms, digests)
    return found, [row for row, names in enumerate(broken_rules(found)) if not names]
