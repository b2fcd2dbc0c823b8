"""Control events of scope `keys` in a range of the log, found before anything is masked.

The tokens of a range are of one version, so a range is taken in pieces that end with such an event.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from expectations.control import ControlEvent, InForce
from expectations.decoded import control_event
from lakehouse.crypto import Digests
from lakehouse.data_keys import DataKeys
from lakehouse.errors import ControlRefused
from lakehouse.keys import KeySource
from lakehouse.registry import registry
from lakehouse.signing import Trust
from silver.sound import sound

Batches = Iterable[pa.RecordBatch]

KIND, SCOPE = "control", "keys"
_TEXTS = ("control_id", "scope", "previous_digest", "payload", "author", "approver")
_SIGNATURES = ("author_signature", "approver_signature")
FOUND = ", ".join(
    (
        *("offset bigint", "version bigint"),
        *(f"{name} string" for name in _TEXTS),
        *(f"{name} binary" for name in _SIGNATURES),
    )
)


def looking(keys: KeySource, schema_id: int) -> Callable[[Batches], Batches]:
    """A function for mapInArrow: sealed rows of control events -> the sound ones of scope `keys`."""

    def looked(batches: Batches) -> Batches:
        schema, data_keys, digests = registry().by_id()[schema_id], DataKeys(keys), Digests(keys.keyring())
        for rows in batches:
            found, good = sound(rows, schema, data_keys, digests)
            offsets = rows.column("offset").to_pylist()
            events = [(offsets[row], control_event(found.batch, row)) for row in good]
            ours = [{"offset": offset, **event.__dict__} for offset, event in events if event.scope == SCOPE]
            yield pa.RecordBatch.from_pylist(ours, _SCHEMA)

    return looked


_SCHEMA = pa.schema(
    [
        *(("offset", pa.int64()), ("version", pa.int64())),
        *((name, pa.string()) for name in _TEXTS),
        *((name, pa.binary()) for name in _SIGNATURES),
    ]
)


def arrived(keys: KeySource, rows: DataFrame, schema_ids: Sequence[int]) -> dict[int, ControlEvent]:
    """The sound events among some rows of bronze, by offset in the order of the log."""
    found: dict[int, ControlEvent] = {}
    for schema_id in schema_ids:
        of_schema = rows.where(F.col("schema_id") == schema_id)
        columns = of_schema.select("topic_id", "partition", "offset", "broker_time", "sealed", "sealing_key")
        for row in columns.mapInArrow(looking(keys, schema_id), FOUND).collect():
            texts = [row[name] for name in ("previous_digest", "payload", "author", "approver")]
            signatures = [bytes(row[name]) for name in _SIGNATURES]
            found[row["offset"]] = ControlEvent(row["control_id"], row["scope"], row["version"], *texts, *signatures)
    return dict(sorted(found.items()))


def next_switch(events: Mapping[int, ControlEvent], start: int, in_force: InForce, trust: Trust) -> int | None:
    """The first offset from `start` on at which an event may take force; only there can the version change."""
    for offset, event in events.items():
        if offset >= start:
            try:
                in_force.check(event, trust)
            except ControlRefused:
                continue
            return offset
    return None
