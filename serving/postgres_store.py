"""Decisions in PostgreSQL, shared by every replica."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import psycopg

from lakehouse.settings import Settings
from serving.decision_store import SCHEMA_VERSION, Answer, Place, Progress, StoredDecision, namespace, row, unrow
from serving.postgres_pool import TYPES, PostgresPool
from serving.store_sql import Statements


class InPostgres:
    """A pool of connections on the schema of a world."""

    def __init__(self, settings: Settings) -> None:
        schema = namespace(settings)
        self._sql = Statements("%s", TYPES)
        do = "Rename that schema: the API fills a new one from topic `decisions`."
        self._pool = PostgresPool(settings, schema, self._sql.tables(), self._sql.version, SCHEMA_VERSION, do)
        self.close = self._pool.close

    def write(self, decisions: Sequence[StoredDecision], answers: Sequence[Answer], progress: Progress) -> None:
        """Take everything in as one transaction."""

        def work(connection: psycopg.Connection[Any]) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(self._sql.add_decision, [row(one) for one in decisions])
                cursor.executemany(self._sql.add_answer, [astuple(one) for one in answers])
                cursor.execute(self._sql.set_progress, astuple(progress))

        self._pool.asked(work)

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

    def _found(self, statement: str, values: Sequence[Any]) -> list[StoredDecision]:
        return [unrow(found) for found in self._rows(statement, values)]

    def _rows(self, statement: str, values: Sequence[Any]) -> list[Any]:
        return self._pool.asked(lambda connection: connection.execute(statement, values).fetchall())
