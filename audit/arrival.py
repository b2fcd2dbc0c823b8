"""A topic beside the bronze table that it lands in: every record once, at its position, with its own digest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audit import digests, keys
from audit.digests import Digests, Ints
from audit.findings import Hop
from audit.log import Records, Topic
from audit.schemas import PREFIX_BYTES, Schema
from audit.tables import Columns, Span, Table
from audit.witnesses import Witness, Wrong, agreed, placed

SEAL_BYTES = 28
"""AES-GCM adds a nonce of 12 and a tag of 16 bytes."""
_BRONZE = (
    *("schema_id", "record_bytes", "broker_time", "payload_digest", "sealed", "sealing_key", "ingested_at"),
    *("ingest_date",),
)
NO_SCHEMA = -1


@dataclass(frozen=True)
class Decoded:
    """Records of one kind from the topic: digests of what tables carry of them, and numbers of their own."""

    offset: Ints
    digest: Digests
    numbers: Mapping[str, Ints]


@dataclass
class Arrived:
    """A span of a topic and its bronze table, as the following hops want it."""

    span: Span
    topic: Columns | None
    """None where no topic is compared; it holds only offsets that the topic still has."""
    bronze: Columns
    kinds: dict[str, Decoded] = field(default_factory=dict)

    def witness(self, fact: str, table: str) -> list[Witness]:
        """Topic and bronze as witnesses of a fact, where they hold it; `table` is bronze's name."""
        found = []
        if self.topic is not None and fact in self.topic:
            found.append(Witness("the topic", _ints(self.topic["offset"]), _digests(self.topic[fact])))
        return [*found, Witness(table, _ints(self.bronze["offset"]), _digests(self.bronze[fact]))]

    def schema_ids(self, offsets: Ints) -> Ints:
        """The schema id of each of some positions, by the topic where it has them, else by bronze; -2 where neither."""
        found = np.full(len(offsets), -2, np.int64)
        for side in (self.bronze, self.topic):
            if side is not None and len(side["offset"]):
                place = np.minimum(np.searchsorted(side["offset"], offsets), len(side["offset"]) - 1)
                here = side["offset"][place] == offsets
                found[here] = side["schema_id"][place[here]]
        return found


def _ints(values: object) -> Ints:
    return np.asarray(values, np.int64)


def _digests(values: object) -> Digests:
    return np.asarray(values, np.uint64)


def _of_bronze(batch: pa.RecordBatch) -> Columns:
    column = batch.column
    n = batch.num_rows
    day = (
        pc.cast(pc.cast(column("ingested_at"), pa.timestamp("us", "UTC")), pa.date32()) if n else pa.array([], "date32")
    )
    seals = [None if k is None else k.split("|")[1] for k in pc.unique(column("sealing_key")).to_pylist()] if n else []
    named = dict(zip(pc.unique(column("sealing_key")).to_pylist(), seals, strict=True)) if n else {}
    sealed_on = pa.array([named[k] for k in column("sealing_key").to_pylist()], pa.string())
    return {
        "schema_id": np.asarray(pc.cast(column("schema_id"), pa.int64()).fill_null(NO_SCHEMA)),
        "envelope": digests.rows([column("schema_id"), column("record_bytes"), column("broker_time")], n),
        "payload": digests.values(column("payload_digest")),
        "sealed_bytes": np.asarray(pc.cast(pc.binary_length(pc.cast(column("sealed"), "large_binary")), pa.int64())),
        "seal": digests.rows([column("sealed"), column("sealing_key")], n),
        "landing": digests.values(column("ingested_at")),
        "broker_time": digests.values(column("broker_time")),
        "day": np.asarray(pc.equal(pc.cast(day, pa.string()), sealed_on).fill_null(False)),
    }


def _schema_ids(values: list[bytes | None]) -> Ints:
    return np.array(
        [
            int.from_bytes(v[1:PREFIX_BYTES], "big") if v is not None and len(v) >= PREFIX_BYTES and not v[0] else -1
            for v in values
        ],
        np.int64,
    )


class Reading:
    """Turns a topic's records into what is compared."""

    def __init__(self, schemas: Mapping[int, Schema], kinds: tuple[str, ...], key: bytes | None) -> None:
        self._schemas = {number: schema for number, schema in schemas.items() if schema.kind in kinds}
        self._key = key
        self._numbers = {
            "payment": ("amount_minor",),
            "decision": ("epoch", "offset", "partition"),
            "engine_start": ("next_offset",),
        }

    def columns(self, records: Records) -> Columns:
        """What bronze holds of some records."""
        ids = _schema_ids(records.value)
        known = pa.array(np.where(ids < 0, 0, ids), pa.int64(), mask=(ids < 0) | (ids > 2**31 - 1))
        size = pa.array([len(v or b"") for v in records.value], pa.int64())
        broker = pa.array(records.broker_ms * 1000, pa.int64())
        found: Columns = {
            "offset": records.offset,
            "schema_id": ids,
            "envelope": digests.rows([known, size, broker], len(ids)),
            "sealed_bytes": records.envelope_bytes + SEAL_BYTES,
            "broker_time": digests.values(broker),
        }
        if self._key is not None:
            found["payload"] = digests.values(keys.payload_digests(self._key, records.value))
        return found

    def decoded(self, records: Records, ids: Ints) -> dict[str, Decoded]:
        """The records that can be decoded, by kind."""
        found = {}
        for number, schema in self._schemas.items():
            rows = np.flatnonzero(ids == number)
            pairs = [
                (row, schema.decoded(v)) for row, v in zip(rows.tolist(), records.take(rows.tolist()), strict=True)
            ]
            good = [(row, record) for row, record in pairs if record is not None]
            kept = [record for _, record in good]
            found[schema.kind] = Decoded(
                records.offset[[row for row, _ in good]] if good else np.zeros(0, np.int64),
                digests.rows(schema.columns(kept), len(kept)),
                {
                    name: np.array([record[name] for record in kept], np.int64)
                    for name in self._numbers.get(schema.kind, ())
                },
            )
        return found


def read(topic: Topic | None, bronze: Table, span: Span, reading: Reading, said: Callable[[int], None]) -> Arrived:
    """A span of a topic, as far as it still has it, and of its bronze table."""
    held = bronze.taken(span, _BRONZE, _of_bronze)
    if topic is None:
        return Arrived(span, None, held)
    low, high = topic.range(span.source)
    parts: list[Columns] = []
    kinds: dict[str, list[Decoded]] = {}
    for records in topic.records(span.source.partition, max(low, span.start), min(high, span.end)):
        columns = reading.columns(records)
        parts.append(columns)
        for kind, decoded in reading.decoded(records, _ints(columns["schema_id"])).items():
            kinds.setdefault(kind, []).append(decoded)
        said(len(records.offset))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else None
    return Arrived(span, joined, held, {kind: _joined(some) for kind, some in kinds.items()})


def _joined(parts: list[Decoded]) -> Decoded:
    return Decoded(
        np.concatenate([p.offset for p in parts]),
        np.concatenate([p.digest for p in parts]),
        {name: np.concatenate([p.numbers[name] for p in parts]) for name in parts[0].numbers},
    )


def compare(hop: Hop, arrived: Arrived, bronze: Table, start: int) -> None:
    """Topic and bronze, record by record; the log has no holes, so bronze holds every offset from `start` on."""
    span, source = arrived.span, arrived.span.source
    first, end = max(span.start, start), min(span.end, bronze.end(source))
    envelope = arrived.witness("envelope", bronze.name)
    whole = np.arange(first, max(first, end), dtype=np.int64)
    expected = _filled(whole, envelope[:-1])
    hop.found(source, placed(expected, envelope[-1], end))
    for fact in ("envelope", "payload"):
        hop.found(source, agreed(_TOLD[fact], arrived.witness(fact, bronze.name)))
    sizes = [
        Witness(one.table, one.offset, digests.mixed(one.digest))
        for one in arrived.witness("sealed_bytes", bronze.name)
    ]
    hop.found(source, agreed("length of the seal", sizes))
    offsets = _ints(arrived.bronze["offset"])
    other_day = offsets[~arrived.bronze["day"].astype(np.bool_)]
    if len(other_day):
        hop.found(source, [Wrong("altered", bronze.name, "day of the sealing key", other_day, "its ingested_at")])
    if arrived.topic is not None:
        hop.line("the topic").add(_ints(arrived.topic["offset"]), _digests(arrived.topic["envelope"]))
    hop.line(bronze.name).add(offsets, _digests(arrived.bronze["envelope"]))


_TOLD = {"envelope": "schema id, length or broker time", "payload": "payload digest"}


def _filled(offsets: Ints, told: list[Witness]) -> Witness:
    """The offsets with the digests that a witness has for them, zero where it has none."""
    digest = np.zeros(len(offsets), np.uint64)
    name = "the log's order"
    for witness in told:
        here = np.isin(offsets, witness.offset)
        digest[here] = witness.digest[np.isin(witness.offset, offsets)]
        name = witness.table
    return Witness(name, offsets, digest)
