"""A SQLite file of this machine: one writer, any number of readers, a connection for every thread."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from lakehouse.errors import ContractBroken, StoreUnavailable

T = TypeVar("T")

Run = Callable[[str, Sequence[Any]], Any]

TYPES = {str: "TEXT", int: "INTEGER", float: "REAL"}
STRICT = " STRICT, WITHOUT ROWID"
WAIT_S = 2.0
"""For the lock of another process that writes to the same file."""


class SqliteFile:
    """The file of a store, whose tables are made where they are not there.

    Without `durable` a power failure may take the last transactions back, a killed process never. `do` is what helps
    when the file cannot be used.
    """

    def __init__(
        self, path: Path, tables: Sequence[str], asks_version: str, version: int, do: str, durable: bool = False
    ) -> None:
        self._path, self._tables, self._do = path, tables, do
        self._asks_version, self._version = asks_version, version
        self._synchronous = "FULL" if durable else "NORMAL"
        self._opening = threading.Lock()
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []

    def asked(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` gives on the thread's connection; StoreUnavailable when the file cannot be used."""
        try:
            return work(self._connection())
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(
                f"The SQLite file {self._path} cannot be used ({type(error).__name__}: {error}).",
                f"See to disk and permissions; if it is damaged, move it away: {self._do}",
            ) from None

    def together(self, work: Callable[[Run], T]) -> T:
        """What `work` gives as one transaction; it is handed a function that runs a statement with its values."""

        def whole(connection: sqlite3.Connection) -> T:
            with transaction(connection):
                return work(connection.execute)

        return self.asked(whole)

    def close(self) -> None:
        """Close every connection."""
        with self._opening:
            for connection in self._all:
                connection.close()
            self._all, self._local = [], threading.local()

    def _connection(self) -> sqlite3.Connection:
        """The thread's own; an error once where another file has taken the place of the one that it was opened for."""
        file, held = getattr(self._local, "held", (0, None))
        now = self._path.stat().st_ino if self._path.exists() else 0
        if held is not None and file == now:
            return cast(sqlite3.Connection, held)
        self._local.held = 0, None
        with self._opening:
            if held is not None:
                # What it wrote and knew is gone with the old file: whoever writes has to ask the new one.
                held.close()
                self._all.remove(held)
                raise sqlite3.OperationalError("the file was replaced")
            made = self._made()
            self._all.append(made)
        self._local.held = self._path.stat().st_ino, made
        return made

    def _made(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
        # Transactions are begun by hand. Another thread only ever closes it.
        made = sqlite3.connect(self._path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        made.execute("PRAGMA journal_mode = WAL")
        made.execute(f"PRAGMA synchronous = {self._synchronous}")
        with transaction(made):
            for statement in self._tables:
                made.execute(statement)
        (version,) = made.execute(self._asks_version).fetchone()
        if version != self._version:
            made.close()
            raise ContractBroken(
                f"{self._path} has tables of version {version}, this release has {self._version}.",
                f"Move the file away: {self._do}",
            )
        return made


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, and nobody else writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
