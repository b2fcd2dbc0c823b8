"""silver.payments beside features.vectors, gold.features and gold.scores: one row a payment, the same values."""

from collections.abc import Mapping

import numpy as np

from audit import readings
from audit.admission import Admitted
from audit.digests import Ints
from audit.findings import Hop
from audit.office import Office, shown
from audit.tables import Columns, Span, Table
from audit.witnesses import Flags, Witness, agreed, distinct, found_in, placed, witness

PAYMENTS, VECTORS, FEATURES, SCORES = "silver.payments", "features.vectors", "gold.features", "gold.scores"
TABLES = (VECTORS, FEATURES, SCORES)


def read(tables: Mapping[str, Table], span: Span) -> dict[str, Columns]:
    """The three tables over a span."""
    named = tuple(name for name in tables[FEATURES].columns if name not in readings.NAMED)
    columns = (*readings.PAYMENT, "feature_set", *(named or ("amount_minor",)))
    return {
        VECTORS: tables[VECTORS].taken(span, readings.VECTOR, readings.vectors),
        FEATURES: tables[FEATURES].taken(span, columns, readings.features),
        SCORES: tables[SCORES].taken(span, readings.SCORE, readings.scores),
    }


def paid(found: Mapping[str, Columns]) -> Ints:
    """Positions that at least one of the tables holds: they were accepted payments."""
    return distinct(*(found[name].offset for name in TABLES))


def compare(
    hop: Hop,
    admitted: Admitted,
    found: Mapping[str, Columns],
    decided: Mapping[str, Witness],
    office: Office,
    tables: Mapping[str, Table],
) -> None:
    """Each accepted payment in each table; `decided` are its decisions, as witnesses of the same facts."""
    span, source = admitted.span, admitted.span.source
    payments = admitted.witness(PAYMENTS, "payment")
    once = payments.once
    here, at = found_in(admitted.payments, once.offset)
    digest = np.zeros(len(admitted.payments), np.uint64)
    digest[here] = once.digest[at[here]]
    expected = Witness(PAYMENTS, admitted.payments, digest)
    for name, fact in ((VECTORS, "vector"), (FEATURES, "vector"), (SCORES, "scores")):
        until = min(span.end, tables[name].end(source))
        hop.found(source, placed(expected, witness(name, found[name], "payment"), until))
        hop.line(name).add(found[name].offset, found[name].digests(fact))
    hop.line(PAYMENTS).add(payments.offset, payments.digest, admitted.tables[PAYMENTS].ints("base_minor"))

    def told(fact: str, *names: str) -> list[Witness]:
        return [witness(name, found[name], fact) for name in names]

    sets = told("set", VECTORS, FEATURES)
    vectors = told("vector", VECTORS, FEATURES)
    logged = decided["vector"].at(_same(decided["set"], sets[0]))
    amount = [admitted.witness(PAYMENTS, "amount32"), *told("amount32", FEATURES)]
    for fact, witnesses in (
        ("transaction id or time", [payments, *told("payment", *TABLES), decided["payment"]]),
        ("feature set", sets),
        ("vector", [*vectors, logged]),
        ("amount in base currency, as a feature", amount),
    ):
        # Decisions are looked at in their own hop.
        hop.found(source, [one for one in agreed(fact, witnesses) if one.table != decided["payment"].table])

    # By the same models over the same vector: below the highest rung the engine has other scores.
    alike = logged.offset[_same(logged, vectors[0])]
    live = decided["whole"].at(np.isin(decided["whole"].offset, alike))
    scored = witness(SCORES, found[SCORES], "scores").at(
        _same(witness(SCORES, found[SCORES], "model"), decided["model"])
    )
    hop.found(source, shown(agreed("scores", [live, scored]), office, SCORES))


def _same(mine: Witness, theirs: Witness) -> Flags:
    """In which rows of one witness another tells the same."""
    here, at = found_in(mine.offset, theirs.offset)
    same = np.zeros(len(mine.offset), np.bool_)
    same[here] = theirs.digest[at[here]] == mine.digest[here]
    return same
