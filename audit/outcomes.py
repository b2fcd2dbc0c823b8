"""silver.decisions beside gold.decisions, and every live payment beside its one effective outcome."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audit import digests, readings
from audit.admission import Admitted
from audit.arrival import Arrived
from audit.belonging import QUARANTINE
from audit.digests import Digests, Ints
from audit.findings import Hop
from audit.office import SILVER, Office, shown
from audit.tables import NO_END, Columns, Span, Table
from audit.witnesses import Witness, Wrong, agreed, blaming, distinct, found_in, placed, witness

GOLD, PAYMENTS = "gold.decisions", "silver.payments"
ANSWER, END = "answer", "end of its challenge"
WORDS = (("silver.answers", ANSWER, "outcome"), ("silver.outcomes", END, "result"))
"""Tables that speak of decided payments: table, the fact in gold, the column."""
_NOTHING = digests.values(pa.nulls(1))[0]
_MEANT = tuple(
    zip(
        digests.values(pa.array(["approved", "declined", "expired"])),
        digests.values(pa.array(["approve", "decline", "decline"])),
        strict=True,
    )
)
"""How a challenge ended, and what that makes of its payment, as digests."""
ON_ITS_WAY_MS = 600_000
"""What landed so shortly before gold was written may have come to silver while gold was at work, or after it."""
_APPROVED, _EXPIRED = _MEANT[0][1], _MEANT[2][0]
"""An approval that was answered is not taken back by a customer's silence."""


def read(silver: Table, span: Span) -> Columns:
    """silver.decisions over a span of topic `events`."""
    return silver.taken(span, readings.DECIDED, readings.decided)


def of_accepted(decided: Columns) -> dict[str, Witness]:
    """The decisions of accepted payments, as witnesses of what the lake computes too."""
    here = decided.flags("accepted")
    names = ("payment", "set", "vector", "model", "scores")
    found = {name: witness(SILVER, decided, name).at(here).once for name in names}
    return {**found, "whole": witness(SILVER, decided, "scores").at(here & decided.flags("whole")).once}


@dataclass(frozen=True)
class Words:
    """What was first said of each transaction in one table of silver; ascending by transaction."""

    table: str
    transaction: Digests
    word: Digests
    landed_ms: Ints
    """When each had landed in bronze."""
    before_ms: int
    """The moment."""

    @staticmethod
    def of(table: Table, column: str, before_ms: int | None) -> "Words":
        """The words that had landed at a moment, or all."""
        moment = NO_END if before_ms is None else before_ms
        parts: list[tuple[Ints, Digests, Digests, Ints]] = []
        for batch in table.batches(("offset", "transaction_id", column, "ingested_at")):
            landed_us = np.asarray(pc.cast(batch.column("ingested_at"), pa.timestamp("us", "UTC")).cast(pa.int64()))
            landed = landed_us // 1000
            here = landed <= moment
            names, words = (digests.values(batch.column(name)) for name in ("transaction_id", column))
            parts.append((np.asarray(batch.column("offset"))[here], names[here], words[here], landed[here]))
        if not parts:
            nothing = np.zeros(0, np.uint64)
            return Words(table.name, nothing, nothing, np.zeros(0, np.int64), moment)
        offset, transaction, word, landed = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(offset, kind="stable")
        transactions, first = np.unique(transaction[order], return_index=True)
        return Words(table.name, transactions, word[order][first], landed[order][first], moment)

    def to(self, decided: Columns, unsaid: Ints) -> Witness:
        """The word on each decided payment, or none; a conflict never takes the first one's.

        `unsaid` are payments on which gold has no word: none is expected of what may have been on its way.
        """
        expected = np.full(len(decided.offset), _NOTHING)
        due = np.ones(len(decided.offset), np.bool_)
        if len(self.transaction):
            wanted = decided.digests("transaction")
            at = np.minimum(np.searchsorted(self.transaction, wanted), len(self.transaction) - 1)
            here = (self.transaction[at] == wanted) & ~decided.flags("conflict")
            expected[here] = self.word[at[here]]
            late = self.landed_ms[at] > self.before_ms - ON_ITS_WAY_MS
            due = ~(here & late & np.isin(decided.offset, unsaid))
        return Witness(self.table, decided.offset, expected).at(due)


@dataclass(frozen=True)
class Gold:
    """What gold.decisions is compared with beside silver.decisions: the API's answers, the ends of challenges."""

    table: Table
    answers: Words
    ends: Words

    @staticmethod
    def of(tables: Mapping[str, Table]) -> "Gold":
        """gold.decisions, and what it can have known when it was last written."""
        final = tables[GOLD]
        answers, ends = (Words.of(tables[name], told, final.written_ms) for name, _, told in WORDS)
        return Gold(final, answers, ends)


def compare(hop: Hop, admitted: Admitted, arrived: Arrived, decided: Columns, gold: Gold, office: Office) -> None:
    """A span of payments beside their decisions, and these beside gold."""
    span, source = admitted.span, admitted.span.source
    final = gold.table.taken(span, readings.FINAL, readings.final)
    hop.found(source, _one_each(hop, admitted, decided, office))
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
        ("risk, score, model, reasons, rung, exploration, arm or decision id", told("carried")),
        ("payload digest", raw),
        ("content digest", [payments[3], witness(SILVER, decided, "own content")]),
    ):
        # What is wrong with bronze, its own hop says.
        wrong = [one for one in agreed(fact, witnesses) if one.table != "bronze.events"]
        hop.found(source, shown(wrong, office, GOLD))
    hop.found(source, shown(_effective(decided, final, gold), office, GOLD))
    line = hop.line(SILVER)
    line.amount = (line.amount or 0) + int(decided.ints("base_minor").sum())
    hop.line(GOLD).add(final.offset, final.digests("effective"), final.ints("base_minor"))
    hop.line(GOLD).behind += int((~taken & ~np.isin(decided.offset, final.offset)).sum())


def _one_each(hop: Hop, admitted: Admitted, decided: Columns, office: Office) -> list[Wrong]:
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
        excused = office.excused(without)
        hop.line(SILVER).written_off += int(excused.sum())
        without = without[~excused]
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
            kept.append(one.only(due))
    return kept


def _effective(decided: Columns, final: Columns, gold: Gold) -> list[Wrong]:
    """Answers, ends and effective outcomes of gold, beside those that follow from silver."""
    wrong: list[Wrong] = []
    for fact, words, name in ((ANSWER, gold.answers, "answered"), (END, gold.ends, "ended")):
        said = witness(GOLD, final, name)
        wrong += agreed(fact, [words.to(decided, said.offset[said.digest == _NOTHING]), said])
    follows = np.where(final.flags("unanswered"), final.digests("outcome"), final.digests("answered"))
    ended = final.digests("ended")
    kept = ~final.flags("unanswered") & (final.digests("answered") == _APPROVED) & (ended == _EXPIRED)
    for result, outcome in _MEANT:
        follows[(ended == result) & ~kept] = outcome
    wrong += agreed(
        "effective outcome", [Witness("its own row", final.offset, follows), witness(GOLD, final, "effective")]
    )
    return blaming(GOLD, wrong)
