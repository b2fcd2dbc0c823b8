"""Topic `shadow` and bronze.shadow beside silver.shadow: what a challenger said of each payment, once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from audit import readings
from audit.admission import Admitted
from audit.arrival import Arrived
from audit.digests import Ints
from audit.findings import Hop
from audit.schemas import Schema
from audit.tables import NO_END, Columns, Table
from audit.witnesses import Flags, Witness, Wrong, agreed, blaming, distinct, placed, witness

SILVER, BRONZE, KIND = "silver.shadow", "bronze.shadow", "shadow"
KINDS = (KIND,)


@dataclass
class Said:
    """Source offsets of which one partition of the topic has told so far; a repeat does not count."""

    offsets: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def first(self, sources: Ints) -> Flags:
        """Which of some records, in the order of the topic, are the first of their source offsets."""
        chosen = np.zeros(len(sources), np.bool_)
        chosen[np.unique(sources, return_index=True)[1]] = True
        return chosen & ~np.isin(sources, self.offsets)

    def told(self, sources: Ints) -> None:
        """Take in source offsets."""
        self.offsets = distinct(self.offsets, sources)


def compare(hop: Hop, arrived: Arrived, silver: Table, schemas: Mapping[int, Schema], said: Said) -> None:
    """A span of the topic and of bronze beside silver: the first record of each payment, and nothing else."""
    ids = sorted(number for number, schema in schemas.items() if schema.kind == KIND)
    schema = schemas[ids[-1]]
    span, source = arrived.span, arrived.span.source
    found = silver.taken(span, (*schema.carried, "ingested_at"), partial(readings.shadowed, schema))
    mine = witness(SILVER, found, "content")
    from_topic = NO_END if arrived.topic is None else int(arrived.topic.offset[0])
    older = mine.offset < from_topic
    _by_bronze(hop, arrived, mine.offset[older], ids)
    said.told(found.ints("source")[older])
    told = arrived.kinds.get(KIND)
    if told is not None:
        sources = told.numbers["offset"]
        chosen = said.first(sources)
        expected = Witness("the topic", told.offset[chosen], told.digest[chosen])
        newer = mine.at(~older)
        hop.found(source, placed(expected, newer, min(span.end, silver.end(source))))
        hop.found(source, blaming(SILVER, agreed("content", [expected, newer])))
        said.told(sources)
    landing = agreed("ingested_at", [*arrived.witness("landing", BRONZE), witness(SILVER, found, "landing")])
    hop.found(source, landing)
    hop.line(SILVER).add(mine.offset, mine.digest)


def _by_bronze(hop: Hop, arrived: Arrived, offset: Ints, wanted: Sequence[int]) -> None:
    """Rows that the topic cannot show any more: each is a challenger's record in bronze, once."""
    again = np.unique(offset[1:][offset[1:] == offset[:-1]])
    ids = arrived.schema_ids(offset)
    # What lies before bronze's end and is not there was lost by bronze.
    beyond = offset > arrived.bronze.offset.max(initial=-1)
    nowhere = ~np.isin(ids, wanted) & ((ids != arrived.NOWHERE) | beyond)
    for what, rows in (("doubled", again), ("unknown", np.unique(offset[nowhere]))):
        if len(rows):
            hop.found(arrived.span.source, [Wrong(what, SILVER, "rows", rows, BRONZE)])


def beside(hop: Hop, admitted: Admitted, decided: Columns, by_event: Table) -> None:
    """What a challenger's rows tell of payments, beside the payments and their decisions."""
    rows = by_event.taken(admitted.span, readings.SHADOWED, readings.of_payment)
    for fact, name in (("transaction id or time", "payment"), ("amount in base currency", "amount")):
        told = [admitted.witness("silver.payments", name), witness("silver.decisions", decided, name)]
        wrong = agreed(fact, [*told, witness(SILVER, rows, name)])
        hop.found(admitted.span.source, [one for one in wrong if one.table == SILVER and not one.undecided])
