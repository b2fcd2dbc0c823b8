"""The one Redis of the settings: its client, and what to say when it does not answer."""

from typing import Any

from redis import AuthenticationError, Redis, RedisError
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from lakehouse.errors import StoreUnavailable
from lakehouse.passwords import password
from lakehouse.settings import Settings

TIMEOUT_S = 1.0
"""For a connection and for an answer: whoever asks has something better to do than to wait for a cache."""


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "host": settings.redis.host,
        "port": settings.redis.port,
        "password": password(settings.redis.password_file, "redis"),
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
    }


def client(settings: Settings) -> Redis:
    """A client that all threads may share; it connects when it is first asked."""
    # A connection that the server has closed meanwhile is opened again; a server that is away is not waited for.
    return Redis(**_options(settings), retry=Retry(NoBackoff(), 1))


def waiting_client(settings: Settings) -> AsyncRedis:
    """A client for the event loop; it connects when it is first asked, and asks once."""
    return AsyncRedis(**_options(settings), retry=AsyncRetry(NoBackoff(), 0))


def unavailable(settings: Settings, error: RedisError) -> StoreUnavailable:
    """The error of a Redis that does not answer, or does not let us in."""
    address = f"{settings.redis.host}:{settings.redis.port}"
    if isinstance(error, AuthenticationError):
        return StoreUnavailable(f"Redis at {address} refuses the password.", "Give it the one of redis.password_file.")
    return StoreUnavailable(
        f"Redis at {address} does not answer ({type(error).__name__}).",
        "`make up WITH=redis` starts the local one, `make status` shows it.",
    )
