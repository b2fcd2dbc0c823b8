"""The store of decisions that the settings choose; a driver is loaded only where it is used."""

from lakehouse.settings import Settings
from serving.decision_store import DecisionStore


def opened(settings: Settings) -> DecisionStore:
    """The store that the settings choose; KeysMissing where its password is not there."""
    kind = settings.decision_store.kind
    if kind == "sqlite":
        from serving.sqlite_store import InSqlite

        return InSqlite(settings)
    if kind == "postgres":
        from serving.postgres_store import InPostgres

        return InPostgres(settings)
    from serving.cassandra_store import InCassandra

    return InCassandra(settings)
