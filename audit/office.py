"""Topic `decisions` and bronze.decisions beside silver.decisions, by the decisions' own offsets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pyarrow as pa

from audit import readings
from audit.arrival import Arrived, Decoded
from audit.digests import Ints
from audit.findings import Hop
from audit.schemas import Schema
from audit.tables import NO_END, Columns, Numbers, Source, Span, Table
from audit.witnesses import Flags, Witness, Wrong, agreed, blaming, placed, witness

SILVER, BRONZE = "silver.decisions", "bronze.decisions"
KINDS = ("decision", "engine_start")
_NONE = np.zeros(0, np.int64)


@dataclass
class Office:
    """What was learnt of one partition of the topic, window by window."""

    starts: list[int] = field(default_factory=list)
    """Offsets at which engines took office."""
    decided: int = -1
    """Highest source offset decided so far."""
    live_from: int | None = None
    """First record that an engine was to decide; None where neither a start record nor a decision was read."""
    told_from: int = NO_END
    """First source offset whose decision was read from the topic."""
    written_off: list[tuple[int, int]] = field(default_factory=list)
    """Source offsets [start, end) whose decisions may be among records that were written off."""
    _lost: list[Ints] = field(default_factory=list)
    _altered: list[Ints] = field(default_factory=list)

    @property
    def lost(self) -> Ints:
        """Source offsets of decisions that silver lacks."""
        return np.unique(np.concatenate([_NONE, *self._lost]))

    @property
    def altered(self) -> Ints:
        """Source offsets of decisions that silver holds otherwise than the topic."""
        return np.unique(np.concatenate([_NONE, *self._altered]))

    def started(self, offsets: Ints, told: Decoded | None) -> None:
        """Take in start records: their offsets in bronze, and what the topic has of them."""
        self.starts += offsets.tolist()
        if told is not None and len(told.offset):
            self.starts += told.offset.tolist()
            first = int(told.numbers["next_offset"].min())
            self.live_from = first if self.live_from is None else min(first, self.live_from)

    def held(self, first: int, last: int) -> None:
        """Take in the first and the last source offset of which silver holds a decision: an engine was live between."""
        self.live_from = first if self.live_from is None else min(first, self.live_from)
        self.decided = max(self.decided, last)

    def proven(self, offset: Ints, epoch: Ints, bronze: Table, source: Source) -> None:
        """Take in what decisions prove: an engine started at its epoch, where bronze has no other record there."""
        told = np.setdiff1d(epoch[(epoch >= 0) & (epoch < offset)], np.array(self.starts, np.int64))
        if len(told):
            others = bronze.taken(Span(source, 0, NO_END), (), _offsets_alone, told).offset
            self.starts += np.setdiff1d(told, others).tolist()

    def epochs(self, offsets: Ints) -> Ints:
        """The epoch in office when each offset was written; -1 before the first."""
        starts = np.unique(np.array(self.starts, np.int64))
        if not len(starts):
            return np.full(len(offsets), -1, np.int64)
        latest = np.searchsorted(starts, offsets) - 1
        return np.where(latest >= 0, starts[np.maximum(latest, 0)], -1)

    def counting(self, told: Decoded) -> Flags:
        """Which decisions count: of the engine in office, the first of each source offset."""
        sources = told.numbers["offset"]
        rows = np.flatnonzero((self.epochs(told.offset) == told.numbers["epoch"]) & (sources > self.decided))
        kept = np.zeros(len(told.offset), np.bool_)
        kept[rows[np.unique(sources[rows], return_index=True)[1]]] = True
        return kept

    def took(self, sources: Ints) -> None:
        """Take in the source offsets of decisions that count."""
        if len(sources):
            self.decided = max(self.decided, int(sources.max()))
            self.told_from = min(self.told_from, int(sources.min()))

    def excused(self, sources: Ints) -> Flags:
        """Of which source offsets the decision may be among records that were written off."""
        found = np.zeros(len(sources), np.bool_)
        for start, end in self.written_off:
            found |= (sources >= start) & (sources < end)
        return found

    def amiss(self, expected: Witness, sources: Ints, placement: list[Wrong], content: list[Wrong]) -> None:
        """Take in what silver lacks, or holds otherwise."""
        for one in placement:
            if one.what in ("lost", "moved"):
                self._lost.append(sources[np.isin(expected.offset, one.offset)])
        for one in content:
            self._altered.append(sources[np.isin(expected.offset, one.offset)])


def _offsets_alone(_: pa.RecordBatch) -> Mapping[str, Numbers]:
    return {}


def shown(wrong: Sequence[Wrong], office: Office, table: str) -> list[Wrong]:
    """Where `table` and silver differ: what the topic showed of silver's decision is not said again, nor in doubt."""
    kept = []
    for one in wrong:
        new = ~np.isin(one.offset, office.altered)
        if not new.any():
            continue
        found = one.only(new)
        verified = {found.table, found.against} == {SILVER, table} and bool((found.offset >= office.told_from).all())
        kept.append(replace(found, table=table, against=SILVER, undecided=False) if verified else found)
    return kept


def compare(
    hop: Hop, arrived: Arrived, bronze: Table, silver: Table, schemas: Mapping[int, Schema], office: Office
) -> None:
    """A span of the topic and of bronze beside silver: the decisions that count, and nothing else."""
    ids = {kind: [number for number in sorted(schemas) if schemas[number].kind == kind] for kind in KINDS}
    schema = schemas[ids["decision"][-1]]
    span, source = arrived.span, arrived.span.source
    found = silver.taken(span, (*schema.carried, "ingested_at"), partial(readings.on_topic, schema))
    mine = witness(SILVER, found, "content")
    landed = arrived.bronze.offset
    started = landed[np.isin(arrived.schema_ids(landed), ids["engine_start"])]
    office.started(started, arrived.kinds.get("engine_start"))
    from_topic = NO_END if arrived.topic is None else int(arrived.topic.offset[0])
    told = arrived.kinds.get("decision")
    older = mine.offset < from_topic
    office.proven(found.offset[older], found.ints("epoch")[older], bronze, source)
    if told is not None:
        office.proven(told.offset, told.numbers["epoch"], bronze, source)
        chosen = office.counting(told)
        sources = told.numbers["offset"][chosen]
        expected = Witness("the topic", told.offset[chosen], told.digest[chosen])
        newer = mine.at(~older)
        placement = placed(expected, newer, min(span.end, silver.end(source)))
        content = blaming(SILVER, agreed("content", [expected, newer]))
        hop.found(source, [*placement, *content])
        office.took(sources)
        office.amiss(expected, sources, placement, content)
    _by_bronze(hop, arrived, found, older, ids["decision"], office)
    landing = agreed("ingested_at", [*arrived.witness("landing", BRONZE), witness(SILVER, found, "landing")])
    hop.found(source, landing)
    hop.line(SILVER).add(mine.offset, mine.digest)


def _by_bronze(hop: Hop, arrived: Arrived, found: Columns, older: Flags, decision: list[int], office: Office) -> None:
    """Rows that the topic cannot show any more: each is a decision in bronze, once, of the engine in office."""
    offset, epoch = found.offset[older], found.ints("epoch")[older]
    again = np.unique(offset[1:][offset[1:] == offset[:-1]])
    if len(again):
        hop.found(arrived.span.source, [Wrong("doubled", SILVER, "rows", again, BRONZE)])
    ids = arrived.schema_ids(offset)
    # What lies before bronze's end and is not there was lost by bronze.
    beyond = offset > arrived.bronze.offset.max(initial=-1)
    nowhere = ~np.isin(ids, decision) & ((ids != arrived.NOWHERE) | beyond)
    for what, wrong in (("unknown", nowhere), ("altered", ~nowhere & (office.epochs(offset) != epoch))):
        if wrong.any():
            fact = "rows" if what == "unknown" else "epoch"
            hop.found(arrived.span.source, [Wrong(what, SILVER, fact, np.unique(offset[wrong]), BRONZE)])
