"""Where profiles lie: what every store promises, and the one in this process's memory."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from lakehouse.moments import now_ms
from serving.profiles import DecidedPayment, Name, Profile, profile


@dataclass(frozen=True)
class Covered:
    """The newest profile of whoever paid in [since, until), by the decisions' clock in milliseconds, was written."""

    since_ms: int
    until_ms: int

    def joined(self, more: "Covered") -> "Covered":
        """Both as one stretch; only the later one when something lies between them."""
        if more.since_ms > self.until_ms:
            return more
        if self.since_ms > more.until_ms:
            return self
        return Covered(min(self.since_ms, more.since_ms), max(self.until_ms, more.until_ms))


@dataclass(frozen=True)
class Look:
    """What a store holds of an entity, and how far it can be trusted; `covered` is None when nobody wrote."""

    profile: Profile | None
    covered: Covered | None


class ProfileStore(Protocol):
    """The promises of a store, which all threads may share; each method raises StoreUnavailable.

    A profile leaves `ttl_s` after its payment was decided, by whatever was read or written meanwhile.
    """

    def put(self, payments: Mapping[Name, DecidedPayment]) -> None:
        """Take the last payments of some entities in; one that is not newer than what is there changes nothing."""

    def cover(self, more: Covered, first: bool) -> bool:
        """Note what has been written; whether it was noted.

        It is not where there should be an earlier note (not `first`) and is none: what that was about is gone too.
        """

    def look(self, name: Name) -> Look:
        """What is there of an entity."""

    def close(self) -> None:
        """Let go of what the store holds."""


def left_ms(payment: DecidedPayment, ttl_s: int) -> int:
    """How long its profiles have left; a decision of a clock that is ahead of ours counts as of now."""
    now = now_ms()
    return min(payment.decided_at_ms, now) + ttl_s * 1000 - now


class InProcess:
    """Profiles in memory, at most `most`: whoever was written or looked at longest ago goes first."""

    def __init__(self, ttl_s: int, most: int) -> None:
        self._ttl_s, self._most = ttl_s, most
        self._held: OrderedDict[Name, tuple[DecidedPayment, int]] = OrderedDict()
        self._covered: Covered | None = None
        self._pushed_out_ms = 0
        self._lock = threading.Lock()

    def put(self, payments: Mapping[Name, DecidedPayment]) -> None:
        """Take payments in; the vector is kept whole, as the entities of a payment share it."""
        now = now_ms()
        with self._lock:
            for name, payment in payments.items():
                life = left_ms(payment, self._ttl_s)
                held = self._held.get(name)
                if life > 0 and payment.newer_than(held[0] if held else None):
                    self._held[name] = payment, now + life
                    self._held.move_to_end(name)
            while len(self._held) > self._most:
                _, (gone, _) = self._held.popitem(last=False)
                self._pushed_out_ms = max(self._pushed_out_ms, min(gone.decided_at_ms, now) + 1)

    def cover(self, more: Covered, first: bool) -> bool:
        """Note what has been written."""
        with self._lock:
            if self._covered is None and not first:
                return False
            self._covered = more if self._covered is None else self._covered.joined(more)
        return True

    def look(self, name: Name) -> Look:
        """What is there; who is missing may have been pushed out, so less is covered."""
        with self._lock:
            held, covered = self._held.get(name), self._covered
            if held is not None and held[1] > now_ms():
                self._held.move_to_end(name)
                return Look(profile(name[0], held[0]), covered)
            self._held.pop(name, None)
            if covered is not None:
                covered = Covered(max(covered.since_ms, self._pushed_out_ms), covered.until_ms)
        return Look(None, covered)

    def close(self) -> None:
        """Nothing to let go of."""
