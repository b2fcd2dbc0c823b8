"""Rows of silver -> what their tokens are called under the next key version; on a worker, from the sealed record.

Of a row whose record can be opened, the values are named anew. Of one that nobody can open any more (its customer was
erased, or its day is over), a token gets a keyed digest of itself: whoever it stands for stays one and the same.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from lakehouse.contracts.silver import TOKEN_COLUMNS
from lakehouse.crypto import PersonalSeal, Tokens, version_of
from lakehouse.data_keys import DataKeys
from lakehouse.errors import ContractBroken, KeyUnknown
from lakehouse.keys import KeySource
from lakehouse.tables import Table
from silver.personal import key_of

Batches = Iterable[pa.RecordBatch]
Pair = tuple[str, str, str, bool]
"""Kind, token under the version before, token under the new one, whether it is carried."""

PAIRS_DDL = "kind string, old_token string, new_token string, carried boolean"
_PAIRS = pa.schema(
    [("kind", pa.string()), ("old_token", pa.string()), ("new_token", pa.string()), ("carried", pa.bool_())]
)


def columns_of(table: Table) -> list[str]:
    """What is read of a table."""
    tokens = [column for column, _ in TOKEN_COLUMNS.values() if column in table.column_names]
    return ["topic_id", "partition", "offset", "personal", "personal_key", *tokens]


def pairing(keys: KeySource, table: str, version: int) -> Callable[[Batches], Batches]:
    """A function for mapInArrow over rows of a table: their pairs to a key version from the one before, each once."""

    def paired(batches: Batches) -> Batches:
        keyring, data_keys = keys.keyring(), DataKeys(keys)
        pairer = Pairer(table, Tokens(keyring, version - 1), Tokens(keyring, version))
        for batch in batches:
            yield arrow(pairer.pairs(batch.to_pylist(), data_keys))

    return paired


def carrying(keys: KeySource, version: int) -> Callable[[Batches], Batches]:
    """A function for mapInArrow over (kind, new token) of the map to the version before: the same, carried on."""

    def carried(batches: Batches) -> Batches:
        after = Tokens(keys.keyring(), version)
        for batch in batches:
            names = zip(batch.column("kind").to_pylist(), batch.column("new_token").to_pylist(), strict=True)
            yield arrow({(kind, token, after.carried(kind, token), True) for kind, token in names})

    return carried


def arrow(pairs: Iterable[Pair]) -> pa.RecordBatch:
    """Pairs as a batch."""
    columns = [list(column) for column in zip(*pairs, strict=True)] or [[], [], [], []]
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, _PAIRS, strict=True)], schema=_PAIRS
    )


class Pairer:
    """Makes the pairs of rows of one table."""

    def __init__(self, table: str, before: Tokens, after: Tokens) -> None:
        self._table, self._before, self._after = table, before, after

    def pairs(self, rows: list[dict[str, Any]], data_keys: DataKeys) -> set[Pair]:
        """The pairs of some rows; KeyUnknown where the key store lacks a key, ContractBroken for a foreign token."""
        names = [None if row["personal"] is None else key_of(row) for row in rows]
        wanted = list(dict.fromkeys(name for name in names if name is not None))
        held = data_keys.held(wanted) if wanted else {}
        found: set[Pair] = set()
        for row, name in zip(rows, names, strict=True):
            if name is not None and name not in held:
                raise KeyUnknown(
                    f"The key of {self._table} at offset {row['offset']} is not in {data_keys.store.path}.",
                    "Restore that file from its backup; a map without it would tear people apart.",
                )
            key = None if name is None else held[name]
            found.update(self._carried(row) if key is None else self._opened(row, key))
        return found

    def _carried(self, row: Mapping[str, Any]) -> Iterator[Pair]:
        for column, kind in dict(TOKEN_COLUMNS.values()).items():
            token = row.get(column)
            # One of an older version has a name in the map to the version before; that one is carried.
            if token is not None and version_of(token) == self._before.version:
                yield kind, token, self._after.carried(kind, token), True

    def _opened(self, row: Mapping[str, Any], key: bytes) -> Iterator[Pair]:
        position = f"{row['topic_id']}/{row['partition']}/{row['offset']}"
        values = PersonalSeal(key).open(self._table, position, row["personal"])
        for field, (column, kind) in TOKEN_COLUMNS.items():
            value = values.get(field)
            if value is None:
                continue
            clear = [value.encode()]
            (old,), (new,) = self._before.texts(kind, clear), self._after.texts(kind, clear)
            if version_of(row[column]) == self._before.version and row[column] != old:
                raise ContractBroken(
                    f"{self._table} has another {column} at {position} than its record says.",
                    "Is it the keyring of this lake? If so, python -m silver.job --from-position ... does it again.",
                )
            yield kind, old, new, False
