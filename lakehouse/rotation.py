"""Rotation of what wraps data keys, while jobs run: a new master key, then every data key wrapped again.

Nobody who reads waits for it or fails: old and new wrapping open the same data key, and whoever meets a master version
that is new reads the keyring again. Tokens and digests stay of the versions they are of.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakehouse import keys, trail
from lakehouse.data_keys import DataKeys
from lakehouse.errors import KeysMissing
from lakehouse.runs import recorded
from lakehouse.settings import Settings, resolve


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else adds a master key meanwhile; one that is lost takes with it what it wraps."""
    if not folder.exists():
        raise KeysMissing(f"There is no {folder}.", "`make keys` creates local keys.")
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def rotated(settings: Settings) -> str:
    """Add a master key to the keyring and enter it into the audit trail; a line for people."""
    if settings.keys.provider != "file":
        raise KeysMissing(
            "The master keys are in the environment; nothing here can add one.",
            f"Set {keys.VARIABLE}<n+1> to 32 random bytes in base64, with {keys.VARIABLE}<n+1>{keys.MADE_AT}, restart "
            "every process, then: python -m lakehouse.keys rewrap",
        )
    folder = resolve(settings.keys.folder)
    with _alone(folder):
        version = keys.from_file(folder).current + 1
        trail.record(settings, "key.rotated", keys.KEYRING, {"version": version})
        assert keys.added(folder) == version
    return f"master key version {version} wraps new data keys; all others: python -m lakehouse.keys rewrap"


def rewrapped(settings: Settings) -> str:
    """Wrap every data key with the newest master key, in small transactions, on record; a line for people."""
    source = keys.source(settings)
    version = source.keyring().current
    data_keys = DataKeys(source)
    with recorded(settings, "lakehouse.keys", "rewrap", version=version):
        done = data_keys.rewrap() if data_keys.store.exists() else 0
        trail.record(settings, "key.rewrapped", data_keys.store.path.name, {"version": version, "keys": done})
    return (
        f"{done} data keys wrapped again; all are wrapped by master key version {version}. "
        f"Tokens (version {source.keyring().token_version}) and digests (version 1) still need theirs."
    )
