"""bronze.events beside silver: each received position in exactly one of accepted, quarantined and duplicates."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audit import digests
from audit.arrival import Arrived
from audit.digests import Digests, Ints
from audit.findings import Hop
from audit.schemas import Schema
from audit.tables import NO_END, Columns, Source, Span, Table
from audit.witnesses import Witness, Wrong, agreed, found_in, placed

KINDS: Mapping[str, str] = {
    "payment": "silver.payments",
    "authorisation": "silver.authorisations",
    "label": "silver.labels",
    "control": "silver.control",
    "answer": "silver.answers",
    "outcome": "silver.outcomes",
    "erasure": "silver.erasures",
    "staged": "silver.staged",
}
QUARANTINE, DUPLICATES, BALANCE = "silver.quarantine", "silver.duplicates", "silver.balance"
TABLES = (*KINDS.values(), QUARANTINE, DUPLICATES)
_CATEGORY = {**dict.fromkeys(KINDS.values(), "accepted"), QUARANTINE: "quarantined", DUPLICATES: "duplicates"}
_COUNTED = ("accepted", "quarantined", "duplicates")
_CARRIED = ("payload_digest", "ingested_at")


@dataclass
class Admitted:
    """A span of silver, as the following hops want it."""

    span: Span
    tables: dict[str, Columns]
    payments: Ints
    """Positions of payments that were accepted, also of those that silver.payments has lost since."""

    def witness(self, table: str, fact: str) -> Witness:
        """A table's digests of a fact."""
        return _witness(table, self.tables[table], fact)


def _witness(table: str, columns: Columns, fact: str) -> Witness:
    return Witness(table, columns["offset"].astype(np.int64), columns[fact].astype(np.uint64))


def _moments(column: pa.Array) -> pa.Array:
    """Times and days as the numbers that records hold."""
    if pa.types.is_timestamp(column.type):
        return pc.cast(pc.cast(column, pa.timestamp("us", column.type.tz)), pa.int64())
    return pc.cast(pc.cast(column, pa.int32()), pa.int64()) if pa.types.is_date(column.type) else column


def carried(batch: pa.RecordBatch, names: tuple[str, ...]) -> Digests:
    """A digest of columns that are the records' own fields."""
    return digests.rows([_moments(batch.column(name)) for name in names], batch.num_rows)


def _accepted(schema: Schema, batch: pa.RecordBatch) -> Columns:
    found: Columns = {
        "payload": digests.values(batch.column("payload_digest")),
        "landing": digests.values(batch.column("ingested_at")),
        "content": carried(batch, schema.carried),
        "own content": digests.values(batch.column("content_digest")),
    }
    if schema.kind == "payment":
        n = batch.num_rows
        base = batch.column("amount_base_minor")
        found |= {
            "minor": np.asarray(pc.cast(batch.column("amount_minor"), pa.int64()).fill_null(0)),
            "base_minor": np.asarray(pc.cast(base, pa.int64()).fill_null(0)),
            "amount": digests.values(base),
            "amount32": digests.values(digests.float32(base)),
            "payment": digests.rows([batch.column("transaction_id"), batch.column("event_time")], n),
            "parties": digests.rows([batch.column(c) for c in ("card_token", "customer_token", "merchant_id")], n),
            "clock": digests.rows([batch.column("received_at"), batch.column("engine_clock")], n),
        }
    return found


_EXTRA = {
    "payment": (
        *("amount_minor", "amount_base_minor", "transaction_id", "event_time", "card_token", "customer_token"),
        *("merchant_id", "received_at", "engine_clock"),
    )
}


def _aside(batch: pa.RecordBatch) -> Columns:
    n = batch.num_rows
    found: Columns = {
        "payload": digests.values(batch.column("payload_digest")),
        "landing": digests.values(batch.column("ingested_at")),
        "broker_time": digests.values(batch.column("broker_time")),
        "kind": digests.values(batch.column("kind")),
        "first": np.asarray(pc.cast(batch.column("first_offset"), pa.int64()).fill_null(-1)),
        "own content": digests.values(batch.column("content_digest")),
    }
    if "sealed" in batch.schema.names:
        refused = pc.fill_null(batch.column("kind"), "")
        undecodable = [any(r.startswith("undecodable") for r in rs or ()) for rs in batch.column("reasons").to_pylist()]
        found |= {
            "seal": digests.rows([batch.column("sealed"), batch.column("sealing_key")], n),
            "first content": digests.values(batch.column("first_content_digest")),
            "rejected payment": np.asarray(pc.equal(refused, "payment")) & ~np.array(undecodable, np.bool_)
            if n
            else np.zeros(0, np.bool_),
        }
    return found


_ASIDE = (*_CARRIED, "broker_time", "kind", "first_offset", "content_digest")
_REFUSED = (*_ASIDE, "sealed", "sealing_key", "first_content_digest", "reasons")


class Silver:
    """The tables of silver, and what each holds of a record."""

    def __init__(self, tables: Mapping[str, Table], schemas: Mapping[int, Schema]) -> None:
        self._tables = tables
        self._schemas = {schema.kind: schema for schema in sorted(schemas.values(), key=lambda s: s.id)}
        self.kind_of = {number: schema.kind for number, schema in schemas.items() if schema.kind in KINDS}

    def read(self, span: Span) -> dict[str, Columns]:
        """All of them over a span."""
        found = {}
        for kind, name in KINDS.items():
            schema = self._schemas[kind]
            columns = (*_CARRIED, "content_digest", *schema.carried, *_EXTRA.get(kind, ()))
            found[name] = self._tables[name].taken(span, columns, partial(_accepted, schema))
        found[QUARANTINE] = self._tables[QUARANTINE].taken(span, _REFUSED, _aside)
        found[DUPLICATES] = self._tables[DUPLICATES].taken(span, _ASIDE, _aside)
        return found

    def accepted(self, source: Source, offsets: Ints) -> Witness:
        """The content digests of accepted records at some positions, wherever they lie."""
        parts = [
            self._tables[name].taken(Span(source, 0, NO_END), ("content_digest",), _own_content, only=offsets)
            for name in KINDS.values()
        ]
        offset = np.concatenate([part["offset"] for part in parts]).astype(np.int64)
        digest = np.concatenate([part["own content"] for part in parts]).astype(np.uint64)
        order = np.argsort(offset, kind="stable")
        return Witness("the first record", offset[order], digest[order]).once


def _own_content(batch: pa.RecordBatch) -> Columns:
    return {"own content": digests.values(batch.column("content_digest"))}


def balance(table: Table, span: Span) -> Columns:
    """The ranges of silver.balance that end in a span, and what it says of each."""
    names = ("start_offset", "received", *_COUNTED)
    return table.taken(span, names, lambda batch: {n: np.asarray(batch.column(n)) for n in names})


class Places:
    """Where each received position of a span belongs, by what the tables hold and what silver.balance counted."""

    def __init__(
        self, tables: Mapping[str, Columns], told: Columns, arrived: Arrived, kind_of: Mapping[int, str]
    ) -> None:
        self._tables, self._told, self._kind_of = tables, told, kind_of
        self._arrived = arrived
        self._counts = {
            category: np.unique(np.concatenate([tables[t]["offset"] for t in TABLES if _CATEGORY[t] == category]))
            for category in _COUNTED
        }

    def wanting(self, offset: int) -> dict[str, int]:
        """By category, how many rows the ranges around a position lack (above zero) or have too many of (below)."""
        found: dict[str, int] = {}
        for row in np.flatnonzero((self._told["start_offset"] <= offset) & (self._told["offset"] >= offset)).tolist():
            low, high = self._told["start_offset"][row], self._told["offset"][row] + 1
            for name, offsets in self._counts.items():
                have = int(np.searchsorted(offsets, high) - np.searchsorted(offsets, low))
                found[name] = int(self._told[name][row]) - have
        return found

    def lost_from(self, offset: int, was_payment: bool) -> str:
        """The table that most likely held a position that none holds now."""
        schema_id = int(self._arrived.schema_ids(np.array([offset]))[0])
        kind = self._kind_of.get(schema_id)
        wanting = self.wanting(offset)
        if kind is None:
            return QUARANTINE
        if was_payment or wanting.get("accepted", 1) > 0:
            return KINDS[kind]
        return QUARANTINE if wanting.get("quarantined", 0) > 0 else DUPLICATES

    def one_of(self, offset: int, held: list[str]) -> str:
        """The table to which a position that several hold belongs."""
        schema_id = int(self._arrived.schema_ids(np.array([offset]))[0])
        wanting = self.wanting(offset)
        payload = self._arrived.witness("payload", "bronze.events")[0]
        right = payload.digest[np.searchsorted(payload.offset, [offset]) % max(1, len(payload.offset))]

        def plausible(name: str) -> tuple[bool, bool, int]:
            columns = self._tables[name]
            own = columns["payload"][columns["offset"] == offset]
            of_kind = name in (QUARANTINE, DUPLICATES) or KINDS.get(self._kind_of.get(schema_id, "")) == name
            return bool(np.isin(own, right).any()), of_kind, wanting.get(_CATEGORY[name], 0)

        return max(held, key=plausible)


def compare(
    hop: Hop, arrived: Arrived, silver: Silver, told: Columns, accepted: Ints, bounds: tuple[int, int]
) -> Admitted:
    """Every position from `bounds[0]` to `bounds[1]` once in silver, as it arrived. `accepted` have feature vectors."""
    span, source = arrived.span, arrived.span.source
    tables = silver.read(span)
    places = Places(tables, told, arrived, silver.kind_of)
    first, end = max(span.start, bounds[0]), max(span.start, min(span.end, bounds[1]))
    once = {name: np.unique(tables[name]["offset"]).astype(np.int64) for name in TABLES}
    everywhere, times = np.unique(np.concatenate(list(once.values())), return_counts=True)
    belongs = dict(once)
    # Twice in silver: the less plausible place is wrong. In none: the place that lacks it.
    for offset in everywhere[times > 1].tolist():
        held = [name for name in TABLES if found_in(np.array([offset]), once[name])[0][0]]
        kept = places.one_of(offset, held)
        for name in held:
            if name != kept:
                belongs[name] = belongs[name][belongs[name] != offset]
    whole = np.arange(first, max(first, end), dtype=np.int64)
    nowhere = whole[~found_in(whole, everywhere)[0]]
    outside = everywhere[(everywhere < first) | ((everywhere >= end) & ~_on_the_log(arrived, everywhere))]
    for name in TABLES:
        belongs[name] = belongs[name][~np.isin(belongs[name], outside)]
    lost: dict[str, list[int]] = {}
    vectors = set(accepted[np.isin(accepted, nowhere)].tolist())
    for offset in nowhere.tolist():
        lost.setdefault(places.lost_from(offset, offset in vectors), []).append(offset)
    payload = _payloads(arrived)
    for name in TABLES:
        expected = np.union1d(belongs[name], np.array(lost.get(name, []), np.int64)).astype(np.int64)
        here, at = found_in(expected, payload.offset)
        digest = np.zeros(len(expected), np.uint64)
        digest[here] = payload.digest[at[here]]
        wrong = placed(Witness("bronze.events", expected, digest), _witness(name, tables[name], "payload"), end)
        hop.found(source, [_doubled_elsewhere(one, everywhere, outside) for one in wrong])
        numbers = tables[name].get("minor")
        hop.line(name).add(tables[name]["offset"].astype(np.int64), tables[name]["payload"].astype(np.uint64), numbers)
    _facts(hop, arrived, tables, silver.kind_of)
    _linked(hop, silver, tables, source)
    _counted(hop, span, tables, told, (first, end))
    payments = np.union1d(belongs["silver.payments"], np.array(lost.get("silver.payments", []), np.int64))
    return Admitted(span, tables, payments.astype(np.int64))


def _on_the_log(arrived: Arrived, offsets: Ints) -> digests.Ints:
    return arrived.schema_ids(offsets) != -2


def _payloads(arrived: Arrived) -> Witness:
    """The payload digest of each position, by the topic where it tells it, else by bronze."""
    first, *others = arrived.witness("payload", "bronze.events")
    if not others:
        return first.once
    bronze = others[0].once
    older = bronze.at(~found_in(bronze.offset, first.offset)[0])
    offsets = np.concatenate([older.offset, first.offset])
    order = np.argsort(offsets, kind="stable")
    return Witness(first.table, offsets[order], np.concatenate([older.digest, first.digest])[order])


def _doubled_elsewhere(wrong: Wrong, everywhere: Ints, outside: Ints) -> Wrong:
    """A row nobody expects at a position that another table of silver holds is that position's second one."""
    if wrong.what != "unknown" or np.isin(wrong.offset, outside).any():
        return wrong
    return Wrong("doubled", wrong.table, wrong.fact, wrong.offset, "another table of silver")


def _linked(hop: Hop, silver: Silver, tables: Mapping[str, Columns], source: Source) -> None:
    """A repeat has the content of the record that it repeats, a conflict names the content that it contradicts."""
    for name, fact in ((DUPLICATES, "own content"), (QUARANTINE, "first content")):
        columns = tables[name]
        linked = columns["first"] >= 0
        if not linked.any():
            continue
        offset, first = columns["offset"][linked].astype(np.int64), columns["first"][linked].astype(np.int64)
        accepted = silver.accepted(source, np.unique(first))
        here, at = found_in(first, accepted.offset)
        same = here & (first < offset)
        same[here] &= accepted.digest[at[here]] == columns[fact][linked].astype(np.uint64)[here]
        # A first record that silver has lost is found there, not here.
        lost = np.concatenate([f.offset for f in hop.missing]) if hop.missing else np.zeros(0, np.int64)
        wrong = offset[~same & ~np.isin(first, lost)]
        if len(wrong):
            hop.found(source, [Wrong("altered", name, "the record that it repeats", wrong, "accepted records")])


def _facts(hop: Hop, arrived: Arrived, tables: Mapping[str, Columns], kind_of: Mapping[int, str]) -> None:
    source = arrived.span.source
    every = [(name, tables[name]) for name in TABLES]
    aside = [(name, tables[name]) for name in (QUARANTINE, DUPLICATES)]

    def witnesses(fact: str, some: list[tuple[str, Columns]]) -> list[Witness]:
        return [_witness(name, columns, fact) for name, columns in some]

    payload = arrived.witness("payload", "bronze.events")
    mine = [one for one in agreed("payload digest", [*payload, *witnesses("payload", every)]) if one.table in TABLES]
    hop.found(source, mine)
    hop.found(
        source, agreed("ingested_at", [*arrived.witness("landing", "bronze.events")[-1:], *witnesses("landing", every)])
    )
    broker = arrived.witness("broker_time", "bronze.events")
    hop.found(
        source, [w for w in agreed("broker time", [*broker, *witnesses("broker_time", aside)]) if w.table in TABLES]
    )
    for name, columns in aside:
        offsets = columns["offset"].astype(np.int64)
        ids = arrived.schema_ids(offsets)
        kinds = pa.array([kind_of.get(number) for number in ids.tolist()], pa.string())
        known = ids != -2
        log = Witness("the schema id", offsets, digests.values(kinds)).at(known)
        hop.found(source, _blaming(name, agreed("kind", [log, _witness(name, columns, "kind")])))
    seals = [*arrived.witness("seal", "bronze.events")[-1:], _witness(QUARANTINE, tables[QUARANTINE], "seal")]
    hop.found(source, agreed("the sealed record", seals))
    for kind, decoded in arrived.kinds.items():
        if kind in KINDS:
            told = Witness("the topic", decoded.offset, decoded.digest)
            found = agreed("content", [told, _witness(KINDS[kind], tables[KINDS[kind]], "content")])
            hop.found(source, _blaming(KINDS[kind], found))


def _blaming(table: str, wrong: list[Wrong]) -> list[Wrong]:
    """The same where only the table can have been altered: a log cannot be."""
    return [replace(one, table=table, undecided=False) for one in wrong]


def _counted(hop: Hop, span: Span, tables: Mapping[str, Columns], told: Columns, bounds: tuple[int, int]) -> None:
    """Each range of silver.balance beside what the tables hold of it, and all of them beside the whole."""
    covered, gaps = bounds[0], []
    for row in np.argsort(told["start_offset"], kind="stable").tolist():
        if told["start_offset"][row] > covered:
            gaps.append(covered)
        covered = max(covered, int(told["offset"][row]) + 1)
    if covered < bounds[1]:
        gaps.append(covered)
    if gaps:
        hop.found(span.source, [Wrong("lost", BALANCE, "ranges", np.array(gaps, np.int64), "the log's order")])
    ranges, times = np.unique(np.column_stack([told["offset"], told["start_offset"]]), axis=0, return_counts=True)
    if (times > 1).any():
        hop.found(span.source, [Wrong("doubled", BALANCE, "ranges", ranges[times > 1, 0].astype(np.int64), BALANCE)])
    offsets = {
        category: np.unique(np.concatenate([tables[t]["offset"] for t in TABLES if _CATEGORY[t] == category]))
        for category in _COUNTED
    }
    received = told["offset"] - told["start_offset"] + 1
    counted = {
        name: np.searchsorted(found, told["offset"] + 1) - np.searchsorted(found, told["start_offset"])
        for name, found in offsets.items()
    }
    wrong = (told["received"] != received) | (told["received"] != sum(told[name] for name in _COUNTED))
    for name in _COUNTED:
        wrong |= told[name] != counted[name]
    rows = told["offset"][np.asarray(wrong, np.bool_)].astype(np.int64)
    # Where the tables themselves lack or double rows, the balance is right and they are not.
    blamed = [
        f for f in hop.findings.values() if f.table in TABLES and f.what in ("lost", "doubled", "unknown", "moved")
    ]
    start = told["start_offset"][np.asarray(wrong, np.bool_)]
    explained = np.array(
        [any(f.first < end + 1 and f.end > low for f in blamed) for low, end in zip(start, rows, strict=True)], np.bool_
    )
    if len(rows) and not explained.all():
        hop.found(span.source, [Wrong("altered", BALANCE, "counts", rows[~explained], "the tables counted")])
    hop.line(BALANCE).add(told["offset"].astype(np.int64), digests.mixed(told["received"].astype(np.uint64)))
