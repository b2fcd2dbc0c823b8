"""The one PostgreSQL of the settings: its connections, and what to say when it does not answer."""

from typing import Any

import psycopg

from lakehouse.errors import StoreUnavailable
from lakehouse.passwords import password
from lakehouse.settings import Settings

CONNECT_TIMEOUT_S = 2
"""The shortest that libpq keeps."""
KEEPALIVES_IDLE_S, KEEPALIVES_INTERVAL_S, KEEPALIVES_COUNT = 5, 2, 3
"""A server that went without a word, or its network, is known to be gone after 11 s, not after the system's hours."""
TCP_USER_TIMEOUT_MS = 1000 * (KEEPALIVES_IDLE_S + KEEPALIVES_INTERVAL_S * KEEPALIVES_COUNT)
"""The same for what was sent and is not acknowledged; else it takes the system a quarter of an hour."""


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
        keepalives=1,
        keepalives_idle=KEEPALIVES_IDLE_S,
        keepalives_interval=KEEPALIVES_INTERVAL_S,
        keepalives_count=KEEPALIVES_COUNT,
        tcp_user_timeout=TCP_USER_TIMEOUT_MS,
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
