"""silver.payments beside features.vectors, gold.features and gold.scores: one row a payment, the same values."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from audit import digests
from audit.admission import Admitted
from audit.digests import Ints
from audit.findings import Hop
from audit.tables import Columns, Span, Table
from audit.witnesses import Witness, agreed, found_in, placed

VECTORS, FEATURES, SCORES = "features.vectors", "gold.features", "gold.scores"
TABLES = (VECTORS, FEATURES, SCORES)
_NAMED = ("topic_id", "partition", "offset", "transaction_id", "event_time", "feature_set")
_PAYMENT = ("transaction_id", "event_time")
OF_SCORE = ("model_digest", "score", "score_xgboost", "score_isolation_forest", "risk")


def _payment(batch: pa.RecordBatch) -> digests.Digests:
    return digests.rows([batch.column(name) for name in _PAYMENT], batch.num_rows)


def _of_vectors(batch: pa.RecordBatch) -> Columns:
    return {
        "payment": _payment(batch),
        "set": digests.values(batch.column("feature_set")),
        "vector": digests.vectors(batch.column("vector")),
    }


def _of_features(batch: pa.RecordBatch) -> Columns:
    named = [name for name in batch.schema.names if name not in _NAMED]
    return {
        "payment": _payment(batch),
        "set": digests.values(batch.column("feature_set")),
        "vector": digests.matrix([batch.column(name) for name in named]),
        "amount32": digests.values(digests.float32(batch.column("amount_minor"))),
    }


def _of_scores(batch: pa.RecordBatch) -> Columns:
    return {
        "payment": _payment(batch),
        "model": digests.values(batch.column("model_digest")),
        "scores": digests.rows([batch.column(name) for name in OF_SCORE], batch.num_rows),
    }


def read(tables: Mapping[str, Table], span: Span) -> dict[str, Columns]:
    """The three tables over a span."""
    named = tuple(name for name in tables[FEATURES].columns if name not in _NAMED) or ("amount_minor",)
    return {
        VECTORS: tables[VECTORS].taken(span, (*_PAYMENT, "feature_set", "vector"), _of_vectors),
        FEATURES: tables[FEATURES].taken(span, (*_PAYMENT, "feature_set", *named), _of_features),
        SCORES: tables[SCORES].taken(span, (*_PAYMENT, *OF_SCORE), _of_scores),
    }


def witness(table: str, columns: Columns, fact: str) -> Witness:
    """A table's digests of a fact."""
    return Witness(table, columns["offset"].astype(np.int64), columns[fact].astype(np.uint64))


def accepted(found: Mapping[str, Columns]) -> Ints:
    """Positions that at least one table of this hop holds, so that they were payments and accepted."""
    return np.unique(np.concatenate([found[name]["offset"] for name in TABLES])).astype(np.int64)


def compare(
    hop: Hop,
    admitted: Admitted,
    found: Mapping[str, Columns],
    decided: Mapping[str, Witness],
    tables: Mapping[str, Table],
) -> None:
    """Each accepted payment in each table; `decided` are the decisions, as witnesses of the same facts."""
    span, source = admitted.span, admitted.span.source
    payments = admitted.witness("silver.payments", "payment")
    told = payments.once
    digest = np.zeros(len(admitted.payments), np.uint64)
    here = np.isin(admitted.payments, told.offset)
    digest[here] = told.digest[np.isin(told.offset, admitted.payments)]
    expected = Witness("silver.payments", admitted.payments, digest)
    for name in TABLES:
        mine = witness(name, found[name], "payment")
        hop.found(source, placed(expected, mine, min(span.end, tables[name].end(source))))
        fact = "scores" if name == SCORES else "vector"
        hop.line(name).add(mine.offset, witness(name, found[name], fact).digest)
    hop.line("silver.payments").add(payments.offset, payments.digest, admitted.tables["silver.payments"]["base_minor"])

    def agree(fact: str, name: str, witnesses: list[Witness]) -> None:
        wrong = agreed(fact, [*witnesses, *([decided[name]] if name in decided else [])])
        hop.found(source, [one for one in wrong if one.table != _DECISIONS])

    agree("transaction id or time", "payment", [payments, *(witness(n, found[n], "payment") for n in TABLES)])
    vectors = [witness(name, found[name], "vector") for name in (VECTORS, FEATURES)]
    agree("feature set", "set", [witness(name, found[name], "set") for name in (VECTORS, FEATURES)])
    sets = witness(VECTORS, found[VECTORS], "set")
    if "vector" in decided:
        vectors.append(_where_same(decided["vector"], decided["set"], sets))
    hop.found(source, [one for one in agreed("vector", vectors) if one.table != _DECISIONS])
    amount = [admitted.witness("silver.payments", "amount32"), witness(FEATURES, found[FEATURES], "amount32")]
    agree("amount in base currency, as a feature", "amount32", amount)
    agree("scores", "scores", _of_one_model(found[SCORES], decided))


_DECISIONS = "silver.decisions"


def _where_same(told: Witness, mine: Witness, theirs: Witness) -> Witness:
    """What is told at the positions at which two other facts (of `told`'s positions, and any) are the same."""
    here, place = found_in(mine.offset, theirs.offset)
    same = np.zeros(len(mine.offset), np.bool_)
    same[here] = theirs.digest[place[here]] == mine.digest[here]
    return told.at(same)


def _of_one_model(scores: Columns, decided: Mapping[str, Witness]) -> list[Witness]:
    """The scores of payments that the engine decided by the same model."""
    if "model" not in decided:
        return []
    return [_where_same(witness(SCORES, scores, "scores"), witness(SCORES, scores, "model"), decided["model"])]
