"""Sealed bronze rows of one kind -> typed, masked rows with what admission looks at, in Arrow batches on the workers.

Records are opened, decoded, digested and masked in one pass, so no clear value is ever shuffled, persisted or visible
to the JVM. Keys are read on the worker from the key source, never shipped to it.
"""

from collections.abc import Callable, Iterable
from datetime import date

import numpy as np
import pyarrow as pa

from expectations.decoded import DERIVED, Decoded, decode
from expectations.reference import short_codes
from lakehouse.avro import FAULTS
from lakehouse.contracts.silver import BY_KIND, TOKEN_COLUMNS
from lakehouse.crypto import Digests, Tokens
from lakehouse.data_keys import DataKeys
from lakehouse.envelope import open_values
from lakehouse.keys import KeySource
from lakehouse.registry import Schema, registry
from lakehouse.tables import Table
from lakehouse.texts import Flags, Ints, Texts
from silver.personal import Erased, Sealer
from silver.typed import arrow_column

Batches = Iterable[pa.RecordBatch]

BY_ADMISSION = (
    *("engine_clock", "amount_base_minor", "reference_version", "category_risk", "country_risk", "effective_at"),
)
"""Columns of silver that only the ordered pass of admission can fill."""

NARROW = (
    ("fault", "string"),
    ("identity_high", "bigint"),
    ("identity_low", "bigint"),
    ("content_high", "bigint"),
    ("content_low", "bigint"),
    ("received_ms", "bigint"),
    ("amount", "bigint"),
    ("currency_code", "bigint"),
    ("category_code", "bigint"),
    ("country_code", "bigint"),
)
"""What admission looks at, beside the table's own columns."""


def masked_ddl(table: Table) -> str:
    """Spark schema of what the masking pass gives."""
    kept = [f"`{c.name}` {c.type}" for c in table.columns if c.name not in BY_ADMISSION]
    return ", ".join([*kept, *(f"`{name}` {kind}" for name, kind in NARROW)])


def masking(keys: KeySource, schema_id: int, erased: Erased) -> Callable[[Batches], Batches]:
    """A function for mapInArrow over bronze rows of one partition that were all written with one schema."""

    def masked(batches: Batches) -> Batches:
        schema = registry().by_id()[schema_id]
        masker = Masker(keys, schema, erased)
        for batch in batches:
            yield masker.masked(batch)

    return masked


class Masker:
    """Opens, decodes and masks batches of one schema."""

    def __init__(self, keys: KeySource, schema: Schema, erased: Erased) -> None:
        keyring = keys.keyring()
        self._keys = DataKeys(keys)
        self._schema = schema
        self._table = BY_KIND[schema.kind]
        self._digests = Digests(keyring)
        self._tokens = Tokens(keyring)
        self._sealer = Sealer(self._keys, self._table.name, erased)

    def masked(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The masked rows, in the order of `masked_ddl`."""
        unreadable: dict[int, str] = {}
        records = open_values(rows, self._keys, unreadable)
        texts = Texts.of(records)
        broker_ms = rows.column("broker_time").cast(pa.int64()).to_numpy() // 1000
        decoded = decode(
            self._schema, texts.buffer.tobytes(), texts.start, texts.start + texts.length, broker_ms, self._digests
        )
        sound = decoded.fault == 0
        columns: dict[str, pa.Array] = {
            name: rows.column(name) for name in ("topic_id", "partition", "offset", "payload_digest", "ingested_at")
        }
        self._typed(decoded, sound, columns)
        self._narrow(decoded, unreadable, columns)
        names = [c.name for c in self._table.columns if c.name not in BY_ADMISSION] + [name for name, _ in NARROW]
        return pa.RecordBatch.from_arrays([columns[name] for name in names], names=names)

    def _typed(self, decoded: Decoded, sound: Flags, columns: dict[str, pa.Array]) -> None:
        batch = decoded.batch
        personal: dict[str, list[str | None]] = {}
        for field in self._schema.parsed["fields"]:
            name = field["name"]
            valid = batch.has(name) & sound
            if name in TOKEN_COLUMNS:
                column, kind = TOKEN_COLUMNS[name]
                clear = [v if ok else None for v, ok in zip(batch.texts(name).to_list(), valid.tolist(), strict=True)]
                present = [v for v in dict.fromkeys(clear) if v is not None]
                texts = dict(zip(present, map(self._tokens.text, self._tokens.digests(kind, present)), strict=True))
                tokens = [None if v is None else texts[v] for v in clear]
                columns[column] = pa.array(tokens, pa.string())
                personal[name] = [None if v is None else v.decode() for v in clear]
            else:
                columns[name] = arrow_column(field["type"], batch, name, valid)
        for name in DERIVED:
            if name in batch.columns:
                columns[name] = pa.array(batch.numbers(name), mask=~sound)
        content = [pair.tobytes() for pair in decoded.content.astype(">i8")]
        columns["content_digest"] = pa.array(content, pa.binary())
        if personal:
            self._personal(personal, sound, columns)

    def _personal(self, personal: dict[str, list[str | None]], sound: Flags, columns: dict[str, pa.Array]) -> None:
        """Fill `personal` and `personal_key`: both null for what cannot be decoded, the first for what is erased."""
        rows = np.flatnonzero(sound).tolist()
        sealed: list[str | None] = [None] * len(sound)
        key_ids: list[str | None] = [None] * len(sound)
        if rows:
            tokens, offsets = columns["customer_token"].to_pylist(), columns["offset"].to_pylist()
            fields = {name: [values[row] for row in rows] for name, values in personal.items()}
            whose: list[str | date] = [tokens[row] for row in rows]
            for at in (at for at, customer in enumerate(fields["customer_id"]) if not customer):
                # An empty customer id names nobody.
                whose[at] = columns["ingested_at"][rows[at]].as_py().date()
            source = columns["topic_id"][0].as_py(), columns["partition"][0].as_py()
            found = self._sealer.sealed(source, [offsets[row] for row in rows], whose, fields)
            for row, record, key_id in zip(rows, *found, strict=True):
                sealed[row], key_ids[row] = record, key_id
        columns["personal"] = pa.array(sealed, pa.string())
        columns["personal_key"] = pa.array(key_ids, pa.string())

    def _narrow(self, decoded: Decoded, unreadable: dict[int, str], columns: dict[str, pa.Array]) -> None:
        batch = decoded.batch
        nothing = np.full(batch.rows, -1, np.int64)

        def codes(name: str) -> Ints:
            return np.where(batch.has(name), short_codes(batch.texts(name)), -1) if name in batch.columns else nothing

        faults = [f"undecodable_{FAULTS[f]}" if f else None for f in decoded.fault.tolist()]
        for row, reason in unreadable.items():
            faults[row] = reason
        columns["fault"] = pa.array(faults, pa.string())
        columns["identity_high"], columns["identity_low"] = (pa.array(decoded.identity[:, i]) for i in (0, 1))
        columns["content_high"], columns["content_low"] = (pa.array(decoded.content[:, i]) for i in (0, 1))
        columns["received_ms"] = pa.array(batch.numbers("received_at"))
        columns["amount"] = pa.array(batch.numbers("amount_minor") if "amount_minor" in batch.columns else nothing)
        columns["currency_code"] = pa.array(codes("currency"))
        columns["category_code"] = pa.array(codes("merchant_category_code"))
        columns["country_code"] = pa.array(codes("merchant_country"))
