"""Writing profiles behind the decisions: takes what a reader found, and knows how far the store is complete.

The reader hands over and goes on; the store is this thread's business. While the store is away, the last payment of
every entity waits here, and when too many wait, they are given up and the store is not complete over that time.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import Counter

from lakehouse.broker import End
from lakehouse.errors import StoreUnavailable
from lakehouse.log import logger
from lakehouse.moments import now_ms
from serving.profile_store import Covered, ProfileStore
from serving.profiles import DecidedPayment, Name, entities, has_vector, is_readable, payment_of

WRITE_S = 0.1
"""How long profiles are collected: of an entity that pays again and again, only the newest is written."""
ASK_S = 1.0
"""How often the end of the topic is asked for, which is how closely a store knows what it lacks."""

WRITTEN = Counter("fraudlake_profiles_written", "Profiles handed to the store")
GIVEN_UP = Counter("fraudlake_profiles_given_up", "Profiles not written: too many waited, or of another feature set")
FAILURES = Counter("fraudlake_profile_store_failures", "Calls that the profile store did not answer", ["call"])


class ProfileWriter:
    """A thread between the reader of topic `decisions` and a store."""

    def __init__(self, store: ProfileStore, end: End, ttl_s: int, most_waiting: int) -> None:
        self._store, self._end, self._ttl_s, self._most = store, end, ttl_s, most_waiting
        self._lock = threading.Lock()
        self._waiting: dict[Name, DecidedPayment] = {}
        self._position = 0
        self._since_ms: int | None = None
        self._first = True
        self._goal: tuple[int, int] | None = None
        self._asked_s = 0.0
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="profiles", daemon=True)

    def start(self, position: int, from_the_start: bool) -> None:
        """Begin behind a reader at `position`; one that begins in the middle covers what it reads, not what was."""
        self._position = position
        self._since_ms = 0 if from_the_start else None
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, if the store will have it, and end."""
        self._stop.set()
        self._thread.join(5)

    def take(self, decisions: Sequence[Mapping[str, Any]], position: int) -> None:
        """Take decisions that count, in order; `position` is the reader's after them."""
        long_ago = now_ms() - self._ttl_s * 1000
        with self._lock:
            self._position = position
            for decision in decisions:
                decided_at = decision["decided_at"]
                self._since_ms = decided_at if self._since_ms is None else self._since_ms
                if decided_at < long_ago or not has_vector(decision):
                    continue
                if not is_readable(decision):
                    GIVEN_UP.inc()
                    self._incomplete()
                    continue
                payment = payment_of(decision)
                self._waiting.update(dict.fromkeys(entities(decision), payment))
            if len(self._waiting) > self._most:
                self._give_up()

    def _incomplete(self) -> None:
        """From now on only is the store complete again."""
        self._since_ms = now_ms() + 1

    def _give_up(self) -> None:
        GIVEN_UP.inc(len(self._waiting))
        self._waiting = {}
        self._incomplete()

    def _run(self) -> None:
        log = logger("api")
        while True:
            ending = self._stop.wait(ASK_S if self._failing else WRITE_S)
            try:
                if self._step() and self._failing:
                    log.info("profiles are written again")
                    self._failing = False
            except StoreUnavailable as error:
                FAILURES.labels("write").inc()
                if not self._failing:
                    log.warning("profiles are not written, decisions go on", reason=str(error))
                self._failing = True
            if ending:
                return

    def _step(self) -> bool:
        """Write what waits, then say how far the store is complete; whether the store was asked for anything."""
        with self._lock:
            taken, self._waiting = self._waiting, {}
            position = self._position
        try:
            if taken:
                self._store.put(taken)
                WRITTEN.inc(len(taken))
            return self._cover(position) or bool(taken)
        except StoreUnavailable:
            with self._lock:
                # What came meanwhile is newer.
                self._waiting = {**taken, **self._waiting}
                if len(self._waiting) > self._most:
                    self._give_up()
            raise

    def _cover(self, position: int) -> bool:
        """What was on the topic at a moment is in the store: cover until that moment; whether there was one."""
        if self._goal is None and time.monotonic() >= self._asked_s + ASK_S:
            self._asked_s, asked_ms = time.monotonic(), now_ms()
            end = self._end.offset(ASK_S)
            self._goal = None if end is None else (end, asked_ms)
        if self._goal is None or position < self._goal[0]:
            return False
        until_ms, self._goal = self._goal[1], None
        with self._lock:
            since_ms = until_ms if self._since_ms is None else self._since_ms
        if since_ms > until_ms:
            return False
        noted = self._store.cover(Covered(since_ms, until_ms), self._first)
        self._first = not noted
        with self._lock:
            if noted:
                # Unless something was lost meanwhile: then it begins later than this.
                self._since_ms = max(until_ms, self._since_ms or 0)
            else:
                self._incomplete()
        return True
