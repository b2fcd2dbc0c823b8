"""What silver has of purged records, carried over when their interval is done again: nobody can open them any more.

Accepted ones go through admission once more, from their typed rows, so that what follows is judged as it was. Refused
and repeated ones keep their verdicts. A purged record of which silver has nothing is refused as unreadable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from expectations.decoded import IDENTITY_FIELDS, pairs
from expectations.reference import short_codes
from lakehouse import delta
from lakehouse.contracts import bronze, silver
from lakehouse.crypto import Digests
from lakehouse.envelope import PURGED
from lakehouse.files import arrow_schema
from lakehouse.spans import Span
from lakehouse.texts import Ints, Texts
from lakehouse.topics import EVENT_KINDS
from silver.admitting import Judged
from silver.keeping import NARROWED, Keeper
from silver.masking import NARROW, masked_columns


@dataclass(frozen=True)
class Carried:
    """Purged records of a range, as silver has them."""

    told: pa.RecordBatch | None
    """Of the files with accepted rows, as masking tells of its own."""
    refused: pa.Table
    duplicates: pa.Table
    lost: tuple[tuple[int, str], ...]
    """Offset and reason of those that silver has nothing of."""

    def into(self, verdicts: Judged) -> Judged:
        """The verdicts of a range, with those that are carried over."""
        tables = {"refused_rows": self.refused, "duplicate_rows": self.duplicates}
        both = {
            name: pa.concat_tables([getattr(verdicts, name), rows.cast(getattr(verdicts, name).schema)])
            for name, rows in tables.items()
        }
        return replace(
            verdicts,
            received=verdicts.received + self.refused.num_rows + self.duplicates.num_rows,
            quarantined=verdicts.quarantined + self.refused.num_rows,
            duplicates=verdicts.duplicates + self.duplicates.num_rows,
            **both,
        )


_REFUSED = ["offset", "kind", "reasons", "first_offset", "content_digest", "first_content_digest"]
_REPEATED = ["offset", "kind", "first_offset", "content_digest"]


def carried(root: str, span: Span, purged: Sequence[int], folder: Path, digests: Digests) -> Carried:
    """What silver has of the purged records of a range; the files of the accepted ones are kept in `folder`."""
    here = delta.within(span) & pc.field("offset").isin(pa.array(purged, pa.int64()))
    refused = delta.rows(root, silver.QUARANTINE, _REFUSED, here)
    duplicates = delta.rows(root, silver.DUPLICATES, _REPEATED, here)
    times = delta.rows(root, bronze.EVENTS, ["offset", "ingested_at"], here)
    landed = dict(zip(times.column("offset").to_pylist(), times.column("ingested_at").to_pylist(), strict=True))
    found = {*refused.column("offset").to_pylist(), *duplicates.column("offset").to_pylist()}
    told = None
    with Keeper(folder) as kept:
        for kind, table in silver.BY_KIND.items():
            rows = delta.rows(root, table, table.column_names, here)
            if not rows.num_rows:
                continue
            found |= set(rows.column("offset").to_pylist())
            rows = _landed(rows.cast(arrow_schema(table)), landed).combine_chunks()
            kept.put(kind, rows.select(masked_columns(table)).to_batches()[0])
            kept.put(NARROWED, narrow(kind, rows, digests))
            told = kept.told()
    lost = tuple((offset, PURGED) for offset in purged if offset not in found)
    return Carried(told, refused, duplicates, lost)


def _landed(rows: pa.Table, landed: Mapping[int, datetime]) -> pa.Table:
    """The rows with the time at which bronze has landed them now: perhaps again since."""
    at = rows.schema.get_field_index("ingested_at")
    times = [landed[offset] for offset in rows.column("offset").to_pylist()]
    return rows.set_column(at, rows.schema.field(at), pa.array(times, rows.schema.field(at).type))


def narrow(kind: str, rows: pa.Table, digests: Digests) -> pa.RecordBatch:
    """What admission looks at, of accepted rows of a kind: as masking has it of their records."""
    n = rows.num_rows
    nothing = np.full(n, -1, np.int64)
    fields = [rows.column(name).to_pylist() for name in IDENTITY_FIELDS[kind]]
    identity = pairs([digests.identity(kind, "\0".join(key).encode()) for key in zip(*fields, strict=True)])
    content = pairs(rows.column("content_digest").to_pylist())

    def codes(name: str) -> Ints:
        if name not in rows.column_names:
            return nothing
        column = rows.column(name).combine_chunks()
        return np.where(column.is_valid().to_numpy(zero_copy_only=False), short_codes(Texts.from_arrow(column)), -1)

    def ms(name: str) -> Ints:
        return np.asarray(rows.column(name).cast(pa.int64()).to_numpy() // 1000, np.int64)

    columns = {
        "offset": rows.column("offset").to_numpy(),
        "kind": np.full(n, EVENT_KINDS.index(kind)),
        "broken": pa.nulls(n, pa.string()),
        "identity_high": identity[:, 0],
        "identity_low": identity[:, 1],
        "content_high": content[:, 0],
        "content_low": content[:, 1],
        "received_ms": ms("received_at"),
        "amount": rows.column("amount_minor").to_numpy() if "amount_minor" in rows.column_names else nothing,
        "currency_code": codes("currency"),
        "category_code": codes("merchant_category_code"),
        "country_code": codes("merchant_country"),
        "available_ms": ms("label_available_at")
        if "label_available_at" in rows.column_names
        else np.zeros(n, np.int64),
    }
    return pa.RecordBatch.from_pydict(columns, NARROW)
