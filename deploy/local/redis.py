"""Debian's redis-server as a cache: on loopback, behind a password, with nothing kept on disk."""

import hashlib
from pathlib import Path

from redis import RedisError

from deploy.local.process import Service, require_free
from deploy.local.programs import program
from lakehouse import cache
from lakehouse.errors import FraudlakeError, SettingsError
from lakehouse.keys import write_private
from lakehouse.passwords import make_password, password
from lakehouse.settings import Settings

NAME = "redis"
PROGRAM = "redis-server"
HOST = "127.0.0.1"


def _configuration(settings: Settings, folder: Path) -> str:
    """The server's settings; it is told a digest of the password, never the password."""
    digest = hashlib.sha256(password(settings.redis.password_file, NAME).encode()).hexdigest()
    values = {
        "bind": HOST,
        "port": str(settings.redis.port),
        "protected-mode": "yes",
        # Keys of ours, and no command that reads, changes or ends the server, or blocks it for long.
        "user": f"default on resetpass #{digest} resetkeys ~fraudlake:* resetchannels +@all -@admin -@dangerous",
        "databases": "1",
        "maxmemory": f"{settings.services.redis_memory_mb}mb",
        # A write that finds no room fails and is known to be missing; a profile that was pushed out would not be.
        "maxmemory-policy": "noeviction",
        "save": '""',
        "appendonly": "no",
        "daemonize": "no",
        "dir": str(folder),
        "always-show-logo": "no",
    }
    return "".join(f"{name} {value}\n" for name, value in values.items())


def answers(settings: Settings) -> bool:
    """Whether the server that the settings name lets us in and answers."""
    try:
        with cache.client(settings) as client:
            return bool(client.ping())
    except (RedisError, FraudlakeError):
        return False


def installed() -> None:
    """The program is there, if need be after an installation; FraudlakeError when it cannot be."""
    program(PROGRAM, PROGRAM, "profiles.store `in_process` needs none")


def start(settings: Settings, folder: Path) -> bool:
    """Start the server unless it runs, without waiting for it; whether it was started."""
    if settings.redis.host != HOST:
        raise SettingsError(
            f"redis.host is {settings.redis.host}: a Redis of this machine would not be used.",
            f"Set it to {HOST} (`make config` says where it is set), or do without WITH=redis.",
        )
    service = Service(NAME, folder)
    if service.pid() is not None and answers(settings):
        return False
    service.stop()
    installed()
    require_free(settings.redis.port, "redis.port")
    make_password(settings.redis.password_file)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "redis.conf"
    write_private(config, _configuration(settings, folder).encode())
    service.start([PROGRAM, str(config)], {}, folder)
    return True
