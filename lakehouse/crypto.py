"""Tokens and digests under keys of their own purposes (`keys.py`), seals under data keys (`data_keys.py`).

A token stands for a personal value: HMAC-SHA256 under a versioned key of the value's canonical form with its length in
front, written `v<key version>:` and 24 characters (the first 144 bits, base64url). The first 64 bits are the entity's
key in feature state. The same person has the same token everywhere; without the key nobody can make or guess one.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import cache

import numpy as np
import orjson
from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lakehouse.data_keys import DataKeys, day_key_name
from lakehouse.errors import ContractBroken, KeysMissing
from lakehouse.keys import VARIABLE, Keyring
from lakehouse.texts import Ints, Texts

TOKEN_BYTES = 18
DIGEST_BYTES = 16
NONCE_BYTES = 12

_BLOCK = 64
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
BLOCK_BYTES = 16
_FROM_ZERO = modes.CBC(bytes(BLOCK_BYTES))
_PADDING = [bytes((n,)) * n for n in range(BLOCK_BYTES + 1)]
_LENGTHS = [n.to_bytes(4, "big") for n in range(1024)]
_SEPARATORS = b" -\t\r\n"
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _card(value: bytes) -> bytes:
    return value.translate(None, _SEPARATORS)


def _email(value: bytes) -> bytes:
    return value.decode().strip().casefold().encode()


def _address(value: bytes) -> bytes:
    return " ".join(value.decode().casefold().split()).encode()


def _ip(value: bytes) -> bytes:
    value = value.strip()
    if b":" not in value:
        return value
    try:
        return ipaddress.ip_address(value.decode()).compressed.encode()
    except ValueError:
        return value


_FORMS: Mapping[str, Callable[[bytes], bytes]] = {
    "card": _card,
    "customer": bytes.strip,
    "device": bytes.strip,
    "ip": _ip,
    "email": _email,
    "address": _address,
}
TOKEN_KINDS = tuple(_FORMS)


def canonical(kind: str, value: bytes) -> bytes:
    """The form of a value that is hashed: what people write differently and mean the same becomes the same bytes."""
    return _FORMS[kind](value)


class Mac:
    """HMAC-SHA256 of many messages under one key: keyed hash states are copied, not rebuilt (RFC 2104)."""

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(padded.translate(_INNER))
        self._outer = hashlib.sha256(padded.translate(_OUTER))

    def after(self, prefix: bytes) -> "Mac":
        """The same, for messages that begin with `prefix`, which is left out of them."""
        begun = copy(self)
        begun._inner = self._inner.copy()
        begun._inner.update(prefix)
        return begun

    def digest(self, message: bytes | memoryview) -> bytes:
        """32 bytes over one message."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()

    def digests(self, messages: Iterable[bytes]) -> list[bytes]:
        """Those of many messages."""
        inner, outer, out = self._inner.copy, self._outer.copy, []
        for message in messages:
            state, end = inner(), outer()
            state.update(message)
            end.update(state.digest())
            out.append(end.digest())
        return out


class Tokens:
    """Makes the tokens of one key version: the one that the log begins with, unless another is asked for.

    KeysMissing where this process does not hold it.
    """

    def __init__(self, keyring: Keyring, version: int | None = None) -> None:
        self.version = keyring.token_version if version is None else version
        if self.version not in keyring.masters:
            raise KeysMissing(
                f"Tokens are of master key version {self.version} here, which this process does not hold.",
                f"Bring keyring.json of the machine where `python -m lakehouse.keys rotate` made it, or set {VARIABLE}"
                f"{self.version}; then start again.",
            )
        self._carrier = Mac(keyring.derive("token|carried", self.version))
        self._macs = {kind: Mac(keyring.derive(f"token|{kind}", self.version)) for kind in TOKEN_KINDS}
        self._prefix = f"v{self.version}:"
        self.blank_customer = int(entity_keys(self.each("customer", [b""]))[0])
        """The 64-bit key of a customer id of nothing but white space, which names nobody."""

    def digests(self, kind: str, values: Iterable[bytes], known: dict[bytes, bytes] | None = None) -> list[bytes]:
        """The 32-byte digest of every value of a kind; `known` are those made before, and takes these in.

        Cards, devices and addresses come back within a batch. `known` holds them in the clear: nothing may keep it.
        """
        values = list(values)
        known = {} if known is None else known
        new = [value for value in dict.fromkeys(values) if value not in known]
        known.update(zip(new, self.each(kind, new), strict=True))
        return [known[value] for value in values]

    def each(self, kind: str, values: Sequence[bytes]) -> list[bytes]:
        """The digests of values of which none comes twice."""
        forms = list(map(_FORMS[kind], values))
        lengths = (_LENGTHS[n] if n < 1024 else n.to_bytes(4, "big") for n in map(len, forms))
        return self._macs[kind].digests([length + form for length, form in zip(lengths, forms, strict=True)])

    def text(self, digest: bytes) -> str:
        """The token as text."""
        return self._prefix + base64.urlsafe_b64encode(digest[:TOKEN_BYTES]).decode()

    def encoded(self, digests: Sequence[bytes]) -> Texts:
        """The tokens of many digests: `TOKEN_BYTES` are whole groups of base64, so one run of it is cut."""
        n, prefix = len(digests), np.frombuffer(self._prefix.encode(), np.uint8)
        encoded = base64.urlsafe_b64encode(b"".join([digest[:TOKEN_BYTES] for digest in digests]))
        body = np.frombuffer(encoded, np.uint8).reshape(n, TOKEN_BYTES // 3 * 4)
        return Texts.fixed(np.concatenate([np.broadcast_to(prefix, (n, len(prefix))), body], axis=1))

    def texts(self, kind: str, values: Iterable[bytes]) -> list[str]:
        """The tokens of values of a kind."""
        return [token.decode() for token in self.encoded(self.digests(kind, values)).to_list()]

    def carried(self, kind: str, token: str) -> str:
        """What stands for an older token whose value nobody can open any more: a keyed digest of kind and token."""
        return self.text(self._carrier.digest(kind.encode() + b"\0" + token.encode()))


def up_to(keyring: Keyring, version: int) -> list[Tokens]:
    """The tokens of every version that a log can have had until one is in force, that one last."""
    return [Tokens(keyring, one) for one in range(keyring.token_version, version + 1)]


def version_of(token: str) -> int:
    """The key version of a token's text."""
    return int(token[1 : token.index(":")])


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
        self._content = cache(lambda kind: content.after(kind.encode() + b"\0"))
        self._identity = cache(lambda kind: identity.after(kind.encode() + b"\0"))

    def payloads(self, records: Iterable[bytes]) -> list[bytes]:
        """Those of many raw records."""
        return [digest[:DIGEST_BYTES] for digest in self._payload.digests(records)]

    def payload(self, record: bytes | memoryview) -> bytes:
        """16 bytes over a raw record, prefix included."""
        return self._payload.digest(record)[:DIGEST_BYTES]

    def identity(self, kind: str, key: bytes) -> bytes:
        """16 bytes over what makes a record unique within its kind."""
        return self.identities(kind, [key])[0]

    def identities(self, kind: str, keys: Iterable[bytes]) -> list[bytes]:
        """Those of many keys."""
        return [digest[:DIGEST_BYTES] for digest in self._identity(kind).digests(keys)]

    def content(self, kind: str, before: bytes | memoryview, after: bytes | memoryview) -> bytes:
        """16 bytes over a record's body with `received_at` cut out (`before` and `after` are what is around it)."""
        return self.contents(kind, [bytes(before) + bytes(after)])[0]

    def contents(self, kind: str, bodies: Iterable[bytes]) -> list[bytes]:
        """Those of many bodies without their `received_at`."""
        return [digest[:DIGEST_BYTES] for digest in self._content(kind).digests(bodies)]


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

    def open(self, sealed: Sequence[bytes], positions: Sequence[bytes]) -> list[bytes]:
        """The records; ContractBroken names the position of the first one that was altered or moved."""
        decrypt, out = self._aead.decrypt, []
        for one, position in zip(sealed, positions, strict=True):
            try:
                out.append(decrypt(one[:NONCE_BYTES], one[NONCE_BYTES:], position))
            except (InvalidTag, ValueError):  # ValueError: not even the nonce is whole
                raise ContractBroken(
                    f"The sealed record at {position.decode()} was altered, moved or sealed with another key.",
                    "Replay the interval from Kafka.",
                ) from None
        return out


def fernet_head() -> bytes:
    """What a Fernet token begins with: its version and the time, in whole seconds."""
    return b"\x80" + int(time.time()).to_bytes(8, "big")


class PersonalSeal:
    """One Fernet token per row of silver for everything personal in it; table, row and purpose are inside the seal."""

    PURPOSE = "personal"

    __slots__ = ("_chain", "_key", "_mac")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._mac = Mac(key[:16])
        self._chain: CipherContext | None = None

    def seal(self, table: str, position: str, values: dict[str, str | None], head: bytes, random: bytes) -> str:
        """The token of one row, in Fernet's format; `head` is `fernet_head()`, `random` a block that is used once.

        Written here, because a cipher made for every row is a fifth of the masking pass: rows of one key go through
        one CBC chain. In front of each goes the random block, and what that becomes, which nobody can foresee, is the
        row's initialisation vector (NIST SP 800-38A, appendix C); so the chain itself may begin with zeros.
        """
        bound = orjson.dumps({"table": table, "position": position, "purpose": self.PURPOSE, "values": values})
        padding = BLOCK_BYTES - len(bound) % BLOCK_BYTES
        if self._chain is None:
            self._chain = Cipher(algorithms.AES(self._key[16:]), _FROM_ZERO).encryptor()
        signed = head + self._chain.update(random + bound + _PADDING[padding])
        whole = signed + self._mac.digest(signed)
        return binascii.b2a_base64(whole, newline=False).translate(_URL_SAFE).decode()

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
