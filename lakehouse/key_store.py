"""Where wrapped data keys lie: one SQLite file that only its owner can read, in which a destroyed key leaves no byte.

A row is one key: kind, id, generation, the wrapped bytes, the master version that wraps them, when it was made and when
it was destroyed. A destroyed key keeps its row without bytes, so that nobody makes it again. Any number of processes of
one machine may read and write; every call is a transaction of its own. It is no Delta table: old versions of one would
keep what was destroyed.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import orjson

from lakehouse.errors import KeysMissing
from lakehouse.private import refuse_shared

FILE = "data_keys.sqlite"
PATIENCE_S = 60.0
"""How long a call waits for those of other processes; each takes milliseconds."""

Kind = Literal["day", "subject"]

_TABLE = """
CREATE TABLE IF NOT EXISTS data_keys (
    kind TEXT NOT NULL, id TEXT NOT NULL, generation INTEGER NOT NULL,
    wrapped BLOB, master_version INTEGER NOT NULL, made_at INTEGER NOT NULL, destroyed_at INTEGER,
    UNIQUE (kind, id, generation), CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
)"""
# Rows lie in the order in which they were made, so SQLite never moves one to make room for another and leaves a copy.
_SELECT = "SELECT kind, id, generation, wrapped, master_version, made_at, destroyed_at FROM data_keys "


class KeyName(NamedTuple):
    """Which key: of a day or of a subject, and its generation."""

    kind: Kind
    id: str
    generation: int


class Wrapped(NamedTuple):
    """A key as it is stored; `wrapped` is None once it is destroyed. Times are milliseconds since 1970."""

    name: KeyName
    wrapped: bytes | None
    master_version: int
    made_at: int
    destroyed_at: int | None = None


class KeyStore:
    """The keys of a folder; the file is made with its first key."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def exists(self) -> bool:
        """Whether there is a file of keys."""
        return self.path.exists()

    def find(self, names: Sequence[KeyName]) -> dict[KeyName, Wrapped]:
        """Those that there are, destroyed ones included."""
        with self._opened() as database:
            return _found(database, names)

    def generations(self, kind: Kind, id_: str) -> list[Wrapped]:
        """Every generation of a key, the first one first."""
        with self._opened() as database:
            rows = database.execute(_SELECT + "WHERE kind = ? AND id = ? ORDER BY generation", (kind, id_))
            return [_row(row) for row in rows]

    def all(self, kind: Kind) -> list[Wrapped]:
        """Every key of a kind."""
        with self._opened() as database:
            return [_row(row) for row in database.execute(_SELECT + "WHERE kind = ? ORDER BY id, generation", (kind,))]

    def put(self, keys: Sequence[Wrapped]) -> dict[KeyName, Wrapped]:
        """Add those that are not there, in one transaction; what is there afterwards, by whoever it was made."""
        with self._writing() as database:
            database.executemany(
                "INSERT OR IGNORE INTO data_keys VALUES (?, ?, ?, ?, ?, ?, ?)", [_values(key) for key in keys]
            )
            return _found(database, [key.name for key in keys])

    def destroy(self, names: Sequence[KeyName], now_ms: int) -> list[KeyName]:
        """Take the bytes of keys away for ever; those that had some. A key that never was can then never be made.

        The file is searched for copies of them before and afterwards, and written anew where one lay in a page's unused
        part. KeysMissing before anything is destroyed where a copy stays: given again, the order looks again.
        """
        self._leave_one(names)
        with self._writing() as database:
            living = [key for key in _found(database, names).values() if key.wrapped is not None]
            places = [(key.name.kind, key.name.id, key.name.generation) for key in living]
            # First over the bytes where they lie, then out of the row.
            database.executemany(
                "UPDATE data_keys SET wrapped = zeroblob(length(wrapped)) WHERE kind = ? AND id = ? AND generation = ?",
                places,
            )
            database.executemany(
                "UPDATE data_keys SET wrapped = NULL, destroyed_at = ? WHERE kind = ? AND id = ? AND generation = ?",
                [(now_ms, *place) for place in places],
            )
            database.executemany(
                "INSERT OR IGNORE INTO data_keys VALUES (?, ?, ?, NULL, 0, ?, ?)",
                [(name.kind, name.id, name.generation, now_ms, now_ms) for name in names],
            )
        self._leave_nothing([key.wrapped for key in living if key.wrapped is not None])
        return [key.name for key in living]

    def wrapped_by_others(self, master_version: int, at_most: int) -> list[Wrapped]:
        """Some of the living keys that another master version wraps."""
        with self._opened() as database:
            rows = database.execute(
                _SELECT + "WHERE wrapped IS NOT NULL AND master_version <> ? LIMIT ?", (master_version, at_most)
            )
            return [_row(row) for row in rows]

    def replace(self, before: Sequence[Wrapped], after: Sequence[Wrapped]) -> int:
        """Put keys in other wrappings, in one transaction; how many. One destroyed meanwhile stays destroyed."""
        with self._writing() as database:
            changed = database.executemany(
                "UPDATE data_keys SET wrapped = ?, master_version = ? "
                "WHERE kind = ? AND id = ? AND generation = ? AND wrapped = ?",
                [
                    (new.wrapped, new.master_version, old.name.kind, old.name.id, old.name.generation, old.wrapped)
                    for old, new in zip(before, after, strict=True)
                ],
            )
            return changed.rowcount

    def _leave_one(self, names: Sequence[KeyName]) -> None:
        """See to it that bytes of living keys lie in the file once: of destroyed ones nobody knows what to look for."""
        if not self.exists():
            return
        living = [key.wrapped for key in self.find(names).values() if key.wrapped is not None]
        if self._holds_any(living, more_than=1):
            self._written_anew()
        if self._holds_any(living, more_than=1):
            raise KeysMissing(
                f"{self.path} holds copies of a key that is to be destroyed; nothing was destroyed.",
                "Another process may keep the file open, or wrote to it: end it, then give the order again.",
            )

    def _leave_nothing(self, destroyed: Sequence[bytes]) -> None:
        if self._holds_any(destroyed):
            self._written_anew()
        if self._holds_any(destroyed):
            raise KeysMissing(
                f"{self.path} still holds bytes of a key that was to be destroyed.",
                "Another process may keep the file open: end it, then have the file written anew: "
                f"python -c \"import sqlite3; sqlite3.connect('{self.path}').execute('VACUUM')\"",
            )

    def _written_anew(self) -> None:
        with self._opened() as database:
            database.execute("VACUUM")

    def _holds_any(self, wanted: Sequence[bytes], more_than: int = 0) -> bool:
        if not wanted:
            return False
        held = self.path.read_bytes()
        return any(held.count(one) > more_than for one in wanted)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self._refuse_readable_by_others()
        database = sqlite3.connect(self.path, timeout=PATIENCE_S, isolation_level=None)
        try:
            # The journal goes with the end of a transaction, as a log of changes would not; on disk in every case, as
            # a key that comes back, or one that is lost after something was sealed with it, cannot be made good.
            database.execute("PRAGMA journal_mode = DELETE").close()
            database.execute("PRAGMA secure_delete = ON").close()
            database.execute("PRAGMA synchronous = EXTRA").close()
            database.execute(_TABLE).close()
            yield database
        except sqlite3.DatabaseError as error:
            raise KeysMissing(
                f"The data keys in {self.path} cannot be used: {error}.",
                "Look at disk and rights; restore the file from its backup.",
            ) from None
        finally:
            database.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if not self.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        with self._opened() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    def _refuse_readable_by_others(self) -> None:
        refuse_shared(self.path, "bronze.job makes it with its first key; restore a lost one from its backup.")


def _found(database: sqlite3.Connection, names: Sequence[KeyName]) -> dict[KeyName, Wrapped]:
    wanted = set(names)
    found = {}
    for kind in sorted({name.kind for name in wanted}):
        ids = orjson.dumps(list({name.id for name in wanted if name.kind == kind})).decode()
        rows = database.execute(_SELECT + "WHERE kind = ? AND id IN (SELECT value FROM json_each(?))", (kind, ids))  # noqa: S608
        for row in rows:
            if row[:3] in wanted:
                key = _row(row)
                found[key.name] = key
    return found


def _row(row: tuple[Kind, str, int, bytes | None, int, int, int | None]) -> Wrapped:
    kind, id_, generation, wrapped, master_version, made_at, destroyed_at = row
    return Wrapped(KeyName(kind, id_, generation), wrapped, master_version, made_at, destroyed_at)


def _values(key: Wrapped) -> tuple[str, str, int, bytes | None, int, int, int | None]:
    name = key.name
    return name.kind, name.id, name.generation, key.wrapped, key.master_version, key.made_at, key.destroyed_at
