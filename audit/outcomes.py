"""Topic `decisions` beside silver.decisions and gold.decisions, and every live payment beside its one outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audit import digests
from audit.admission import QUARANTINE, Admitted, carried
from audit.arrival import Arrived, Decoded
from audit.digests import Ints
from audit.findings import Hop
from audit.schemas import Schema
from audit.scoring import OF_SCORE
from audit.tables import NO_END, Columns, Source, Span, Table
from audit.witnesses import Witness, Wrong, agreed, found_in, placed

SILVER, GOLD = "silver.decisions", "gold.decisions"
KINDS = ("decision", "engine_start")
_NONE = np.zeros(0, np.int64)
_PARTIES = ("card_token", "customer_token", "merchant_id")
_CARRIED = ("risk", "score", "model_digest", "decision_id")
_CONFLICT = "conflict"


@dataclass
class Office:
    """What was learnt of one partition of topic `decisions`, window by window."""

    starts: list[int] = field(default_factory=list)
    decided: int = -1
    """Highest source offset decided so far."""
    live_from: int | None = None
    """First record that an engine was to decide."""
    lost: list[Ints] = field(default_factory=list)
    """Source offsets of decisions that silver lacks, and of those that it has otherwise than the topic."""
    altered: list[Ints] = field(default_factory=list)
    told_from: int | None = None
    """First source offset that the topic told of."""


def _of_silver(schema: Schema, batch: pa.RecordBatch) -> Columns:
    return {
        "content": carried(batch, schema.carried),
        "landing": digests.values(batch.column("ingested_at")),
        "source": np.asarray(batch.column("offset")).astype(np.int64),
        "epoch": np.asarray(batch.column("epoch")).astype(np.int64),
    }


def _counting(decoded: Decoded, office: Office) -> np.ndarray:
    """Which decisions count: of the engine that was in office, the first of each source offset."""
    starts = np.array(sorted(set(office.starts)), np.int64)
    if not len(starts) or not len(decoded.offset):
        return np.zeros(len(decoded.offset), np.bool_)
    latest = np.searchsorted(starts, decoded.offset) - 1
    counts = (latest >= 0) & (starts[np.maximum(latest, 0)] == decoded.numbers["epoch"])
    counts &= decoded.numbers["offset"] > office.decided
    rows = np.flatnonzero(counts)
    _, first = np.unique(decoded.numbers["offset"][rows], return_index=True)
    kept = np.zeros(len(counts), np.bool_)
    kept[rows[first]] = True
    return kept


def take(hop: Hop, arrived: Arrived, silver: Table, schemas: Mapping[int, Schema], office: Office) -> None:
    """A span of topic `decisions` and bronze.decisions beside silver.decisions, by their offsets on the topic."""
    ids = {schema.kind: number for number, schema in sorted(schemas.items())}
    schema = schemas[ids["decision"]]
    span, source = arrived.span, arrived.span.source
    columns = (*schema.carried, "ingested_at")
    found = silver.taken(span, columns, lambda batch: _of_silver(schema, batch))
    bronze = arrived.bronze
    office.starts += bronze["offset"][bronze["schema_id"] == ids["engine_start"]].tolist()
    begun = arrived.kinds.get("engine_start")
    if begun is not None and len(begun.offset):
        office.starts += begun.offset.tolist()
        first = int(begun.numbers["next_offset"].min())
        office.live_from = first if office.live_from is None else min(first, office.live_from)
    told = arrived.kinds.get("decision")
    mine = Witness(SILVER, found["offset"].astype(np.int64), found["content"].astype(np.uint64))
    low = span.start if arrived.topic is None or not len(arrived.topic["offset"]) else int(arrived.topic["offset"][0])
    if arrived.topic is None or told is None:
        low = NO_END
    if told is not None and len(told.offset):
        chosen = _counting(told, office)
        expected = Witness("the topic", told.offset[chosen], told.digest[chosen])
        sources = told.numbers["offset"][chosen]
        wrong = placed(expected, mine.at(mine.offset >= low), min(span.end, silver.end(source)))
        hop.found(source, wrong)
        altered = agreed("content", [expected, mine])
        hop.found(source, [replace(one, table=SILVER, undecided=False) for one in altered])
        for one in wrong:
            if one.what in ("lost", "moved"):
                office.lost.append(sources[np.isin(expected.offset, one.offset)])
        for one in altered:
            office.altered.append(sources[np.isin(expected.offset, one.offset)])
        if len(sources):
            office.decided = max(office.decided, int(sources.max()))
            if office.told_from is None:
                office.told_from = int(sources.min())
    older = mine.offset < low
    if older.any():
        _by_bronze(hop, arrived, source, found, older, ids["decision"], office)
    landing = arrived.witness("landing", "bronze.decisions")[-1:]
    hop.found(
        source, agreed("ingested_at", [*landing, Witness(SILVER, mine.offset, found["landing"].astype(np.uint64))])
    )
    hop.line(SILVER).add(mine.offset, mine.digest)


def _by_bronze(
    hop: Hop, arrived: Arrived, source: Source, found: Columns, older: np.ndarray, decision: int, office: Office
) -> None:
    """Decisions that the topic no longer has: each is a decision in bronze, once, of the engine that was in office."""
    offset = found["offset"][older].astype(np.int64)
    again = np.unique(offset[1:][offset[1:] == offset[:-1]])
    if len(again):
        hop.found(source, [Wrong("doubled", SILVER, "rows", again, "bronze.decisions")])
    starts = np.array(sorted(set(office.starts)), np.int64)
    latest = np.searchsorted(starts, offset) - 1
    sound = latest >= 0
    sound[sound] &= starts[latest[sound]] == found["epoch"][older][sound]
    ids = arrived.schema_ids(offset)
    sound &= (ids == decision) | (ids == -2)
    if not sound.all():
        hop.found(source, [Wrong("altered", SILVER, "position or epoch", offset[~sound], "bronze.decisions")])


def _both(batch: pa.RecordBatch) -> Columns:
    n = batch.num_rows
    column = batch.column
    return {
        "payment": digests.rows([column("transaction_id"), column("event_time")], n),
        "amount": digests.values(column("amount_base_minor")),
        "base_minor": np.asarray(pc.cast(column("amount_base_minor"), pa.int64()).fill_null(0)),
        "parties": digests.rows([column(name) for name in _PARTIES], n),
        "carried": digests.rows([column(name) for name in _CARRIED], n),
    }


def _decided(batch: pa.RecordBatch) -> Columns:
    n = batch.num_rows
    column = batch.column
    conflict = [_CONFLICT in (names or ()) for names in column("rejected_by").to_pylist()]
    accepted = column("vector").is_valid() if n else pa.array([], pa.bool_())
    return {
        **_both(batch),
        "outcome": digests.values(column("outcome")),
        "set": digests.values(column("feature_set")),
        "vector": digests.vectors(column("vector")) if n else np.zeros(0, np.uint64),
        "model": digests.values(column("model_digest")),
        "scores": digests.rows([column(name) for name in OF_SCORE], n),
        "payload": digests.values(column("payload_digest")),
        "own content": digests.values(column("content_digest")),
        "transaction": digests.values(column("transaction_id")),
        "conflict": np.array(conflict, np.bool_),
        "accepted": np.asarray(accepted, np.bool_),
        "at": np.asarray(column("decision_offset")).astype(np.int64),
    }


_DECIDED = (
    *("transaction_id", "event_time", "amount_base_minor", *_PARTIES, *_CARRIED, "rejected_by", "vector", "outcome"),
    *("feature_set", *OF_SCORE, "payload_digest", "content_digest", "decision_offset"),
)
_FINAL = (
    *("transaction_id", "event_time", "amount_base_minor", *_PARTIES, *_CARRIED),
    *("decided_outcome", "answered_outcome", "effective_outcome"),
)


def _final(batch: pa.RecordBatch) -> Columns:
    column = batch.column
    return {
        **_both(batch),
        "outcome": digests.values(column("decided_outcome")),
        "answered": digests.values(column("answered_outcome")),
        "effective": digests.values(column("effective_outcome")),
        "none answered": np.asarray(column("answered_outcome").is_null()),
    }


def _witness(table: str, columns: Columns, fact: str) -> Witness:
    return Witness(table, columns["offset"].astype(np.int64), columns[fact].astype(np.uint64))


def decided(silver: Table, span: Span) -> Columns:
    """silver.decisions over a span of topic `events`."""
    return silver.taken(span, _DECIDED, _decided)


def as_witnesses(found: Columns) -> dict[str, Witness]:
    """The decisions of accepted payments, as witnesses of what the lake computes too."""
    of_accepted = found["accepted"].astype(np.bool_)
    names = ("payment", "set", "vector", "model", "scores")
    return {name: _witness(SILVER, found, name).at(of_accepted).once for name in names}


@dataclass(frozen=True)
class Answers:
    """The API's first answer to each transaction that it could not wait for."""

    transaction: digests.Digests
    outcome: digests.Digests

    @staticmethod
    def of(table: Table, before_ms: int | None) -> "Answers":
        """The answers that had landed at a moment; ascending by transaction."""
        parts: list[tuple[Ints, digests.Digests, digests.Digests]] = []
        for batch in table.batches(("offset", "transaction_id", "outcome", "ingested_at")):
            landed = (
                np.asarray(pc.cast(batch.column("ingested_at"), pa.timestamp("us", "UTC")).cast(pa.int64())) // 1000
            )
            here = np.ones(len(landed), np.bool_) if before_ms is None else landed <= before_ms
            transaction, outcome = (
                digests.values(batch.column("transaction_id")),
                digests.values(batch.column("outcome")),
            )
            parts.append((np.asarray(batch.column("offset"))[here], transaction[here], outcome[here]))
        if not parts:
            return Answers(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
        offset, transaction, outcome = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(offset, kind="stable")
        names, first = np.unique(transaction[order], return_index=True)
        return Answers(names, outcome[order][first])


@dataclass(frozen=True)
class Reach:
    """How far gold.decisions got in silver.decisions."""

    rows: int
    """Of silver.decisions, in the order of the topic; what follows is behind."""
    last: int
    """Offset on topic `decisions` of the last of them."""

    @staticmethod
    def of(silver: Table, gold: Table) -> "Reach":
        """By the last merge, else as far as gold has rows."""
        at, source = [_NONE], [_NONE]
        for batch in silver.batches(("decision_offset", "offset")):
            at.append(np.asarray(batch.column("decision_offset")).astype(np.int64))
            source.append(np.asarray(batch.column("offset")).astype(np.int64))
        offsets = np.sort(np.concatenate(at))
        merged = gold.merged()
        if merged is not None and merged[0] >= len(offsets):
            return Reach(len(offsets), NO_END)
        if merged is not None:
            return Reach(merged[0], int(offsets[merged[0] - 1]) if merged[0] else -1)
        end = max((extent.end for extent in gold.extents.values()), default=0)
        held = np.concatenate(at)[np.concatenate(source) < end]
        return Reach(len(held), int(held.max()) if len(held) else -1)


def compare(
    hop: Hop,
    admitted: Admitted,
    arrived: Arrived,
    found: Columns,
    gold: Table,
    answers: Answers,
    reach: Reach,
    office: Office,
) -> None:
    """A span of payments beside their decisions, and these beside gold."""
    span, source = admitted.span, admitted.span.source
    final = gold.taken(span, _FINAL, _final)
    mine, theirs = _witness(SILVER, found, "payment"), _witness(GOLD, final, "payment")
    _one_each(hop, admitted, mine, office)
    again = np.unique(mine.offset[1:][mine.offset[1:] == mine.offset[:-1]])
    if len(again) and office.told_from is None:
        hop.found(source, [Wrong("doubled", SILVER, "decisions of one payment", again, "silver.payments")])
    due = mine.once
    merged = np.zeros(len(mine.offset), np.bool_) | (found["at"] <= reach.last)
    lost = np.concatenate([_NONE, *office.lost])
    lost = lost[(lost >= span.start) & (lost < span.end) & ~np.isin(lost, due.offset)]
    offsets = np.union1d(due.offset, lost).astype(np.int64)
    digest = np.zeros(len(offsets), np.uint64)
    digest[np.isin(offsets, due.offset)] = due.digest
    ready = np.union1d(mine.offset[merged], lost)
    wrong = placed(Witness(SILVER, offsets, digest), theirs, NO_END)
    for one in wrong:
        here = np.isin(one.offset, ready) if one.what == "lost" else np.ones(len(one.offset), np.bool_)
        if here.any():
            hop.found(source, [replace(one, offset=one.offset[here], to=None if one.to is None else one.to[here])])
    altered = np.concatenate([_NONE, *office.altered])
    verified = NO_END if office.told_from is None else office.told_from

    def tell(wrong: list[Wrong]) -> None:
        # What the topic has shown of silver's row need not be said again of gold's.
        for one in wrong:
            if one.table not in (SILVER, GOLD):
                continue
            here = ~np.isin(one.offset, altered)
            sound = one.undecided and bool((one.offset >= verified).all())
            if here.any():
                to = None if one.to is None else one.to[here]
                table, against = (GOLD, SILVER) if sound else (one.table, one.against)
                hop.found(
                    source,
                    [
                        replace(
                            one,
                            table=table,
                            against=against,
                            offset=one.offset[here],
                            to=to,
                            undecided=one.undecided and not sound,
                        )
                    ],
                )

    payments = "silver.payments"
    for fact, name in (
        ("transaction id or time", "payment"),
        ("amount in base currency", "amount"),
        ("parties", "parties"),
    ):
        first = admitted.witness(payments, name)
        told = agreed(fact, [first, _witness(SILVER, found, name), _witness(GOLD, final, name)])
        tell(told)
        hop.found(source, [one for one in told if one.table == payments])
    tell(agreed("outcome", [_witness(SILVER, found, "outcome"), _witness(GOLD, final, "outcome")]))
    tell(agreed("risk, score, model or id", [_witness(SILVER, found, "carried"), _witness(GOLD, final, "carried")]))
    raw = [one for one in arrived.witness("payload", "bronze.events")]
    tell(agreed("payload digest", [*raw, _witness(SILVER, found, "payload")]))
    tell(agreed("content digest", [admitted.witness(payments, "own content"), _witness(SILVER, found, "own content")]))
    hop.found(source, _answered(found, final, answers))
    hop.line(SILVER).amount = (hop.line(SILVER).amount or 0) + int(found["base_minor"].sum())
    hop.line(GOLD).add(theirs.offset, _witness(GOLD, final, "effective").digest, final["base_minor"])
    hop.line(GOLD).behind += int((~merged & ~np.isin(mine.offset, theirs.offset)).sum())


def _one_each(hop: Hop, admitted: Admitted, decided: Witness, office: Office) -> None:
    """Every live payment, accepted or rejected, has a decision: from the first that an engine was to decide."""
    refused = admitted.tables[QUARANTINE]
    payments = np.union1d(admitted.payments, refused["offset"][refused["rejected payment"].astype(np.bool_)])
    begin = office.live_from
    if begin is None or office.decided < 0:
        return
    live = payments[(payments >= begin) & (payments <= office.decided)].astype(np.int64)
    known = np.concatenate([decided.offset, *office.lost])
    without = live[~found_in(live, np.sort(known))[0]]
    if len(without):
        hop.found(
            admitted.span.source, [Wrong("lost", SILVER, "decisions of live payments", without, "silver.payments")]
        )


def _answered(found: Columns, final: Columns, answers: Answers) -> list[Wrong]:
    """gold's answers and effective outcomes, beside those that follow from silver."""
    offsets = found["offset"].astype(np.int64)
    place = np.minimum(np.searchsorted(answers.transaction, found["transaction"]), max(0, len(answers.transaction) - 1))
    expected = np.full(len(offsets), digests.values(pa.nulls(1))[0])
    if len(answers.transaction):
        here = (answers.transaction[place] == found["transaction"]) & ~found["conflict"].astype(np.bool_)
        expected[here] = answers.outcome[place[here]]
    told = Witness("silver.answers", offsets, expected)
    wrong = agreed("answer", [told, _witness(GOLD, final, "answered")])
    none = final["none answered"].astype(np.bool_)
    follows = np.where(none, final["outcome"].astype(np.uint64), final["answered"].astype(np.uint64))
    effective = _witness(GOLD, final, "effective")
    wrong += agreed("effective outcome", [Witness(SILVER, effective.offset, follows), effective])
    return [replace(one, table=GOLD, undecided=False) for one in wrong]
