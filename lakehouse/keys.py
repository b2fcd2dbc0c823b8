"""Key material: where master keys come from, and the keys derived from them, one per purpose.

    python -m lakehouse.keys            make the local keys that are missing
    python -m lakehouse.keys api NAME --roles read,label    make another API key; the API knows it after a restart
    python -m lakehouse.keys rotate     add a new master key, which wraps new data keys from now on
    python -m lakehouse.keys rewrap     wrap all data keys with the newest master key, while jobs run

Nothing here has a default: without keys nothing starts. Derived keys are HKDF-SHA256 (RFC 5869) of the master key of a
version, with the purpose as `info`, so that no two uses share a key. What is sealed has its own keys (`data_keys.py`).
"""

import argparse
import base64
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lakehouse import chain, signing, trail
from lakehouse import settings as conf
from lakehouse.errors import FraudlakeError, KeysMissing
from lakehouse.private import refuse_shared

VARIABLE = "FRAUDLAKE_MASTER_KEY_V"
MADE_AT = "_MADE_AT"
"""Ends the variable that says when the master key of a version was made, ISO 8601."""
TOKENS = "FRAUDLAKE_TOKEN_KEY_VERSION"
"""Variable of the version that tokens are of; without it the lowest."""
KEYRING = "keyring.json"
API_KEYS = "api_keys.json"
ROLES = ("decide", "replay", "read", "label", "reveal", "alerts")
"""Of API keys; `serving.auth` says what each may do."""
LOCAL_KEYS: Mapping[str, tuple[str, ...]] = {
    "local": ("decide", "alerts"),
    "replay": ("decide", "replay"),
    "analyst": ("read", "label", "alerts"),
    "officer": ("read", "reveal"),
}
"""API keys that `make keys` makes, by name."""
MASTER_BYTES = 32
RANDOM_VALUES = 17
"""Different bytes in a master key, at least: zeros, a repeated text or hex digits have fewer; of random keys one
in 10**14 does."""


@dataclass(frozen=True)
class Keyring:
    """Master keys by version; the newest wraps data keys, the one of `token_version` makes tokens."""

    masters: Mapping[int, bytes] = field(repr=False)
    tokens: int | None = None
    made_at: Mapping[int, datetime] = field(default_factory=dict)
    """When the master keys were made, where that is known."""

    def __post_init__(self) -> None:
        if self.token_version not in self.masters:
            raise KeysMissing(
                f"Tokens are of master key version {self.token_version}, which is not held.",
                "Restore it from its backup: with another version every token would be another one.",
            )

    @property
    def current(self) -> int:
        """The newest version."""
        return max(self.masters)

    @property
    def token_version(self) -> int:
        """The version of tokens; a new master key does not change it."""
        return min(self.masters) if self.tokens is None else self.tokens

    def derive(self, purpose: str, version: int | None = None) -> bytes:
        """The 32-byte key of a purpose; KeysMissing when that version is not held."""
        version = self.current if version is None else version
        if version not in self.masters:
            raise KeysMissing(f"Master key version {version} is not held.", "Restore it from its backup.")
        return _hkdf(self.masters[version], f"{purpose}|v{version}")


@lru_cache(maxsize=512)
def _hkdf(master: bytes, info: str) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=b"fraudlake", info=info.encode()).derive(master)


def _master(text: str, place: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raise KeysMissing(f"{place} is not base64.", "It must be 32 random bytes in base64.") from None
    if len(raw) != MASTER_BYTES:
        raise KeysMissing(f"{place} has {len(raw)} bytes, expected {MASTER_BYTES}.", "Use 32 random bytes in base64.")
    if len(set(raw)) < RANDOM_VALUES:
        raise KeysMissing(f"{place} is not random.", "It is an example's, or a text's: use 32 random bytes in base64.")
    return raw


def from_environment() -> Keyring:
    """The keyring of FRAUDLAKE_MASTER_KEY_V1, _V2, ...; KeysMissing when there is none."""
    found = {
        int(name.removeprefix(VARIABLE)): _master(value, name)
        for name, value in os.environ.items()
        if name.startswith(VARIABLE) and name.removeprefix(VARIABLE).isdigit()
    }
    if not found:
        raise KeysMissing(
            f"{VARIABLE}1 is not set.", "Set it to 32 random bytes in base64; nothing starts without keys."
        )
    made = {v: text for v in found if (text := os.environ.get(f"{VARIABLE}{v}{MADE_AT}"))}
    return _keyring(found, os.environ.get(TOKENS), made, "The environment")


def _keyring(masters: Mapping[int, bytes], tokens: object, made_at: Mapping[int, object], place: str) -> Keyring:
    try:
        version = None if tokens is None else int(str(tokens))
        moments = {number: datetime.fromisoformat(str(text)) for number, text in made_at.items()}
        if any(moment.tzinfo is None for moment in moments.values()):
            raise ValueError
    except ValueError:
        raise KeysMissing(
            f"{place} has a token key version that is no number, or a key's date that is no ISO 8601 with its zone.",
            "Such as 1, and 2026-01-31T12:00:00Z.",
        ) from None
    return Keyring(masters, version, moments)


@lru_cache(maxsize=8)
def _cached_file(path: Path, _mtime_ns: int) -> Keyring:
    try:
        content = orjson.loads(path.read_bytes())
        masters, made = dict(content["masters"]), dict(content.get("made_at", {}))
    except (ValueError, KeyError, TypeError):
        masters = {}
    if not masters:
        raise KeysMissing(f"{path} holds no master keys.", "Restore it from its backup.")
    held = {int(v): _master(text, f"{path.name} version {v}") for v, text in masters.items()}
    return _keyring(held, content.get("token_version"), {int(v): text for v, text in made.items()}, str(path))


def from_file(folder: Path) -> Keyring:
    """The keyring of a folder; KeysMissing when there is none or others can read it."""
    path = folder / KEYRING
    status = refuse_shared(path, "`make keys` creates local keys; nothing starts without them.")
    return _cached_file(path, status.st_mtime_ns)


@dataclass(frozen=True)
class KeySource:
    """Where keys are read from; holds no key, so it may travel to workers."""

    provider: str
    folder: str

    def keyring(self) -> Keyring:
        """The keys, read here and now."""
        return from_environment() if self.provider == "environment" else from_file(Path(self.folder))


def source(settings: conf.Settings) -> KeySource:
    """The key source of the settings."""
    return KeySource(settings.keys.provider, str(conf.resolve(settings.keys.folder)))


def write_private(path: Path, content: bytes) -> None:
    """A file that only its owner can read, complete or not there at all."""
    temporary = path.with_suffix(path.suffix + ".new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def added(folder: Path) -> int:
    """Add a new random master key to the keyring of a folder; its version. Tokens stay of the version they are of."""
    path = folder / KEYRING
    ring = from_file(folder) if path.exists() else None
    version = 1 if ring is None else ring.current + 1
    masters = {**(ring.masters if ring else {}), version: secrets.token_bytes(MASTER_BYTES)}
    made_at = {**(ring.made_at if ring else {}), version: datetime.now(UTC)}
    content = {
        "masters": {str(number): base64.b64encode(master).decode() for number, master in masters.items()},
        "token_version": ring.token_version if ring else version,
        "made_at": {str(number): moment.isoformat(timespec="seconds") for number, moment in made_at.items()},
    }
    write_private(path, orjson.dumps(content))
    return version


def api_key_digest(key: str) -> str:
    """What is stored of an API key: keys are 256 random bits, so one plain SHA-256 cannot be searched."""
    return hashlib.sha256(key.encode()).hexdigest()


def create(folder: Path) -> list[str]:
    """Make what is missing of a local key folder; the names of the files that were made."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = []
    if not (folder / KEYRING).exists():
        added(folder)
        made.append(KEYRING)
    made += signing.create(folder, ("author", "approver", chain.ROLE), write_private)
    if not (folder / API_KEYS).exists():
        # The list last: until it is there, all of them are made again.
        listed = [_api_key(folder, name, roles) for name, roles in LOCAL_KEYS.items()]
        write_private(folder / API_KEYS, orjson.dumps(listed, option=orjson.OPT_INDENT_2))
        made += [*map(_key_file, LOCAL_KEYS), API_KEYS]
    return made


def api_key(folder: Path, name: str, roles: Sequence[str]) -> str:
    """Make an API key of a new name in a folder; the file that holds it. KeysMissing for a name that is taken."""
    path = folder / API_KEYS
    entries = orjson.loads(path.read_bytes()) if path.exists() else []
    if any(entry["name"] == name for entry in entries):
        raise KeysMissing(f"There is a key {name} in {path}.", "Take another name, or remove that entry first.")
    write_private(path, orjson.dumps([*entries, _api_key(folder, name, roles)], option=orjson.OPT_INDENT_2))
    return _key_file(name)


def _api_key(folder: Path, name: str, roles: Sequence[str]) -> dict[str, object]:
    """A new API key in a file of its own; what the list says of it."""
    key = secrets.token_urlsafe(32)
    write_private(folder / _key_file(name), key.encode())
    return {"name": name, "sha256": api_key_digest(key), "roles": list(roles)}


def _key_file(name: str) -> str:
    return f"api-{name}.key"


def provide(settings: conf.Settings) -> list[str]:
    """Make what is missing of the local keys and enter it into the audit trail; the names of the files that were made.

    A signing pair whose role had one before is a rotated key; the old public key stays trusted.
    """
    folder = conf.resolve(settings.keys.folder)
    known = signing.trust(folder).roles.values() if (folder / signing.TRUSTED).exists() else ()
    made = create(folder)
    for name in made:
        path = folder / name
        if path.suffix == ".pem":
            action = "key.rotated" if any(path.stem in roles for roles in known) else "key.made"
            trail.record(settings, action, name, {"key": signing.signer(path).key_id})
        else:
            trail.record(settings, "key.made", name, {})
    return made


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", text):
        raise argparse.ArgumentTypeError("a name has small letters, digits and hyphens, at most 32")
    return text


def _roles(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if unknown := sorted(set(found) - set(ROLES)):
        raise argparse.ArgumentTypeError(f"there is no role {', '.join(unknown)}; there are {', '.join(ROLES)}")
    return found


def main(argv: list[str]) -> None:
    """Create local keys where there are none, make an API key, add a master key, or wrap data keys again."""
    parser = argparse.ArgumentParser(
        prog="python -m lakehouse.keys", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "action", nargs="?", choices=("api", "rotate", "rewrap"), help="without it: make what is missing"
    )
    parser.add_argument("name", nargs="?", type=_name, help="of the API key")
    parser.add_argument("--roles", type=_roles, default=(), help=f"of the API key: {', '.join(ROLES)}")
    parser.add_argument("--env")
    given = parser.parse_args(argv)
    settings = conf.load(given.env)
    folder = conf.resolve(settings.keys.folder)
    if given.action == "api":
        if not (given.name and given.roles):
            parser.error("an API key needs a name and --roles")
        made_file = api_key(folder, given.name, given.roles)
        trail.record(settings, "key.made", made_file, {"roles": ",".join(given.roles)})
        print(f"{folder / made_file}: {', '.join(given.roles)}")
        return
    if given.action:
        # It stands on data keys, which stand on this module.
        from lakehouse import rotation

        print(rotation.rotated(settings) if given.action == "rotate" else rotation.rewrapped(settings))
        return
    made = provide(settings)
    print(f"keys in {folder}: made {', '.join(made)}" if made else f"keys in {folder}: nothing to make")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except FraudlakeError as error:
        sys.exit(str(error))
