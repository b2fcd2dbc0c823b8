"""Decisions in a SQLite file of this machine: one writer, any number of readers.

Rows and progress are one transaction. With `synchronous=NORMAL` a power failure may take the last transactions back, a
killed process never; rows and the note of progress go back together, and are read from the topic again.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from lakehouse.settings import Settings, resolve
from serving.decision_store import SCHEMA_VERSION, Answer, Place, Progress, StoredDecision, row, unrow
from serving.sqlite_file import STRICT, TYPES, SqliteFile, transaction
from serving.store_sql import Statements

SQL = Statements("?", TYPES, STRICT)


class InSqlite:
    """A connection for every thread; SQLite lets many read while one writes."""

    def __init__(self, settings: Settings) -> None:
        path = resolve(settings.decision_store.file)
        do = "the API fills a new one from topic `decisions`."
        self._file = SqliteFile(path, SQL.tables(), SQL.version, SCHEMA_VERSION, do)
        self.close = self._file.close

    def write(self, decisions: Sequence[StoredDecision], answers: Sequence[Answer], progress: Progress) -> None:
        """Take everything in as one transaction."""

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.executemany(SQL.add_decision, [row(one) for one in decisions])
                connection.executemany(SQL.add_answer, [astuple(one) for one in answers])
                connection.execute(SQL.set_progress, astuple(progress))

        self._file.asked(work)

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

    def _found(self, statement: str, values: Sequence[Any]) -> list[StoredDecision]:
        return [unrow(found) for found in self._rows(statement, values)]

    def _rows(self, statement: str, values: Sequence[Any]) -> list[Any]:
        return self._file.asked(lambda connection: connection.execute(statement, values).fetchall())
