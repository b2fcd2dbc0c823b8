"""Where the outbox lies: in PostgreSQL where decisions are stored there, else in a SQLite file of this machine."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from lakehouse.settings import Settings, resolve
from serving.alerts.tables import ASKS_VERSION, VERSION, tables
from serving.decision_store import namespace

T = TypeVar("T")
Run = Callable[[str, Sequence[Any]], Any]
"""Runs a statement with its values; gives a cursor."""


class Database(Protocol):
    """Transactions, from any thread; StoreUnavailable while it is away."""

    def together(self, work: Callable[[Run], T]) -> T:
        """What some work gives, all of it durable or none of it done."""

    def close(self) -> None:
        """Let go of connections."""


def opened(settings: Settings) -> Database:
    """The database of the settings; a driver is loaded only where it is used."""
    do = "alerts of the last `alerts.max_age_s` are then sent again, with the same ids."
    if settings.decision_store.kind == "postgres":
        from serving.postgres_pool import TYPES, PostgresPool

        again = f"Rename that schema: {do}"
        return PostgresPool(settings, namespace(settings), tables(TYPES), ASKS_VERSION, VERSION, again)
    from serving.sqlite_file import STRICT, TYPES, SqliteFile

    # An answer of a customer that was taken is never taken back, not by a power failure either.
    path = resolve(settings.alerts.file)
    return SqliteFile(path, tables(TYPES, STRICT), ASKS_VERSION, VERSION, do, durable=True)
