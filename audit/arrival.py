"""A topic beside the bronze table that it lands in: every record once, at its position, with its own digest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audit import digests, keys
from audit.digests import Digests, Ints
from audit.errors import CannotLook
from audit.findings import Hop
from audit.log import Records, Topic
from audit.schemas import PREFIX_BYTES, Schema
from audit.tables import NO_END, Columns, Numbers, Span, Table
from audit.witnesses import Flags, Witness, Wrong, agreed, blaming, found_in, placed, witness
from audit.write_offs import WriteOff, within

TOPIC, PURGES = "the topic", "lake.purges"
PURGED = "purged record"
"""The fact of a record that is to be empty, and is not."""
VANISHED = "sealed record"
"""The fact of one that is empty, and nobody asked for it."""
SEAL_BYTES = 28
"""AES-GCM adds a nonce of 12 and a tag of 16 bytes."""
NO_SCHEMA = -1
_BRONZE = ("schema_id", "record_bytes", "broker_time", "payload_digest", "sealed", "sealing_key", "ingested_at")
_DAY_US = 86_400_000_000
_NUMBERS: Mapping[str, tuple[str, ...]] = {
    "payment": ("amount_minor",),
    "decision": ("epoch", "offset"),
    "engine_start": ("next_offset",),
    "shadow": ("offset",),
}
"""Fields that are looked at one by one."""


@dataclass(frozen=True)
class Decoded:
    """Records of one kind from the topic: a digest of the fields that tables carry, and numbers that are looked at."""

    offset: Ints
    digest: Digests
    numbers: Mapping[str, Ints]


@dataclass(frozen=True)
class Arrived:
    """A span of a topic and its bronze table, as the following hops want it."""

    NOWHERE = -2
    """Schema id of a position that neither topic nor bronze has."""

    span: Span
    topic: Columns | None
    """What the topic still has; None where it was left out or has nothing."""
    bronze: Columns
    kinds: Mapping[str, Decoded] = field(default_factory=dict)

    def witness(self, fact: str, bronze: str) -> list[Witness]:
        """The topic, where it can tell the fact, and bronze, by its name."""
        told = [] if self.topic is None or fact not in self.topic else [witness(TOPIC, self.topic, fact)]
        return [*told, witness(bronze, self.bronze, fact)]

    def schema_ids(self, offsets: Ints) -> Ints:
        """The schema id of each position, by the topic where it has it, else by bronze; -1 where it has none."""
        found = np.full(len(offsets), self.NOWHERE, np.int64)
        for side in (self.bronze, self.topic):
            if side is not None:
                here, at = found_in(offsets, side.offset)
                found[here] = side.ints("schema_id")[at[here]]
        return found


def _of_bronze(batch: pa.RecordBatch) -> Mapping[str, Numbers]:
    column, n = batch.column, batch.num_rows
    sealed_bytes = pc.binary_length(pc.cast(column("sealed"), pa.large_binary()))
    return {
        "schema_id": np.asarray(pc.cast(column("schema_id"), pa.int64()).fill_null(NO_SCHEMA)),
        "envelope": digests.rows([column(name) for name in ("schema_id", "record_bytes", "broker_time")], n),
        "payload": digests.values(column("payload_digest")),
        "sealed_bytes": digests.values(sealed_bytes),
        "empty": np.asarray(pc.equal(sealed_bytes, 0).fill_null(True), np.bool_),
        "seal": digests.rows([column("sealed"), column("sealing_key")], n),
        "landing": digests.values(column("ingested_at")),
        "broker_time": digests.values(column("broker_time")),
        "of_its_day": _of_its_day(column("sealing_key"), column("ingested_at")),
    }


def _of_its_day(sealing_key: pa.Array, ingested_at: pa.Array) -> Flags:
    """Whether a record is sealed with the key of the day on which it landed: `bronze|DAY|gN`."""
    if not len(sealing_key):
        return np.zeros(0, np.bool_)
    days = pc.cast(pc.cast(ingested_at, pa.timestamp("us", "UTC")).cast(pa.int64()), pa.int64())
    day = np.asarray(days.fill_null(0)) // _DAY_US
    found = np.zeros(len(day), np.bool_)
    for number in np.unique(day).tolist():
        name = (date(1970, 1, 1) + timedelta(days=number)).isoformat()
        of_key = pc.match_substring_regex(sealing_key, f"^bronze\\|{name}\\|g[0-9]+$").fill_null(False)
        found |= (day == number) & np.asarray(of_key)
    return found


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
        self._latest = {schema.kind: schema for _, schema in sorted(self._schemas.items())}
        self._key = key

    def columns(self, records: Records) -> Columns:
        """What bronze holds of some records."""
        ids = _schema_ids(records.value)
        known = pa.array(np.where(ids < 0, 0, ids), pa.int64(), mask=(ids < 0) | (ids > 2**31 - 1))
        size = pa.array([len(v or b"") for v in records.value], pa.int64())
        broker = pa.array(records.broker_ms * 1000, pa.int64())
        found = Columns(
            offset=records.offset,
            schema_id=ids,
            envelope=digests.rows([known, size, broker], len(ids)),
            sealed_bytes=digests.values(pa.array(records.envelope_bytes + SEAL_BYTES)),
            broker_time=digests.values(broker),
        )
        if self._key is not None:
            found["payload"] = digests.values(keys.payload_digests(self._key, records.value))
        return found

    def decoded(self, records: Records, ids: Ints) -> dict[str, Decoded]:
        """The records that can be decoded, by kind."""
        found: dict[str, list[Decoded]] = {}
        for number, schema in self._schemas.items():
            rows = np.flatnonzero(ids == number)
            pairs = [
                (row, schema.decoded(v)) for row, v in zip(rows.tolist(), records.take(rows.tolist()), strict=True)
            ]
            good = [(row, record) for row, record in pairs if record is not None]
            kept = [record for _, record in good]
            decoded = Decoded(
                records.offset[np.array([row for row, _ in good], np.int64)],
                digests.rows(self._latest[schema.kind].columns(kept), len(kept)),
                {name: np.array([record[name] for record in kept], np.int64) for name in _NUMBERS.get(schema.kind, ())},
            )
            found.setdefault(schema.kind, []).append(decoded)
        return {kind: _joined(parts) for kind, parts in found.items()}


def _joined(parts: list[Decoded]) -> Decoded:
    """Parts in the order of their offsets."""
    offset = np.concatenate([part.offset for part in parts])
    order = np.argsort(offset, kind="stable")
    return Decoded(
        offset[order],
        np.concatenate([part.digest for part in parts])[order],
        {name: np.concatenate([part.numbers[name] for part in parts])[order] for name in parts[0].numbers},
    )


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
        for kind, decoded in reading.decoded(records, columns.ints("schema_id")).items():
            kinds.setdefault(kind, []).append(decoded)
        said(len(records.offset))
    if not parts:
        return Arrived(span, None, held)
    joined = Columns({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    return Arrived(span, joined, held, {kind: _joined(some) for kind, some in kinds.items()})


def compare(
    hop: Hop,
    arrived: Arrived,
    bronze: Table,
    bounds: tuple[int, int],
    holes: bool,
    purged: Ints,
    written_off: Sequence[WriteOff],
) -> None:
    """Topic and bronze, record by record; the log has no holes, so bronze holds every offset in `bounds`.

    With `holes`, as a transactional engine leaves them, it holds what the topic has; what is older is not asked for.
    Nor is what was `written_off`, where the topic has it no more. Nothing is sealed of `purged` positions, and of no
    others.
    """
    span, source = arrived.span, arrived.span.source
    first, end = max(span.start, bounds[0]), min(span.end, bounds[1])
    *told, landed = arrived.witness("envelope", bronze.name)
    whole = _whole(first, max(first, end), told)
    accepted = within(whole.offset, written_off)
    for one in (landed, *told):
        accepted &= ~found_in(whole.offset, one.once.offset)[0]
    hop.line(bronze.name).written_off += int(accepted.sum())
    whole = whole.at(~accepted)
    if holes:
        begin = min((int(one.offset[0]) for one in told), default=NO_END)
        older = (whole.offset < begin) & found_in(whole.offset, landed.once.offset)[0]
        whole = whole.at(np.logical_or.reduce([older, *(found_in(whole.offset, one.offset)[0] for one in told)]))
    hop.found(source, placed(whole, landed, NO_END))
    empty, asked = arrived.bronze.flags("empty"), found_in(landed.offset, purged)[0]
    for fact, rows in ((VANISHED, empty & ~asked), (PURGED, asked & ~empty)):
        if rows.any():
            hop.found(source, [Wrong("altered", bronze.name, fact, landed.offset[rows], PURGES)])
    for fact, name in _FACTS.items():
        both = arrived.witness(fact, bronze.name)
        if fact == "sealed_bytes":
            both[-1] = both[-1].at(~empty)
        wrong = blaming(bronze.name, agreed(name, both))
        if fact == "payload":
            _refuse_other_key(both, wrong)
        hop.found(source, wrong)
    other_day = landed.offset[~arrived.bronze.flags("of_its_day")]
    if len(other_day):
        hop.found(source, [Wrong("altered", bronze.name, "day of the sealing key", other_day, "its ingested_at")])
    for one in told:
        hop.line(topic_of(bronze.name)).add(one.offset, one.digest)
    hop.line(bronze.name).add(landed.offset, landed.digest)


def _refuse_other_key(both: list[Witness], wrong: list[Wrong]) -> None:
    """CannotLook where not one digest of many is right: then the key is another one."""
    compared = found_in(both[0].offset, both[-1].offset)[0].sum() if len(both) > 1 else 0
    if compared >= _MANY and sum(len(one.offset) for one in wrong if one.what == "altered") == compared:
        raise CannotLook(
            f"None of {compared:,} payload digests of {both[-1].table} follows from the topic's bytes and this key.",
            "--digest-key names the keyring of this lake.",
        )


_MANY = 10


def topic_of(bronze: str) -> str:
    """The topic that a bronze table is of, as a report names it."""
    return f"topic {bronze.split('.')[1]}"


_FACTS = {
    "envelope": "schema id, length or broker time",
    "payload": "payload digest",
    "sealed_bytes": "length of the seal",
}


def _whole(start: int, end: int, told: list[Witness]) -> Witness:
    """Every offset of a range, with the digest that the topic has for it, or zero."""
    offsets = np.arange(start, end, dtype=np.int64)
    digest = np.zeros(len(offsets), np.uint64)
    for one in told:
        here, at = found_in(offsets, one.offset)
        digest[here] = one.digest[at[here]]
    return Witness(TOPIC if told else "the log's order", offsets, digest)
