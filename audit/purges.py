"""lake.purges: the records that were emptied on request, in which place, each of the customer whom silver erased."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audit import digests
from audit.arrival import PURGES
from audit.belonging import DUPLICATES, KINDS
from audit.digests import Ints
from audit.tables import NO_END, Columns, Source, Span, Table
from audit.witnesses import Flags, found_in

ERASURES = "silver.erasures"
_CUSTOMER = "customer_token"


@dataclass(frozen=True)
class Purges:
    """What was asked for, and the tables of silver that tell whether it may be."""

    table: Table
    silver: Mapping[str, Table]

    @staticmethod
    def of(root: str, tables: Mapping[str, Table]) -> "Purges":
        """The purges of a lake; none where the table has not been made."""
        return Purges(Table(root, PURGES), tables)

    def offsets(self, source: Source, place: str) -> Ints:
        """Positions whose records are to be empty in a table, ascending."""
        whole = Span(source, 0, NO_END)
        found = self.table.taken(
            whole,
            ("place", "erasure_id"),
            lambda batch: {name: digests.values(batch.column(name)) for name in ("place", "erasure_id")},
        )
        here = found.digests("place") == digests.values(pa.array([place]))[0]
        named = Columns({name: values[here] for name, values in found.items()})
        if not len(named.offset):
            return named.offset
        return np.unique(named.offset[self._due(whole, named)])

    def _due(self, whole: Span, named: Columns) -> Flags:
        """Which records go with an erasure that silver knows: the customer's, up to it, and what repeats one of them.

        Of a record that silver refused nobody but its seal knows the customer.
        """
        repeats = self.silver[DUPLICATES].taken(whole, ("first_offset",), _first, named.offset)
        again, at = found_in(named.offset, repeats.offset)
        record = named.offset.copy()
        record[again] = repeats.ints("first")[at[again]]
        accepted, customer = self._customers(whole, np.unique(record))
        known, at = found_in(record, accepted)
        due = np.zeros(len(record), np.bool_)
        for erasure_id, (offset, tokens) in self._erasures(whole.source).items():
            mine = (named.digests("erasure_id") == erasure_id) & (record <= offset)
            due |= mine & ~known
            due[mine & known] |= np.isin(customer[at[mine & known]], tokens)
        return due

    def _customers(self, whole: Span, offsets: Ints) -> tuple[Ints, digests.Digests]:
        """Accepted records at some positions, ascending, and a digest of each one's customer token."""
        parts = []
        for name in KINDS.values():
            table = self.silver[name]
            columns = (_CUSTOMER,) if _CUSTOMER in table.columns else ()
            parts.append(table.taken(whole, columns, _customer, offsets))
        offset = np.concatenate([part.offset for part in parts])
        order = np.argsort(offset, kind="stable")
        return offset[order], np.concatenate([part.digests("customer") for part in parts])[order]

    def _erasures(self, source: Source) -> dict[int, tuple[int, digests.Digests]]:
        """By digest of its id, where each erasure first stands in a source, and digests of its customer's tokens."""
        columns = ("topic_id", "partition", "offset", "erasure_id", _CUSTOMER, "former_tokens")
        found: dict[int, tuple[int, digests.Digests]] = {}
        for batch in self.silver[ERASURES].batches(columns):
            for row, id_ in zip(batch.to_pylist(), digests.values(batch.column("erasure_id")).tolist(), strict=True):
                before = found.get(id_, (NO_END,))[0]
                if Source(row["topic_id"], row["partition"]) == source and row["offset"] < before:
                    tokens = [row[_CUSTOMER], *(row["former_tokens"] or ())]
                    found[id_] = row["offset"], digests.values(pa.array(tokens, pa.string()))
        return found


def _first(batch: pa.RecordBatch) -> Mapping[str, Ints]:
    return {"first": np.asarray(pc.cast(batch.column("first_offset"), pa.int64()).fill_null(-1))}


def _customer(batch: pa.RecordBatch) -> Mapping[str, digests.Digests]:
    named = _CUSTOMER in batch.schema.names
    return {"customer": digests.values(batch.column(_CUSTOMER) if named else pa.nulls(batch.num_rows))}
