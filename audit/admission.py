"""bronze.events beside silver: each received position in exactly one of accepted, quarantined and duplicates."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from audit import digests, readings
from audit.arrival import Arrived
from audit.belonging import COUNTED, DUPLICATES, KINDS, QUARANTINE, TABLES, Belonging, by_category
from audit.digests import Ints
from audit.findings import Hop
from audit.schemas import Schema
from audit.tables import NO_END, Columns, Source, Span, Table
from audit.witnesses import Witness, Wrong, agreed, blaming, distinct, found_in, placed, witness

BALANCE = "silver.balance"
_BRONZE = "bronze.events"


class Silver:
    """The tables of silver."""

    def __init__(self, tables: Mapping[str, Table], schemas: Mapping[int, Schema]) -> None:
        self._tables = tables
        self._schemas = {schema.kind: schema for _, schema in sorted(schemas.items())}
        self.kind_of = {number: schema.kind for number, schema in schemas.items() if schema.kind in KINDS}

    def read(self, span: Span) -> dict[str, Columns]:
        """What they hold of a span's records."""
        found = {}
        for kind, name in KINDS.items():
            schema = self._schemas[kind]
            columns = readings.accepted_columns(schema)
            found[name] = self._tables[name].taken(span, columns, partial(readings.accepted, schema))
        found[QUARANTINE] = self._tables[QUARANTINE].taken(span, readings.REFUSED, readings.refused)
        found[DUPLICATES] = self._tables[DUPLICATES].taken(span, readings.ASIDE, readings.aside)
        return found

    def accepted(self, source: Source, offsets: Ints) -> Witness:
        """The content digests of accepted records at some positions, wherever they lie."""
        whole = Span(source, 0, NO_END)
        parts = [
            self._tables[name].taken(whole, ("content_digest",), readings.own_content, offsets)
            for name in KINDS.values()
        ]
        offset = np.concatenate([part.offset for part in parts])
        order = np.argsort(offset, kind="stable")
        digest = np.concatenate([part.digests("own content") for part in parts])
        return Witness("the first record", offset[order], digest[order]).once


def balance(table: Table, span: Span) -> Columns:
    """The ranges of silver.balance that end in a span, and what it says of each."""
    names = ("start_offset", "received", *COUNTED)
    return table.taken(span, names, lambda batch: {n: np.asarray(batch.column(n)) for n in names})


@dataclass(frozen=True)
class Admitted:
    """A span of silver, as the following hops want it."""

    span: Span
    tables: dict[str, Columns]
    payments: Ints
    """Positions of payments that were accepted, also of those that silver.payments has lost since."""

    def witness(self, table: str, fact: str) -> Witness:
        """A table's digests of a fact."""
        return witness(table, self.tables[table], fact)


def compare(hop: Hop, arrived: Arrived, silver: Silver, told: Columns, paid: Ints, bounds: tuple[int, int]) -> Admitted:
    """Every position in `bounds` once in silver, as it arrived; `paid` are positions with a feature vector."""
    span, source = arrived.span, arrived.span.source
    tables = silver.read(span)
    first, end = max(span.start, bounds[0]), max(span.start, bounds[0], min(span.end, bounds[1]))
    payload = _payloads(arrived)
    belongs = _belonging(arrived, silver, tables, told, paid, payload, (first, end))
    several = _several([distinct(tables[name].offset) for name in TABLES])
    for name in TABLES:
        here, at = found_in(belongs[name], payload.offset)
        digest = np.zeros(len(belongs[name]), np.uint64)
        digest[here] = payload.digest[at[here]]
        wrong = placed(Witness(_BRONZE, belongs[name], digest), witness(name, tables[name], "payload"), NO_END)
        hop.found(source, [_second(one, several) for one in wrong])
        amount = tables[name].ints("minor") if "minor" in tables[name] else None
        hop.line(name).add(tables[name].offset, tables[name].digests("payload"), amount)
    _facts(hop, arrived, tables, silver)
    _repeats(hop, silver, tables, source)
    _ranges(hop, source, told, (first, end))
    _counts(hop, source, tables, told)
    return Admitted(span, tables, belongs["silver.payments"])


def _belonging(
    arrived: Arrived,
    silver: Silver,
    tables: dict[str, Columns],
    told: Columns,
    paid: Ints,
    payload: Witness,
    bounds: tuple[int, int],
) -> dict[str, Ints]:
    """By table, the positions that it should hold."""
    places = Belonging(tables, told, arrived, silver.kind_of)
    belongs = {name: distinct(tables[name].offset) for name in TABLES}
    everywhere = distinct(*belongs.values())
    # Twice in silver: the less plausible place is wrong.
    for offset in _several(list(belongs.values())).tolist():
        held = [name for name in TABLES if found_in(np.array([offset]), belongs[name])[0][0]]
        kept = places.one_of(offset, held, payload)
        for name in held:
            if name != kept:
                belongs[name] = belongs[name][belongs[name] != offset]
    # Beyond what silver says is done, only what the log holds too is a batch of just now.
    outside = everywhere[(everywhere < bounds[0]) | (everywhere >= bounds[1])]
    outside = outside[arrived.schema_ids(outside) == arrived.NOWHERE]
    whole = np.arange(bounds[0], bounds[1], dtype=np.int64)
    nowhere = whole[~found_in(whole, everywhere)[0]]
    lost_from = places.lost_from(nowhere, paid)
    return {
        name: distinct(offsets[~found_in(offsets, outside)[0]], nowhere[lost_from == name])
        for name, offsets in belongs.items()
    }


def _several(offsets: list[Ints]) -> Ints:
    """Offsets that more than one of some arrays has; each has an offset once."""
    joined = np.sort(np.concatenate(offsets))
    return distinct(joined[1:][joined[1:] == joined[:-1]])


def _payloads(arrived: Arrived) -> Witness:
    """The payload digest of each position, by the topic where it tells it, else by bronze."""
    first, *others = arrived.witness("payload", _BRONZE)
    if not others:
        return first.once
    bronze = others[0].once
    older = bronze.at(~found_in(bronze.offset, first.offset)[0])
    offsets = np.concatenate([older.offset, first.offset])
    order = np.argsort(offsets, kind="stable")
    return Witness(first.table, offsets[order], np.concatenate([older.digest, first.digest])[order])


def _second(wrong: Wrong, several: Ints) -> Wrong:
    """A row nobody expects at positions that another table of silver holds too is their second one."""
    if wrong.what != "unknown" or not np.isin(wrong.offset, several).all():
        return wrong
    return Wrong("doubled", wrong.table, wrong.fact, wrong.offset, "another table of silver")


def _facts(hop: Hop, arrived: Arrived, tables: Mapping[str, Columns], silver: Silver) -> None:
    """What silver carries of the records, beside bronze and the topic."""
    source = arrived.span.source

    def told(fact: str, names: tuple[str, ...]) -> list[Witness]:
        return [witness(name, tables[name], fact) for name in names]

    def mine(wrong: list[Wrong]) -> list[Wrong]:
        # The topic was compared with bronze before.
        return [one for one in wrong if one.table != _BRONZE or one.against in TABLES]

    aside = (QUARANTINE, DUPLICATES)
    payload = [*arrived.witness("payload", _BRONZE), *told("payload", TABLES)]
    hop.found(source, mine(agreed("payload digest", payload)))
    landing = [*arrived.witness("landing", _BRONZE), *told("landing", TABLES)]
    hop.found(source, agreed("ingested_at", landing))
    broker = [*arrived.witness("broker_time", _BRONZE), *told("broker_time", aside)]
    hop.found(source, mine(agreed("broker time", broker)))
    hop.found(source, agreed("the sealed record", [*arrived.witness("seal", _BRONZE), *told("seal", (QUARANTINE,))]))
    for name in aside:
        offsets = tables[name].offset
        ids = arrived.schema_ids(offsets)
        named = ~tables[name].flags("unnamed") if name == QUARANTINE else np.ones(len(ids), np.bool_)
        known = np.where(named, ids, arrived.NOWHERE)
        kinds = pa.array([silver.kind_of.get(number) for number in known.tolist()], pa.string())
        by_id = Witness("the schema id", offsets, digests.values(kinds)).at(ids != arrived.NOWHERE)
        hop.found(source, blaming(name, agreed("kind", [by_id, *told("kind", (name,))])))
    for kind, decoded in arrived.kinds.items():
        name = KINDS[kind]
        content = agreed("content", [Witness("the topic", decoded.offset, decoded.digest), *told("content", (name,))])
        hop.found(source, blaming(name, content))


def _repeats(hop: Hop, silver: Silver, tables: Mapping[str, Columns], source: Source) -> None:
    """A repeat has the content of the record that it repeats, a conflict names the content that it contradicts."""
    for name, fact in ((DUPLICATES, "own content"), (QUARANTINE, "first content")):
        columns = tables[name]
        linked = columns.ints("first") >= 0
        if not linked.any():
            continue
        offset, first = columns.offset[linked], columns.ints("first")[linked]
        accepted = silver.accepted(source, np.unique(first))
        here, at = found_in(first, accepted.offset)
        same = here & (first < offset)
        same[here] &= accepted.digest[at[here]] == columns.digests(fact)[linked][here]
        # Where the first record was lost or altered, that is what is wrong.
        elsewhere = hop.positions()
        wrong = offset[~same & ~np.isin(first, elsewhere) & ~np.isin(offset, elsewhere)]
        if len(wrong):
            hop.found(source, [Wrong("altered", name, "the record that it repeats", wrong, "the accepted record")])


def _ranges(hop: Hop, source: Source, told: Columns, bounds: tuple[int, int]) -> None:
    """The ranges of silver.balance cover the whole, and each is there once."""
    covered, gaps, until = bounds[0], [], 0
    for row in np.argsort(told.ints("start_offset"), kind="stable").tolist():
        if (start := int(told.ints("start_offset")[row])) > covered:
            gaps.append(covered)
            until = start
        covered = max(covered, int(told.offset[row]) + 1)
    if covered < bounds[1]:
        gaps.append(covered)
        until = int(bounds[1])
    if gaps:
        found = Wrong("lost", BALANCE, "ranges", np.array(gaps, np.int64), "the log's order", until=until)
        hop.found(source, [found])
    both = np.column_stack([told.offset, told.ints("start_offset")])
    ranges, times = np.unique(both, axis=0, return_counts=True)
    if (times > 1).any():
        hop.found(source, [Wrong("doubled", BALANCE, "ranges", ranges[times > 1, 0], "itself")])


def _counts(hop: Hop, source: Source, tables: Mapping[str, Columns], told: Columns) -> None:
    """Each range of silver.balance beside what the tables hold of it."""
    low, high = told.ints("start_offset"), told.offset + 1
    wrong = told.ints("received") != high - low
    wrong |= told.ints("received") != sum(told.ints(name) for name in COUNTED)
    for name, offsets in by_category(tables).items():
        wrong |= told.ints(name) != np.searchsorted(offsets, high) - np.searchsorted(offsets, low)
    # Where tables lack rows or hold too many, the balance is right and they are not.
    amiss = hop.positions("rows")
    wrong &= np.searchsorted(amiss, low) == np.searchsorted(amiss, high)
    if wrong.any():
        hop.found(source, [Wrong("altered", BALANCE, "counts", told.offset[wrong], "the tables, counted")])
    hop.line(BALANCE).add(told.offset, digests.mixed(told.digests("received")))
