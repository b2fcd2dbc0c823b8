"""silver.decisions beside gold.decisions, and every live payment beside its one effective outcome."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audit import digests, readings
from audit.admission import Admitted
from audit.arrival import Arrived
from audit.belonging import QUARANTINE
from audit.digests import Digests, Ints
from audit.findings import Hop
from audit.office import SILVER, Office
from audit.tables import NO_END, Columns, Span, Table
from audit.witnesses import Witness, Wrong, agreed, blaming, distinct, found_in, placed, witness

GOLD, PAYMENTS = "gold.decisions", "silver.payments"
ANSWER = "answer"
_NONE = np.zeros(0, np.int64)


def read(silver: Table, span: Span) -> Columns:
    """silver.decisions over a span of topic `events`."""
    return silver.taken(span, readings.DECIDED, readings.decided)


def of_accepted(decided: Columns) -> dict[str, Witness]:
    """The decisions of accepted payments, as witnesses of what the lake computes too."""
    here = decided.flags("accepted")
    names = ("payment", "set", "vector", "model", "scores")
    return {name: witness(SILVER, decided, name).at(here).once for name in names}


@dataclass(frozen=True)
class Answers:
    """The API's first answer to each transaction that it could not wait for; ascending by transaction."""

    transaction: Digests
    outcome: Digests

    @staticmethod
    def of(table: Table, before_ms: int | None) -> "Answers":
        """The answers that had landed at a moment, or all."""
        parts: list[tuple[Ints, Digests, Digests]] = []
        for batch in table.batches(("offset", "transaction_id", "outcome", "ingested_at")):
            landed_us = np.asarray(pc.cast(batch.column("ingested_at"), pa.timestamp("us", "UTC")).cast(pa.int64()))
            here = landed_us // 1000 <= (NO_END if before_ms is None else before_ms)
            names, outcomes = (digests.values(batch.column(name)) for name in ("transaction_id", "outcome"))
            parts.append((np.asarray(batch.column("offset"))[here], names[here], outcomes[here]))
        if not parts:
            return Answers(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
        offset, transaction, outcome = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(offset, kind="stable")
        transactions, first = np.unique(transaction[order], return_index=True)
        return Answers(transactions, outcome[order][first])

    def to(self, decided: Columns) -> Witness:
        """The answer to each decided payment, or none; a conflict never takes the first one's answer."""
        expected = np.full(len(decided.offset), digests.values(pa.nulls(1))[0])
        if len(self.transaction):
            wanted = decided.digests("transaction")
            at = np.minimum(np.searchsorted(self.transaction, wanted), len(self.transaction) - 1)
            here = (self.transaction[at] == wanted) & ~decided.flags("conflict")
            expected[here] = self.outcome[at[here]]
        return Witness("silver.answers", decided.offset, expected)


@dataclass(frozen=True)
class Gold:
    """What gold.decisions is compared with beside silver.decisions."""

    table: Table
    answers: Answers


def compare(hop: Hop, admitted: Admitted, arrived: Arrived, decided: Columns, gold: Gold, office: Office) -> None:
    """A span of payments beside their decisions, and these beside gold."""
    span, source = admitted.span, admitted.span.source
    final = gold.table.taken(span, readings.FINAL, readings.final)
    hop.found(source, _one_each(admitted, decided, office))
    taken = decided.offset < gold.table.end(source)
    hop.found(source, _placed(span, decided, taken, final, office))
    payments = [admitted.witness(PAYMENTS, name) for name in ("payment", "amount", "parties", "own content")]

    def told(fact: str, *more: Witness) -> list[Witness]:
        return [*more, witness(SILVER, decided, fact), witness(GOLD, final, fact)]

    raw = [*arrived.witness("payload", "bronze.events"), witness(SILVER, decided, "payload")]
    for fact, witnesses in (
        ("transaction id or time", told("payment", payments[0])),
        ("amount in base currency", told("amount", payments[1])),
        ("card, customer or merchant", told("parties", payments[2])),
        ("outcome", told("outcome")),
        ("risk, score, model or decision id", told("carried")),
        ("payload digest", raw),
        ("content digest", [payments[3], witness(SILVER, decided, "own content")]),
    ):
        hop.found(source, _shown(agreed(fact, witnesses), office))
    hop.found(source, _shown(_effective(decided, final, gold.answers), office))
    line = hop.line(SILVER)
    line.amount = (line.amount or 0) + int(decided.ints("base_minor").sum())
    hop.line(GOLD).add(final.offset, final.digests("effective"), final.ints("base_minor"))
    hop.line(GOLD).behind += int((~taken & ~np.isin(decided.offset, final.offset)).sum())


def _one_each(admitted: Admitted, decided: Columns, office: Office) -> list[Wrong]:
    """Every live payment, accepted or rejected, has one decision: from the first that an engine was to decide."""
    wrong = []
    again = np.unique(decided.offset[1:][decided.offset[1:] == decided.offset[:-1]])
    again = again[again < office.told_from]
    if len(again):
        wrong.append(Wrong("doubled", SILVER, "decisions of one payment", again, PAYMENTS))
    if office.live_from is not None:
        refused = admitted.tables[QUARANTINE]
        payments = distinct(admitted.payments, refused.offset[refused.flags("decided")])
        live = payments[(payments >= office.live_from) & (payments <= office.decided)]
        without = live[~np.isin(live, np.concatenate([decided.offset, office.lost]))]
        if len(without):
            wrong.append(Wrong("lost", SILVER, "decisions of live payments", without, PAYMENTS))
    return wrong


def _placed(span: Span, decided: Columns, taken: np.ndarray, final: Columns, office: Office) -> list[Wrong]:
    """Rows of gold beside those of silver, and beside those that silver has lost since."""
    mine = witness(SILVER, decided, "payment")
    lost = office.lost
    lost = lost[(lost >= span.start) & (lost < span.end)]
    offsets = distinct(mine.offset, lost)
    here, at = found_in(offsets, mine.offset)
    digest = np.zeros(len(offsets), np.uint64)
    digest[here] = mine.digest[at[here]]
    ready = distinct(mine.offset[taken], lost)
    kept = []
    for one in placed(Witness(SILVER, offsets, digest), witness(GOLD, final, "payment"), NO_END):
        due = np.isin(one.offset, ready) | (one.what != "lost")
        if due.any():
            kept.append(_only(one, due))
    return kept


def _only(wrong: Wrong, rows: np.ndarray) -> Wrong:
    return replace(wrong, offset=wrong.offset[rows], to=None if wrong.to is None else wrong.to[rows])


def _shown(wrong: Sequence[Wrong], office: Office) -> list[Wrong]:
    """What the topic has shown of silver's decision is not said again, and not in doubt, of gold's."""
    kept = []
    for one in wrong:
        if one.table == "bronze.events":
            continue  # its own hop says so
        new = ~np.isin(one.offset, office.altered)
        if not new.any():
            continue
        found = _only(one, new)
        verified = {found.table, found.against} == {SILVER, GOLD} and bool((found.offset >= office.told_from).all())
        kept.append(replace(found, table=GOLD, against=SILVER, undecided=False) if verified else found)
    return kept


def _effective(decided: Columns, final: Columns, answers: Answers) -> list[Wrong]:
    """Answers and effective outcomes of gold, beside those that follow from silver."""
    answered = agreed(ANSWER, [answers.to(decided), witness(GOLD, final, "answered")])
    follows = np.where(final.flags("unanswered"), final.digests("outcome"), final.digests("answered"))
    effective = agreed(
        "effective outcome", [Witness("its own row", final.offset, follows), witness(GOLD, final, "effective")]
    )
    return blaming(GOLD, [*answered, *effective])
