"""Random data keys, one a day or a subject and generation, that can be destroyed: what is sealed with one is then gone.

They lie wrapped (AES-256-GCM under a key of the master's, the key's name bound to it) in `key_store.py`. Workers open
them by themselves; what travels to them is where keys are, never a key.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lakehouse.errors import KeyDestroyed, KeysMissing, KeyUnknown
from lakehouse.key_store import KeyName, KeyStore, Wrapped
from lakehouse.keys import Keyring, KeySource
from lakehouse.moments import now_ms

KEY_BYTES = 32
NONCE_BYTES = 12
PURPOSE = "wrap|data"
STEP = 500
"""Keys that are wrapped again in one transaction: writers wait some milliseconds for it."""
_OF_A_DAY = re.compile(r"((?:bronze|silver)\|\d{4}-\d\d-\d\d)\|g(\d{1,9})")


def day_key_id(name: KeyName) -> str:
    """How rows name the key of a day: `bronze|2026-01-31|g1`."""
    return f"{name.id}|g{name.generation}"


def day_key_name(key_id: str) -> KeyName:
    """The key of a day that a row names; KeysMissing where it names none."""
    found = _OF_A_DAY.fullmatch(key_id)
    if found is None:
        raise old_key_id(key_id)
    return KeyName("day", found[1], int(found[2]))


def old_key_id(key_id: str) -> KeysMissing:
    """The error of a row that names a key in another way than ours."""
    return KeysMissing(
        f"A row names its key {key_id!r}, which is no data key: the lake was written before there were data keys.",
        "Land its records in a new lake root (lake.root); nothing of the old one is converted.",
    )


@dataclass
class _Wrapping:
    """Wraps and opens keys; reads the keyring again when a key names a master version that it has not seen."""

    source: KeySource

    def __post_init__(self) -> None:
        self._aeads: dict[int, AESGCM] = {}
        self._ring: Keyring = self.source.keyring()

    @property
    def version(self) -> int:
        """The master version that wraps now."""
        return self._ring.current

    def renew(self) -> None:
        """Read the keyring again: what is made from now on is wrapped with the newest master key."""
        self._ring = self.source.keyring()

    def _aead(self, version: int) -> AESGCM:
        if version not in self._aeads:
            if version not in self._ring.masters:
                self.renew()
            self._aeads[version] = AESGCM(self._ring.derive(PURPOSE, version))
        return self._aeads[version]

    def wrapped(self, name: KeyName, key: bytes, made_at: int) -> Wrapped:
        nonce = os.urandom(NONCE_BYTES)
        return Wrapped(name, nonce + self._aead(self.version).encrypt(nonce, key, _bound(name)), self.version, made_at)

    def opened(self, held: Wrapped) -> bytes:
        assert held.wrapped is not None
        try:
            aead = self._aead(held.master_version)
            return aead.decrypt(held.wrapped[:NONCE_BYTES], held.wrapped[NONCE_BYTES:], _bound(held.name))
        except InvalidTag:
            raise KeysMissing(
                f"The data key {held.name.id}|g{held.name.generation} cannot be opened with master key version "
                f"{held.master_version}: it was altered, or the keyring is another one.",
                "Restore keyring and data keys of the same moment from their backup.",
            ) from None


def _bound(name: KeyName) -> bytes:
    return f"{name.kind}|{name.id}|{name.generation}".encode()


class DataKeys:
    """The data keys of a key source."""

    def __init__(self, source: KeySource) -> None:
        self._wrapping = _Wrapping(source)
        self.store = KeyStore(Path(source.folder))

    def key(self, name: KeyName) -> bytes:
        """One key; KeyDestroyed or KeyUnknown by its name where there is none."""
        held = self.store.find([name]).get(name)
        shown = f"{name.id}|g{name.generation}"
        if held is None:
            raise KeyUnknown(f"The data key {shown} is not in {self.store.path}.", "Restore that file from its backup.")
        if held.wrapped is None:
            raise KeyDestroyed(f"The data key {shown} was destroyed: what it sealed cannot be read any more.")
        return self._wrapping.opened(held)

    def held(self, names: Sequence[KeyName]) -> dict[KeyName, bytes | None]:
        """Those of the keys that there are; None for a destroyed one."""
        return self._opened(self.store.find(names))

    def provided(self, names: Sequence[KeyName]) -> dict[KeyName, bytes | None]:
        """The same, and those that never were are made; whoever is first makes it for all."""
        held = self.store.find(names) if self.store.exists() else {}
        lacking = sorted({*names} - held.keys())
        if lacking:
            now = now_ms()
            self._wrapping.renew()
            new = [self._wrapping.wrapped(name, os.urandom(KEY_BYTES), now) for name in lacking]
            held |= self.store.put(new)
        return self._opened(held)

    def of_today(self, id_: str) -> KeyName:
        """The key of a day that seals now: its last generation, or the one after it when that one was destroyed."""
        while True:
            generations = self.store.generations("day", id_) if self.store.exists() else []
            if generations and generations[-1].wrapped is not None:
                return generations[-1].name
            name = KeyName("day", id_, generations[-1].name.generation + 1 if generations else 1)
            if self.provided([name])[name] is not None:
                return name

    def destroy(self, names: Sequence[KeyName]) -> list[KeyName]:
        """Destroy keys, and see to it that none of these names ever gets one; those that had one."""
        return self.store.destroy(names, now_ms())

    def rewrap(self, step: int = STEP, after_each: Callable[[int], None] = lambda _: None) -> int:
        """Wrap every key with the newest master key, some at a time, while others read and write; how many."""
        done = 0
        while before := self.store.wrapped_by_others(self._wrapping.version, step):
            after = [self._wrapping.wrapped(held.name, self._wrapping.opened(held), held.made_at) for held in before]
            done += self.store.replace(before, after)
            after_each(done)
        return done

    def _opened(self, held: dict[KeyName, Wrapped]) -> dict[KeyName, bytes | None]:
        opened = self._wrapping.opened
        return {name: None if key.wrapped is None else opened(key) for name, key in held.items()}
