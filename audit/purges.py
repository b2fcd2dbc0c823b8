"""lake.purges: the records that were emptied on request, in which place, each with an erasure that silver knows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from audit import digests
from audit.digests import Digests, Ints
from audit.tables import NO_END, Source, Span, Table

PURGES, ERASURES = "lake.purges", "silver.erasures"
PURGED = "purged record"
"""The fact of a record that is to be empty, and is not."""
VANISHED = "sealed record"
"""The fact of one that is empty, and nobody asked for it."""


@dataclass(frozen=True)
class Purges:
    """What was asked for, and by which erasures it may be."""

    table: Table
    known: Digests
    """Of the ids of erasures."""

    @staticmethod
    def of(root: str, tables: Mapping[str, Table]) -> "Purges":
        """The purges of a lake; none where the table has not been made."""
        ids = [digests.values(batch.column("erasure_id")) for batch in tables[ERASURES].batches(("erasure_id",))]
        return Purges(Table(root, PURGES), np.unique(np.concatenate([np.zeros(0, np.uint64), *ids])))

    def offsets(self, source: Source, place: str) -> Ints:
        """Positions whose records are to be empty in a table, ascending."""
        found = self.table.taken(
            Span(source, 0, NO_END),
            ("place", "erasure_id"),
            lambda batch: {
                "place": digests.values(batch.column("place")),
                "erasure": digests.values(batch.column("erasure_id")),
            },
        )
        here = found.digests("place") == digests.values(pa.array([place]))[0]
        return np.unique(found.offset[here & np.isin(found.digests("erasure"), self.known)])
