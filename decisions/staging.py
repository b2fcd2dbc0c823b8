"""Making models ready beside the deciding: fetched, verified to the last byte, tested and warm before they may act.

A control event of scope `staging` asks for a model; the engine in office answers with a `staged` record on the log. It
is received at the engine's clock, so that it moves nobody's.
"""

import threading
import time
import uuid
from collections.abc import Callable, Sequence

from decisions.engine import Engine
from lakehouse import broker, topics
from lakehouse.errors import BrokerUnavailable, BundleRefused
from lakehouse.log import logger
from lakehouse.registry import registry
from lakehouse.settings import Settings
from lakehouse.single import written

PARTITION = 0
BY_HAND = -1
"""In place of an epoch: no engine reads the log yet, and the control tool looked at the model."""
Question = tuple[str, int, int | None]
"""Digest of a model, version of the newest request, epoch of who answers."""
_STAGED = registry().latest("staged")


def staged_record(digest: str, received_ms: int, epoch: int, refused: str | None) -> bytes:
    """The record that says what became of a model that was to be staged."""
    fields = {
        "staged_id": str(uuid.uuid4()),
        "received_at": received_ms,
        "model_digest": digest,
        "epoch": epoch,
        "refused": refused,
    }
    return written(_STAGED, fields)


def say(settings: Settings, record: bytes) -> int:
    """Write a `staged` record; its offset once the broker has it."""
    name = topics.topic_name(settings, topics.EVENTS)
    offset = broker.placed(settings, broker.producer(settings), name, PARTITION, record)
    if offset is None:
        raise BrokerUnavailable("A `staged` record was not acknowledged.", "Is the broker up?")
    return offset


class Stager:
    """Stages what is asked for and loads again what the engine lacks, one thing at a time in a thread of its own."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings, self._engine = settings, engine
        self._thread: threading.Thread | None = None
        self._answered: set[Question] = set()
        self._tried = time.monotonic()
        self._log = logger("engine")

    @property
    def busy(self) -> bool:
        """Whether a thread is at work: no moment for a fork."""
        return self._thread is not None and self._thread.is_alive()

    def look(self, epoch: int | None) -> None:
        """Begin what is due; without an epoch, out of office, models are made ready and nothing is said."""
        if self.busy:
            return
        in_force = self._engine.state.admission.in_force
        for digest in in_force.asked:
            # Asked again, it is answered again.
            question = (digest, in_force.versions["staging"].version, epoch)
            if question not in self._answered:
                self._answered.add(question)
                self._begin(self._stage, question)
                return
        if time.monotonic() - self._tried >= self._settings.ladder.retry_s:
            self._tried = time.monotonic()
            wanted = self._engine.wanted
            if wanted:
                self._begin(self._load_again, wanted)

    def wait(self) -> None:
        """Return when nothing is under way."""
        if self._thread is not None:
            self._thread.join()

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        self._thread = threading.Thread(target=work, args=arguments, daemon=True, name="staging")
        self._thread.start()

    def _stage(self, question: Question) -> None:
        digest, _, epoch = question
        began = time.monotonic()
        refused = self._refused(digest)
        took_s = round(time.monotonic() - began, 3)
        self._log.info("model staged", digest=digest, refused=refused, seconds=took_s)
        admission = self._engine.state.admission
        if epoch is None or digest not in admission.in_force.asked:
            return
        try:
            say(self._settings, staged_record(digest, admission.clock, epoch, refused))
        except BrokerUnavailable as error:
            self._answered.discard(question)
            self._log.warning("what became of a model was not said", digest=digest, reason=error.what)

    def _load_again(self, digests: Sequence[str]) -> None:
        for digest in digests:
            refused = self._refused(digest)
            if refused is not None:
                self._log.warning(
                    "a model in force, in a split or in shadow is still not here", digest=digest, reason=refused
                )

    def _refused(self, digest: str) -> str | None:
        """Why a model cannot be had; else it is on the shelf."""
        try:
            self._engine.shelf.loaded(digest)
        except BundleRefused as error:
            return error.what
        except Exception as error:
            # A signed bundle can still be nonsense: the old model goes on, whatever this one is.
            return f"Model bundle {digest[:12]} cannot be read: {type(error).__name__}."
        return None
