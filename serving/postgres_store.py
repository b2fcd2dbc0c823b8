"""Decisions in PostgreSQL, shared by every replica: a schema of tables for each topic prefix."""

from collections.abc import Callable, Sequence
from dataclasses import astuple
from queue import Empty, LifoQueue
from typing import Any, TypeVar

import psycopg

from lakehouse import pg
from lakehouse.errors import ContractBroken
from lakehouse.settings import Settings
from serving.decision_store import SCHEMA_VERSION, Answer, Place, Progress, StoredDecision, namespace, row, unrow
from serving.store_sql import Statements

T = TypeVar("T")

STATEMENT_TIMEOUT_MS = 10_000
"""For the writer; who reads gives up earlier (`decision_store.read_timeout_ms`)."""
TYPES = {str: 'text COLLATE "C"', int: "bigint", float: "double precision"}
_LOCK = 0x66726C6B
"""Of whoever makes the tables: two at once would make one of them fail. The letters `frlk`."""


class InPostgres:
    """A pool of connections, opened when there is none free, and thrown away together when one of them fails."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._secret = settings, pg.secret(settings)
        self._schema = namespace(settings)
        self._sql = Statements("%s", TYPES, f"{self._schema}.")
        self._free: LifoQueue[psycopg.Connection[Any]] = LifoQueue()
        self._prepared = False

    def write(self, decisions: Sequence[StoredDecision], answers: Sequence[Answer], progress: Progress) -> None:
        """Take everything in as one transaction."""

        def work(connection: psycopg.Connection[Any]) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(self._sql.add_decision, [row(one) for one in decisions])
                cursor.executemany(self._sql.add_answer, [astuple(one) for one in answers])
                cursor.execute(self._sql.set_progress, astuple(progress))

        self._asked(work)

    def progress(self, topic_id: str, partition: int) -> Progress | None:
        """How far the store is complete."""
        found = self._rows(self._sql.progress, (topic_id, partition))
        return Progress(*found[0]) if found else None

    def of_card(self, card_token: str, limit: int, before: Place | None = None) -> list[StoredDecision]:
        """A page of a card."""
        if before is None:
            return self._found(self._sql.of_card, (card_token, limit))
        return self._found(self._sql.of_card_before, (card_token, *before.values(), limit))

    def by_transaction(self, transaction_id: str) -> StoredDecision | None:
        """The last decision of a transaction that is no conflict."""
        return next(iter(self._found(self._sql.by_transaction, (transaction_id,))), None)

    def by_decision(self, decision_id: str) -> StoredDecision | None:
        """The decision of an id."""
        return next(iter(self._found(self._sql.by_decision, (decision_id,))), None)

    def close(self) -> None:
        """Close every connection that nobody uses."""
        while True:
            try:
                self._free.get_nowait().close()
            except Empty:
                return

    def _found(self, statement: str, values: Sequence[Any]) -> list[StoredDecision]:
        return [unrow(found[:-1], found[-1]) for found in self._rows(statement, values)]

    def _rows(self, statement: str, values: Sequence[Any]) -> list[Any]:
        return self._asked(lambda connection: connection.execute(statement, values).fetchall())

    def _asked(self, work: Callable[[psycopg.Connection[Any]], T]) -> T:
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
            for statement in self._sql.tables():
                connection.execute(statement)
            found = connection.execute(self._sql.version).fetchone()
        if found != (SCHEMA_VERSION,):
            raise ContractBroken(
                f"Schema {self._schema} of PostgreSQL has tables of version {found}, "
                f"this release has {SCHEMA_VERSION}.",
                "Rename that schema: the API fills a new one from topic `decisions`.",
            )
        self._prepared = True
