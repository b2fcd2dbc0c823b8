"""The one Redis of the settings: its client, its password, and what to say when it does not answer."""

import secrets
import stat
from pathlib import Path

from redis import AuthenticationError, Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from lakehouse.errors import KeysMissing, StoreUnavailable
from lakehouse.keys import write_private
from lakehouse.settings import Settings, resolve

TIMEOUT_S = 1.0
"""For a connection and for an answer: whoever asks has something better to do than to wait for a cache."""


def password(settings: Settings) -> str:
    """The password; KeysMissing when there is none or others can read it."""
    path = resolve(settings.redis.password_file)
    if not path.exists():
        raise KeysMissing(f"There is no {path}.", "`make up WITH=redis` makes one for the local Redis.")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeysMissing(f"{path} can be read by others.", f"chmod 600 {path}")
    return path.read_text().strip()


def make_password(path: Path) -> None:
    """A password file of 256 random bits, where there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, secrets.token_urlsafe(32).encode())


def client(settings: Settings) -> Redis:
    """A client that all threads may share; it connects when it is first asked."""
    return Redis(
        host=settings.redis.host,
        port=settings.redis.port,
        password=password(settings),
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        # A connection that the server has closed meanwhile is opened again; a server that is away is not waited for.
        retry=Retry(NoBackoff(), 1),
    )


def unavailable(settings: Settings, error: RedisError) -> StoreUnavailable:
    """The error of a Redis that does not answer, or does not let us in."""
    address = f"{settings.redis.host}:{settings.redis.port}"
    if isinstance(error, AuthenticationError):
        return StoreUnavailable(f"Redis at {address} refuses the password.", "Give it the one of redis.password_file.")
    return StoreUnavailable(
        f"Redis at {address} does not answer ({type(error).__name__}).",
        "`make up WITH=redis` starts the local one, `make status` shows it.",
    )
