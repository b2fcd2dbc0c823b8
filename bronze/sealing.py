"""Kafka rows -> bronze rows, in Arrow batches on the workers; keys are read there and never travel."""

import base64
from collections.abc import Callable, Iterable, Set
from datetime import UTC, datetime

import numpy as np
import orjson
import pyarrow as pa

from lakehouse.crypto import Digests, RecordSeal
from lakehouse.data_keys import DataKeys, day_key_id
from lakehouse.envelope import Headers, packed, position, repaired_position
from lakehouse.keys import KeySource
from lakehouse.purging import EMPTY
from lakehouse.registry import schema_ids
from lakehouse.texts import Texts

Batches = Iterable[pa.RecordBatch]
Purged = Set[tuple[int, int]]
"""(partition, offset) of records that were purged on request."""


def sealing(
    keys: KeySource, topic_id: str, ingested_at: datetime, purged: Purged = frozenset()
) -> Callable[[Batches], Batches]:
    """A function for mapInArrow: (key, value, headers as JSON, partition, offset, timestamp) -> rows of bronze.

    The key of the day is made here, on the driver, when there is none; the workers only read it. What was purged on
    request is not sealed again, whatever the topic still has of it.
    """
    stamp = ingested_at.astimezone(UTC)
    key_id = day_key_id(DataKeys(keys).of_today(f"bronze|{stamp.date().isoformat()}"))

    def sealed(batches: Batches) -> Batches:
        seal = RecordSeal.opening(DataKeys(keys), key_id)
        digests = Digests(keys.keyring())
        for batch in batches:
            yield _sealed(batch, seal, digests, topic_id, stamp, purged)

    return sealed


def _headers(text: str | None) -> Headers:
    """Headers as Spark's to_json writes them: a list of {key, value}, bytes as base64, null left out."""
    if text is None:
        return ()
    return [(h["key"], base64.b64decode(h["value"]) if "value" in h else None) for h in orjson.loads(text)]


def _sealed(
    batch: pa.RecordBatch, seal: RecordSeal, digests: Digests, topic_id: str, stamp: datetime, purged: Purged
) -> pa.RecordBatch:
    n = batch.num_rows
    values: list[bytes | None] = batch.column("value").to_pylist()
    keys: list[bytes | None] = batch.column("key").to_pylist()
    headers = [_headers(text) for text in batch.column("headers").to_pylist()]
    partitions, offsets = batch.column("partition").to_pylist(), batch.column("offset").to_pylist()
    records = [packed(key, found, value) for key, found, value in zip(keys, headers, values, strict=True)]
    places = [position(topic_id, p, o) for p, o in zip(partitions, offsets, strict=True)]
    texts = Texts.from_arrow(batch.column("value"))
    sealed = seal.seal(records, places)
    if purged:
        sealed = [
            EMPTY if at in purged else one
            for one, at in zip(sealed, zip(partitions, offsets, strict=True), strict=True)
        ]
    ids = schema_ids(texts.buffer, texts.start, texts.start + texts.length)
    constant = np.zeros(n, np.int32)

    def repeated(value: object, kind: pa.DataType) -> pa.Array:
        return pa.DictionaryArray.from_arrays(constant, pa.array([value], kind)).cast(kind)

    return pa.RecordBatch.from_arrays(
        [
            repeated(topic_id, pa.string()),
            batch.column("partition"),
            batch.column("offset"),
            batch.column("timestamp"),
            pa.array(ids.astype(np.int32), mask=(ids < 0) | (ids > 2**31 - 1)),
            pa.array(texts.length.astype(np.int32)),
            pa.array([digests.payload(value or b"") for value in values], pa.binary()),
            pa.array(sealed, pa.binary()),
            repeated(seal.key_id, pa.string()),
            repeated(stamp, pa.timestamp("us", "UTC")),
            repeated(stamp.date(), pa.date32()),
            pa.array([repaired_position(found) for found in headers], pa.string()),
        ],
        names=[
            *("topic_id", "partition", "offset", "broker_time", "schema_id", "record_bytes", "payload_digest"),
            *("sealed", "sealing_key", "ingested_at", "ingest_date", "repairs"),
        ],
    )
