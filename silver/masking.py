"""Sealed bronze rows -> typed, masked rows, kept beside until they are judged, and what admission looks at.

Records are opened, decoded, digested and masked in one pass on the workers, so no clear value is ever shuffled,
persisted or visible to the JVM. Keys are read on the worker from the key source, never shipped to it.
"""

from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from expectations.decoded import DERIVED, Decoded, broken_rules, decode
from expectations.reference import short_codes
from lakehouse.contracts.silver import BY_KIND, TOKEN_COLUMNS
from lakehouse.crypto import Digests, up_to
from lakehouse.data_keys import DataKeys
from lakehouse.envelope import open_values
from lakehouse.keys import KeySource
from lakehouse.registry import Schema, registry
from lakehouse.tables import Table
from lakehouse.texts import Flags, Ints, Texts
from lakehouse.topics import EVENT_KINDS
from silver import erasing
from silver.keeping import NARROWED, Keeper
from silver.personal import Erased, Sealer
from silver.typed import arrow_column, defaults

Batches = Iterable[pa.RecordBatch]

BY_ADMISSION = (
    *("engine_clock", "amount_base_minor", "reference_version", "category_risk", "country_risk", "effective_at"),
)
"""Columns of silver that only the ordered pass of admission can fill."""

NARROW = pa.schema(
    {
        "offset": pa.int64(),
        "kind": pa.int64(),
        "broken": pa.string(),
        **dict.fromkeys(("identity_high", "identity_low", "content_high", "content_low"), pa.int64()),
        **dict.fromkeys(("received_ms", "amount", "currency_code", "category_code", "country_code"), pa.int64()),
        "available_ms": pa.int64(),
    }
)
"""What admission looks at: `kind` is the index into EVENT_KINDS, `broken` names what is wrong with a record."""
READ = (
    *("topic_id", "partition", "offset", "broker_time", "schema_id"),
    *("payload_digest", "sealed", "sealing_key", "ingested_at"),
)
"""The columns of bronze that the pass looks at."""


def masked_columns(table: Table) -> list[str]:
    """The columns of a table that the pass fills."""
    return [name for name in table.column_names if name not in BY_ADMISSION]


def _unpurged(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows that still have something sealed; nothing is copied where all have."""
    held = pc.greater(pc.binary_length(batch.column("sealed")), 0)
    return batch if pc.all(held).as_py() else batch.filter(held)


def masking(keys: KeySource, erased: Erased, version: int, folder: str) -> Callable[[Batches], Batches]:
    """A function for mapInArrow over bronze rows of one partition: tells of the files that it keeps in `folder`.

    Tokens are of key version `version`. A file a kind of its masked rows, and one of kind `narrow` of what admission
    looks at. Purged records are left out: what silver has of them is carried over (`carrying.py`).
    """

    def masked(batches: Batches) -> Batches:
        kinds = {schema.id: schema for schema in registry().schemas if schema.kind in EVENT_KINDS}
        maskers: dict[int, Masker] = {}
        with Keeper(Path(folder)) as kept:
            for batch in map(_unpurged, batches):
                for schema_id in kinds.keys() & set(pc.unique(batch.column("schema_id")).to_pylist()):
                    if schema_id not in maskers:
                        maskers[schema_id] = Masker(keys, kinds[schema_id], erased, version)
                    rows, looked_at = maskers[schema_id].masked(batch.filter(pc.field("schema_id") == schema_id))
                    kept.put(kinds[schema_id].kind, rows)
                    kept.put(NARROWED, looked_at)
        yield kept.told()

    return masked


class Masker:
    """Opens, decodes and masks batches of one schema, with tokens of one key version."""

    def __init__(self, keys: KeySource, schema: Schema, erased: Erased, version: int) -> None:
        keyring = keys.keyring()
        self._keys = DataKeys(keys)
        self._schema = schema
        self._table = BY_KIND[schema.kind]
        self._digests = Digests(keyring)
        *self._former, self._tokens = up_to(keyring, version)
        self._sealer = Sealer(self._keys, self._table.name, erased)

    def masked(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """The masked rows, with the columns of `masked_columns`, and what admission looks at, as `NARROW`."""
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
        names = masked_columns(self._table)
        kept = pa.RecordBatch.from_arrays([columns[name] for name in names], names=names)
        return kept, self._narrow(decoded, unreadable, rows.column("offset"))

    def _typed(self, decoded: Decoded, sound: Flags, columns: dict[str, pa.Array]) -> None:
        batch = decoded.batch
        personal: dict[str, list[str | None]] = {}
        for field in self._schema.parsed["fields"]:
            name = field["name"]
            valid = batch.has(name) & sound
            if name in TOKEN_COLUMNS:
                column, kind = TOKEN_COLUMNS[name]
                clear = batch.texts(name).to_arrow(valid)
                coded = clear.cast(pa.binary()).dictionary_encode()
                digests = self._tokens.each(kind, coded.dictionary.to_pylist())
                columns[column] = self._tokens.encoded(digests).to_arrow().take(coded.indices)
                personal[name] = clear.to_pylist()
            else:
                columns[name] = arrow_column(field["type"], batch, name, valid)
        for field in registry().latest(self._schema.kind).parsed["fields"]:
            if field["name"] not in batch.columns:
                columns[field["name"]] = defaults(field, batch.rows)
        for name in DERIVED:
            if name in batch.columns:
                columns[name] = pa.array(batch.numbers(name), mask=~sound)
        if self._schema.kind == erasing.KIND:
            customers = batch.texts("customer_id").to_list()
            former = zip(erasing.former_of(self._former, customers), sound.tolist(), strict=True)
            columns["former_tokens"] = pa.array([n if ok else None for n, ok in former], pa.list_(pa.string()))
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
            if len(rows) < len(sound):
                personal = {name: [values[row] for row in rows] for name, values in personal.items()}
                tokens, offsets = ([values[row] for row in rows] for values in (tokens, offsets))
            whose: list[str | date] = tokens
            for at in (at for at, customer in enumerate(personal["customer_id"]) if not customer):
                # An empty customer id names nobody.
                whose[at] = columns["ingested_at"][rows[at]].as_py().date()
            source = columns["topic_id"][0].as_py(), columns["partition"][0].as_py()
            found = self._sealer.sealed(source, offsets, whose, personal)
            for row, record, key_id in zip(rows, *found, strict=True):
                sealed[row], key_ids[row] = record, key_id
        columns["personal"] = pa.array(sealed, pa.string())
        columns["personal_key"] = pa.array(key_ids, pa.string())

    def _narrow(self, decoded: Decoded, unreadable: dict[int, str], offset: pa.Array) -> pa.RecordBatch:
        batch = decoded.batch
        nothing = np.full(batch.rows, -1, np.int64)

        def codes(name: str) -> Ints:
            return np.where(batch.has(name), short_codes(batch.texts(name)), -1) if name in batch.columns else nothing

        def numbers(name: str, otherwise: Ints) -> Ints:
            return batch.numbers(name) if name in batch.columns else otherwise

        broken: list[str | None] = [names or None for names in broken_rules(decoded)]
        for row, reason in unreadable.items():
            broken[row] = reason
        columns = {
            "offset": offset,
            "kind": np.full(batch.rows, EVENT_KINDS.index(decoded.kind)),
            "broken": broken,
            "identity_high": decoded.identity[:, 0],
            "identity_low": decoded.identity[:, 1],
            "content_high": decoded.content[:, 0],
            "content_low": decoded.content[:, 1],
            "received_ms": batch.numbers("received_at"),
            "amount": numbers("amount_minor", nothing),
            "currency_code": codes("currency"),
            "category_code": codes("merchant_category_code"),
            "country_code": codes("merchant_country"),
            "available_ms": numbers("label_available_at", np.zeros(batch.rows, np.int64)),
        }
        return pa.RecordBatch.from_pydict(columns, NARROW)
