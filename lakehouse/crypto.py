"""Tokens and digests under keys of their own purposes (`keys.py`), seals under data keys (`data_keys.py`).

A token stands for a personal value: HMAC-SHA256 under a versioned key of the value's canonical form with its length in
front, written `v<key version>:` and 24 characters (the first 144 bits, base64url). The first 64 bits are the entity's
key in feature state. The same person has the same token everywhere; without the key nobody can make or guess one.
"""

import base64
import hashlib
import hmac
import ipaddress
import os
import time
from collections.abc import Iterable, Sequence
from copy import copy
from functools import cache

import numpy as np
import orjson
from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lakehouse.data_keys import DataKeys, day_key_name
from lakehouse.errors import ContractBroken
from lakehouse.keys import Keyring
from lakehouse.texts import Ints

TOKEN_KINDS = ("card", "customer", "device", "ip", "email", "address")
TOKEN_BYTES = 18
DIGEST_BYTES = 16
NONCE_BYTES = 12

_BLOCK = 64
_AES_BLOCK = 16
_LENGTHS = [n.to_bytes(4, "big") for n in range(1024)]
_SEPARATORS = b" -\t\r\n"


def canonical(kind: str, value: bytes) -> bytes:
    """The form of a value that is hashed: what people write differently and mean the same becomes the same bytes."""
    if kind == "card":
        return value.translate(None, _SEPARATORS)
    if kind == "email":
        return value.decode().strip().casefold().encode()
    if kind == "address":
        return " ".join(value.decode().casefold().split()).encode()
    value = value.strip()
    if kind == "ip" and b":" in value:
        try:
            return ipaddress.ip_address(value.decode()).compressed.encode()
        except ValueError:
            return value
    return value


class Mac:
    """HMAC-SHA256 of many messages under one key: keyed hash states are copied, not rebuilt (RFC 2104)."""

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded))
        self._outer = hashlib.sha256(bytes(b ^ 0x5C for b in padded))

    def after(self, prefix: bytes) -> "Mac":
        """The same, for messages that begin with `prefix`, which is left out of them."""
        begun = copy(self)
        begun._inner = self._inner.copy()
        begun._inner.update(prefix)
        return begun

    def digest(self, *parts: bytes | memoryview) -> bytes:
        """32 bytes over the parts, one after the other."""
        inner = self._inner.copy()
        for part in parts:
            inner.update(part)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


class Tokens:
    """Makes the tokens of one key version: the one in force, unless another is asked for."""

    def __init__(self, keyring: Keyring, version: int | None = None) -> None:
        self.version = keyring.token_version if version is None else version
        self._macs = {kind: Mac(keyring.derive(f"token|{kind}", self.version)) for kind in TOKEN_KINDS}
        self._prefix = f"v{self.version}:"

    def digests(self, kind: str, values: Iterable[bytes], known: dict[bytes, bytes] | None = None) -> list[bytes]:
        """The 32-byte digest of every value of a kind; `known` are those made before, and takes these in.

        Cards, devices and addresses come back within a batch. `known` holds them in the clear: nothing may keep it.
        """
        digest = self._macs[kind].digest
        known = {} if known is None else known
        out = []
        for value in values:
            found = known.get(value)
            if found is None:
                form = canonical(kind, value)
                n = len(form)
                found = known[value] = digest(_LENGTHS[n] if n < 1024 else n.to_bytes(4, "big"), form)
            out.append(found)
        return out

    def text(self, digest: bytes) -> str:
        """The token as text."""
        return self._prefix + base64.urlsafe_b64encode(digest[:TOKEN_BYTES]).decode()


def entity_keys(digests: Sequence[bytes]) -> Ints:
    """The 64-bit keys of feature state: the first eight bytes of each digest, little-endian."""
    return np.frombuffer(b"".join(d[:8] for d in digests), "<i8").astype(np.int64)


def entity_key_of_token(token: str) -> int:
    """The 64-bit key of a token's text."""
    raw = base64.urlsafe_b64decode(token.split(":", 1)[1])
    return int.from_bytes(raw[:8], "little", signed=True)


class Digests:
    """Keyed digests that show whether two records are the same without holding either."""

    def __init__(self, keyring: Keyring) -> None:
        self._payload = Mac(keyring.derive("digest|payload", 1))
        content, identity = Mac(keyring.derive("digest|content", 1)), Mac(keyring.derive("digest|identity", 1))
        self._content = cache(lambda kind: content.after(kind.encode() + b"\0").digest)
        self._identity = cache(lambda kind: identity.after(kind.encode() + b"\0").digest)

    def payload(self, record: bytes | memoryview) -> bytes:
        """16 bytes over a raw record, prefix included."""
        return self._payload.digest(record)[:DIGEST_BYTES]

    def identity(self, kind: str, key: bytes) -> bytes:
        """16 bytes over what makes a record unique within its kind."""
        return self._identity(kind)(key)[:DIGEST_BYTES]

    def content(self, kind: str, before: bytes | memoryview, after: bytes | memoryview) -> bytes:
        """16 bytes over a record's body with `received_at` cut out (`before` and `after` are what is around it)."""
        return self._content(kind)(before, after)[:DIGEST_BYTES]


class RecordSeal:
    """AES-256-GCM of whole records under the data key of an ingest day; the source position is bound to the seal."""

    def __init__(self, key: bytes, key_id: str) -> None:
        self.key_id = key_id
        self._aead = AESGCM(key)

    @staticmethod
    def opening(keys: DataKeys, key_id: str) -> "RecordSeal":
        """The seal that a key id names; KeyDestroyed or KeyUnknown where its key is not held."""
        return RecordSeal(keys.key(day_key_name(key_id)), key_id)

    def seal(self, records: Sequence[bytes], positions: Sequence[bytes]) -> list[bytes]:
        """Each record sealed at its position: 12 bytes of nonce, then the ciphertext."""
        nonces = os.urandom(NONCE_BYTES * len(records))
        encrypt = self._aead.encrypt
        out = []
        for i, (record, position) in enumerate(zip(records, positions, strict=True)):
            nonce = nonces[i * NONCE_BYTES : (i + 1) * NONCE_BYTES]
            out.append(nonce + encrypt(nonce, record, position))
        return out

    def open(self, sealed: bytes, position: bytes) -> bytes:
        """The record; ContractBroken when it was altered or moved."""
        try:
            return self._aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], position)
        except (InvalidTag, ValueError):  # ValueError: not even the nonce is whole
            raise ContractBroken(
                f"The sealed record at {position.decode()} was altered, moved or sealed with another key.",
                "Replay the interval from Kafka.",
            ) from None


class PersonalSeal:
    """One Fernet token per row of silver for everything personal in it; table, row and purpose are inside the seal."""

    PURPOSE = "personal"

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, table: str, position: str, values: dict[str, str | None]) -> str:
        """The token of one row.

        In Fernet's format, written here: most keys seal one record of a batch, a Fernet made for each costs a fifth.
        """
        bound = orjson.dumps({"table": table, "position": position, "purpose": self.PURPOSE, "values": values})
        padding = _AES_BLOCK - len(bound) % _AES_BLOCK
        vector = os.urandom(_AES_BLOCK)
        encryptor = Cipher(algorithms.AES(self._key[16:]), modes.CBC(vector)).encryptor()
        sealed = encryptor.update(bound + bytes((padding,)) * padding)
        signed = b"\x80" + int(time.time()).to_bytes(8, "big") + vector + sealed
        return base64.urlsafe_b64encode(signed + hmac.digest(self._key[:16], signed, "sha256")).decode()

    def open(self, table: str, position: str, token: str) -> dict[str, str | None]:
        """The values of one row; ContractBroken when the token was altered or belongs to another row."""
        try:
            content = orjson.loads(Fernet(base64.urlsafe_b64encode(self._key)).decrypt(token))
        except InvalidToken:
            raise ContractBroken(
                f"The personal data of {table} at {position} was altered.", "Replay the interval."
            ) from None
        found = (content["table"], content["position"], content["purpose"])
        if not hmac.compare_digest(repr(found), repr((table, position, self.PURPOSE))):
            raise ContractBroken(
                f"The personal data of {table} at {position} belongs to another row.", "Replay the interval."
            )
        values: dict[str, str | None] = content["values"]
        return values
