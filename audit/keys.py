"""The one key that an audit may hold: the one of payload digests. It opens no seal and makes no token."""

import base64
import binascii
import hashlib
import hmac
import json
import stat
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from audit.errors import CannotLook

_PURPOSE = b"digest|payload|v1"
_SALT = b"fraudlake"
_KEY_BYTES = 32
DIGEST_BYTES = 16


def derived(master: bytes) -> bytes:
    """The digest key of a master key: HKDF-SHA256 (RFC 5869), one block long."""
    pseudorandom = hmac.digest(_SALT, master, "sha256")
    return hmac.digest(pseudorandom, _PURPOSE + b"\x01", "sha256")


def _decoded(text: str, path: Path) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != _KEY_BYTES:
        raise CannotLook(f"{path} holds no key of {_KEY_BYTES} bytes in base64.", "--digest-key names the file.")
    return key


def digest_key(path: Path) -> bytes:
    """The key of a file: a keyring (version 1 of it), or this key alone in base64. CannotLook when others can read."""
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise CannotLook(f"{path} can be read by others.", f"chmod 600 {path}")
        text = path.read_text().strip()
    except OSError as error:
        raise CannotLook(f"{path} cannot be read ({type(error).__name__}).", "--digest-key names the file.") from None
    if not text.startswith("{"):
        return _decoded(text, path)
    try:
        master = str(json.loads(text)["masters"]["1"])
    except (ValueError, KeyError, TypeError):
        raise CannotLook(f"{path} holds no master key of version 1.", "Restore it from its backup.") from None
    return derived(_decoded(master, path))


def payload_digests(key: bytes, values: Iterable[bytes | None]) -> pa.Array:
    """HMAC-SHA256 of each raw record, its first 16 bytes; a record without a value counts as empty."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded))
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in padded))
    out = []
    for value in values:
        one, two = inner.copy(), outer.copy()
        one.update(value or b"")
        two.update(one.digest())
        out.append(two.digest()[:DIGEST_BYTES])
    return pa.array(out, pa.binary())
