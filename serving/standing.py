"""What is in force, as a replica knows it: folded from silver and the log once, then from what its reader brings.

The engine's word comes with every decision (`control_digest`); the same digest of this fold says whether both agree.
"""

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import Message

from expectations.control import ControlEvent, InForce, Staged
from expectations.decoded import heard
from expectations.reference import Reference
from lakehouse import broker, keys, signing, topics
from lakehouse.crypto import Digests
from lakehouse.errors import ControlRefused, FraudlakeError
from lakehouse.log import logger
from lakehouse.settings import Settings, resolve
from lakehouse.signing import Trust
from serving.following import PARTITION

AGAIN_S = 2.0
"""How often silver and the log are asked again when one of them did not answer."""


class Standing:
    """A thread that folds control events; everybody else reads what it has."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._trust = signing.trust(resolve(settings.keys.folder))
        ring = keys.source(settings).keyring()
        self._digests = Digests(ring)
        self._mutex = threading.Lock()
        self._now = InForce(first_token_version=ring.token_version)
        self._came: queue.SimpleQueue[Sequence[ControlEvent | Staged] | None] = queue.SimpleQueue()
        self._until = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="in force", daemon=True)
        self.missing: str | None = "what is in force is still being read"
        """Why this is not what is in force; None when it is."""
        self.engine_digest: str | None = None
        """Of everything in force at the last decision that was read, by the engine."""
        self.engine_model: str | None = None
        """Of the model that made the last decision."""
        self.engine_clock = 0
        """Of the last decision."""

    def start(self, until: int) -> None:
        """Fold what lies before an offset; from there on `take` brings it."""
        self._until = until
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._came.put(None)
        self._thread.join(5)

    def take(self, messages: list[Message]) -> None:
        """Take records of topic `events` in, in order."""
        found = list(heard(messages, self._digests))
        if found:
            self._came.put(found)

    def decided(self, last: Mapping[str, Any]) -> None:
        """Note what the engine decided the last decision by."""
        self.engine_digest, self.engine_model = last["control_digest"], last["model_digest"]
        self.engine_clock = last["engine_clock"]

    @property
    def reference(self) -> Reference | None:
        """The reference table in force; None while what is in force is not wholly known."""
        return None if self.missing else self._now.reference

    @property
    def token_version(self) -> int:
        """Of the key by which the engine names people."""
        return self._now.token_version

    def blocked(self, kind: str, token: str) -> bool:
        """Whether a block list names a token, or a merchant's id; an entry ends on the engine's clock.

        Without the mutex: requests wait on the loop that asks, and each look is a single one.
        """
        named = self._now.entries["lists"].by_token.get(kind, {}).get(token.encode(), {})
        return named.get("block", 0) > self.engine_clock

    @contextmanager
    def held(self) -> Iterator[InForce]:
        """What is in force, which does not change meanwhile."""
        with self._mutex:
            yield self._now

    def _run(self) -> None:
        while not self._stop.is_set() and not self._folded():
            self._stop.wait(AGAIN_S)
        while (found := self._came.get()) is not None:
            for event in found:
                self._offer(event)

    def _folded(self) -> bool:
        """Fold what lies before; whether that could be read."""
        try:
            self._fold()
        except FraudlakeError as error:
            if self.missing != error.what:
                logger("api").error("what is in force cannot be read", reason=str(error))
            self.missing = error.what
            return False
        self.missing = None
        return True

    def _fold(self) -> None:
        # What reads tables is heavy; the API is there before it is loaded.
        from decisions.control import in_silver

        before, start = in_silver(self._settings)
        with self._mutex:
            self._now = before.now
        name = topics.topic_name(self._settings, topics.EVENTS)
        low, _ = broker.watermarks(self._settings, name, PARTITION)
        for messages in broker.batches(self._settings, name, PARTITION, max(start, low), self._until):
            for event in heard(messages, self._digests):
                self._offer(event)

    def _offer(self, event: ControlEvent | Staged) -> None:
        with self._mutex:
            offered(self._now, event, self._trust)


def offered(now: InForce, event: ControlEvent | Staged, trust: Trust) -> None:
    """Take an event in as the engine does: what does not follow, or is not signed by two, changes nothing."""
    with suppress(ControlRefused):
        if isinstance(event, Staged):
            now.hear(event)
        else:
            now.offer(event, trust)
