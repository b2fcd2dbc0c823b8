"""Connections to the PostgreSQL of the settings, and a schema of tables for each topic prefix."""

from collections.abc import Callable, Sequence
from queue import Empty, LifoQueue
from typing import Any, TypeVar

import psycopg

from lakehouse import pg
from lakehouse.errors import ContractBroken
from lakehouse.settings import Settings

T = TypeVar("T")
Run = Callable[[str, Sequence[Any]], Any]

STATEMENT_TIMEOUT_MS = 10_000
"""For a writer; who reads gives up earlier (`decision_store.read_timeout_ms`)."""
TYPES = {str: 'text COLLATE "C"', int: "bigint", float: "double precision"}
_LOCK = 0x66726C6B
"""Of whoever makes the tables: two at once would make one of them fail. The letters `frlk`."""


class PostgresPool:
    """A pool of connections, opened when there is none free, and thrown away together when one of them fails.

    Tables are made where they are not there. `do` is what helps when they are those of another version.
    """

    def __init__(
        self, settings: Settings, schema: str, tables: Sequence[str], asks_version: str, version: int, do: str
    ) -> None:
        self._settings, self._secret = settings, pg.secret(settings)
        self._schema, self._tables, self._do = schema, tables, do
        self._asks_version, self._version = asks_version, version
        self._free: LifoQueue[psycopg.Connection[Any]] = LifoQueue()
        self._prepared = False

    def asked(self, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        """What `work` gives on a connection. A pooled one may have died with its server: a fresh one is tried once."""
        try:
            try:
                return self._on(work, self._free.get_nowait())
            except Empty:
                pass
            except (psycopg.OperationalError, psycopg.InterfaceError):
                self.close()
            return self._on(work, self._opened())
        except psycopg.Error as error:
            self.close()
            # Made again when it is next asked: somebody may have dropped the tables.
            self._prepared = False
            raise pg.unavailable(self._settings, error) from None

    def together(self, work: Callable[[Run], T]) -> T:
        """What `work` gives as one transaction; it is handed a function that runs a statement, as `SqliteFile` does."""

        def whole(connection: psycopg.Connection[Any]) -> T:
            with connection.transaction():
                return work(lambda statement, values: connection.execute(statement.replace("?", "%s"), values))

        return self.asked(whole)

    def close(self) -> None:
        """Close every connection that nobody uses."""
        while True:
            try:
                self._free.get_nowait().close()
            except Empty:
                return

    def _on(self, work: Callable[[psycopg.Connection[Any]], T], connection: psycopg.Connection[Any]) -> T:
        try:
            done = work(connection)
        except BaseException:
            connection.close()
            raise
        self._free.put(connection)
        return done

    def _opened(self) -> psycopg.Connection[Any]:
        connection = pg.connected(self._settings, self._secret, STATEMENT_TIMEOUT_MS)
        try:
            connection.execute(f"SET search_path TO {self._schema}")
            if not self._prepared:
                self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {self._schema}")
            for statement in self._tables:
                connection.execute(statement)
            found = connection.execute(self._asks_version).fetchone()
        if found != (self._version,):
            raise ContractBroken(
                f"Schema {self._schema} of PostgreSQL has tables of version {found}, this release has {self._version}.",
                self._do,
            )
        self._prepared = True
