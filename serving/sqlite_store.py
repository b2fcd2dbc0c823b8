"""Decisions in a SQLite file of this machine: one writer, any number of readers.

Rows and progress are one transaction. With `synchronous=NORMAL` a power failure may take the last transactions back, a
killed process never; rows and the note of progress go back together, and are read from the topic again.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from typing import Any, TypeVar, cast

from lakehouse.errors import ContractBroken, StoreUnavailable
from lakehouse.settings import Settings, resolve
from serving.decision_store import SCHEMA_VERSION, Answer, Place, Progress, StoredDecision, row, unrow
from serving.store_sql import Statements

T = TypeVar("T")

WAIT_S = 2.0
"""For the lock of another process that writes to the same file."""
SQL = Statements("?", {str: "TEXT", int: "INTEGER", float: "REAL"}, table_options=" STRICT, WITHOUT ROWID")


class InSqlite:
    """A connection for every thread; SQLite lets many read while one writes."""

    def __init__(self, settings: Settings) -> None:
        self._path = resolve(settings.decision_store.file)
        self._opening = threading.Lock()
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []

    def write(self, decisions: Sequence[StoredDecision], answers: Sequence[Answer], progress: Progress) -> None:
        """Take everything in as one transaction."""

        def work(connection: sqlite3.Connection) -> None:
            with _transaction(connection):
                connection.executemany(SQL.add_decision, [row(one) for one in decisions])
                connection.executemany(SQL.add_answer, [astuple(one) for one in answers])
                connection.execute(SQL.set_progress, astuple(progress))

        self._asked(work)

    def progress(self, topic_id: str, partition: int) -> Progress | None:
        """How far the store is complete."""
        found = self._rows(SQL.progress, (topic_id, partition))
        return Progress(*found[0]) if found else None

    def of_card(self, card_token: str, limit: int, before: Place | None = None) -> list[StoredDecision]:
        """A page of a card."""
        if before is None:
            return self._found(SQL.of_card, (card_token, limit))
        return self._found(SQL.of_card_before, (card_token, *before.values(), limit))

    def by_transaction(self, transaction_id: str) -> StoredDecision | None:
        """The last decision of a transaction that is no conflict."""
        return next(iter(self._found(SQL.by_transaction, (transaction_id,))), None)

    def by_decision(self, decision_id: str) -> StoredDecision | None:
        """The decision of an id."""
        return next(iter(self._found(SQL.by_decision, (decision_id,))), None)

    def close(self) -> None:
        """Close every connection."""
        with self._opening:
            for connection in self._all:
                connection.close()
            self._all, self._local = [], threading.local()

    def _found(self, statement: str, values: Sequence[Any]) -> list[StoredDecision]:
        return [unrow(found[:-1], found[-1]) for found in self._rows(statement, values)]

    def _rows(self, statement: str, values: Sequence[Any]) -> list[Any]:
        return self._asked(lambda connection: connection.execute(statement, values).fetchall())

    def _asked(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._connection())
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(
                f"The SQLite file {self._path} cannot be used ({type(error).__name__}: {error}).",
                "See to disk and permissions; if it is damaged, move it away: the API fills a new one.",
            ) from None

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
        made.execute("PRAGMA synchronous = NORMAL")
        with _transaction(made):
            for statement in SQL.tables():
                made.execute(statement)
        (version,) = made.execute(SQL.version).fetchone()
        if version != SCHEMA_VERSION:
            made.close()
            raise ContractBroken(
                f"{self._path} has tables of version {version}, this release has {SCHEMA_VERSION}.",
                "Move the file away: the API fills a new one from topic `decisions`.",
            )
        return made


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
