"""Ed25519 signatures of people and machines, and the file that says whose public key may do what.

A private key lies in `<role>.pem`; `trusted.json` holds {key id: {public, roles}} and is all that a verifier needs.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lakehouse.errors import KeysMissing
from lakehouse.private import refuse_shared

TRUSTED = "trusted.json"


@dataclass(frozen=True)
class Signer:
    """Somebody who can sign."""

    key_id: str
    _private: Ed25519PrivateKey

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of a message."""
        return self._private.sign(message)


@dataclass
class Trust:
    """Public keys and roles by key id. Where they come from a file, its newest content counts, not that of the start.

    Else a job that runs for months would refuse who was trusted meanwhile, while others, started later, accept them.
    """

    publics: Mapping[str, Ed25519PublicKey]
    roles: Mapping[str, frozenset[str]]
    path: Path | None = None
    seen: tuple[int, int, int] | None = None
    """Which file it was that was read last."""

    def _follow(self) -> None:
        """Read the file again where it is another one; while it is not there or not whole, what was read stays."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            if self.path is not None and (found := _stamp(self.path)) != self.seen:
                self.publics, self.roles = _entries(self.path)
                self.seen = found

    def verifies(self, key_id: str, role: str, message: bytes, signature: bytes) -> bool:
        """Whether `key_id` has the role and made the signature."""
        self._follow()
        if key_id not in self.publics or role not in self.roles[key_id]:
            return False
        try:
            self.publics[key_id].verify(signature, message)
        except InvalidSignature:
            return False
        return True


def _public_bytes(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def key_id(role: str, public: Ed25519PublicKey) -> str:
    """Name of a key: its first role and the start of its fingerprint."""
    return f"{role}-{hashlib.sha256(_public_bytes(public)).hexdigest()[:12]}"


def create(folder: Path, roles: tuple[str, ...], write: Callable[[Path, bytes], None]) -> list[str]:
    """Make the pairs that are missing and trust them; the names of the files that were made.

    Trusted first: a crash leaves a trusted key that nobody has, never one whose signatures nobody would accept.
    """
    new = {role: Ed25519PrivateKey.generate() for role in roles if not (folder / f"{role}.pem").exists()}
    if not new:
        return []
    path = folder / TRUSTED
    entries = orjson.loads(path.read_bytes()) if path.exists() else {}
    for role, private in new.items():
        public = private.public_key()
        told = {"public": base64.b64encode(_public_bytes(public)).decode(), "roles": [role]}
        entries[key_id(role, public)] = told
    write(path, orjson.dumps(entries, option=orjson.OPT_INDENT_2))
    for role, private in new.items():
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write(folder / f"{role}.pem", pem)
    return [*(f"{role}.pem" for role in new), TRUSTED]


def signer(path: Path) -> Signer:
    """The signer of a PEM file that nobody else can read; its key id follows from its file name and public key."""
    refuse_shared(path, "`make keys` creates the local ones that are missing.")
    private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise KeysMissing(f"{path} is not an Ed25519 key.")
    return Signer(key_id(path.stem, private.public_key()), private)


def trust(folder: Path) -> Trust:
    """The trusted keys of a folder."""
    return trust_in(folder / TRUSTED)


def trust_in(path: Path) -> Trust:
    """The trusted keys of a file."""
    if not path.exists():
        raise KeysMissing(f"There is no {path}.", "`make keys` creates local keys; in production it is distributed.")
    seen = _stamp(path)
    return Trust(*_entries(path), path, seen)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _entries(path: Path) -> tuple[Mapping[str, Ed25519PublicKey], Mapping[str, frozenset[str]]]:
    """(public keys, roles) by key id."""
    entries = orjson.loads(path.read_bytes())
    publics = {k: Ed25519PublicKey.from_public_bytes(base64.b64decode(e["public"])) for k, e in entries.items()}
    return publics, {k: frozenset(e["roles"]) for k, e in entries.items()}
