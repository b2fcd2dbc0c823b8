"""Passwords of stores: each in a file of its own that only its owner can read, and nowhere else."""

import secrets
from pathlib import Path

from lakehouse.keys import write_private
from lakehouse.private import refuse_shared
from lakehouse.settings import resolve


def password(file: Path, service: str) -> str:
    """The password of a service; KeysMissing when there is none or others can read it."""
    return secret_of(resolve(file), f"`make up WITH={service}` makes one for the local {service}.")


def secret_of(path: Path, do: str) -> str:
    """The secret in a file; KeysMissing, with what to `do`, when there is none, or when others can read it."""
    refuse_shared(path, do)
    return path.read_text().strip()


def make_password(file: Path) -> None:
    """A password file of 256 random bits, where there is none."""
    path = resolve(file)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, secrets.token_urlsafe(32).encode())
