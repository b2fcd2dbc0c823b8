"""The one PostgreSQL of the settings: its connections, and what to say when it does not answer."""

from typing import Any

import psycopg

from lakehouse.errors import StoreUnavailable
from lakehouse.passwords import password
from lakehouse.settings import Settings

CONNECT_TIMEOUT_S = 2
"""The shortest that libpq keeps."""


def secret(settings: Settings) -> str:
    """The password; KeysMissing when there is none or others can read it."""
    return password(settings.postgres.password_file, "postgres")


def connected(settings: Settings, secret: str, statement_timeout_ms: int) -> psycopg.Connection[Any]:
    """A connection on which every statement is a transaction of its own, unless one is begun."""
    at = settings.postgres
    return psycopg.connect(
        host=at.host,
        port=at.port,
        dbname=at.database,
        user=at.user,
        password=secret,
        sslmode="disable",
        connect_timeout=CONNECT_TIMEOUT_S,
        autocommit=True,
        options=f"-c statement_timeout={statement_timeout_ms}",
    )


def unavailable(settings: Settings, error: psycopg.Error) -> StoreUnavailable:
    """The error of a PostgreSQL that does not answer, does not let us in, or does not do as it is told."""
    address = f"PostgreSQL at {settings.postgres.host}:{settings.postgres.port}"
    if "password authentication failed" in str(error):
        return StoreUnavailable(f"{address} refuses the password.", "Give it the one of postgres.password_file.")
    # The class alone: the text of some errors holds values of rows.
    return StoreUnavailable(
        f"{address} does not answer ({type(error).__name__}).",
        "`make up WITH=postgres` starts the local one, `make status` shows it.",
    )
