"""The part of the control tool that is about models: what was said of them, and having one staged."""

import sys
import time

from decisions.shelf import Shelf
from decisions.staging import BY_HAND, PARTITION, say, staged_record
from expectations.control import Staged
from expectations.decoded import heard
from lakehouse import broker, keys, topics, trail
from lakehouse.crypto import Digests
from lakehouse.errors import BundleRefused, ControlRefused
from lakehouse.moments import now_ms
from lakehouse.settings import Settings

WAIT_S = 60.0
PROGRESS_S = 5.0


def looked_at(settings: Settings, digest: str, received_ms: int | None) -> None:
    """Stage a model in this process, where no engine reads the log yet; BundleRefused before anything is said."""
    Shelf.of(settings).loaded(digest)
    received = now_ms() if received_ms is None else received_ms
    offset = say(settings, staged_record(digest, received, BY_HAND, None))
    trail.record(settings, "model.staged", digest, {"offset": offset})


def waited_for(settings: Settings, digest: str, start: int, wait_s: float) -> None:
    """Return when an engine has staged a model that was asked for just before offset `start`.

    BundleRefused with its reason when it cannot; ControlRefused when nobody answers in time.
    """
    name, digests = topics.topic_name(settings, topics.EVENTS), Digests(keys.source(settings).keyring())
    reader = broker.consumer(settings, name, PARTITION, start)
    began = told = time.monotonic()
    try:
        while (now := time.monotonic()) - began < wait_s:
            for one in heard(broker.take(reader, settings.engine.batch_records, 0.2), digests):
                if isinstance(one, Staged) and one.digest == digest:
                    if one.refused is None:
                        return
                    raise BundleRefused(f"The engine did not stage the model: {one.refused}", "The old one serves on.")
            if now - told >= PROGRESS_S:
                told = now
                print(f"waiting for the engine to stage {digest[:12]}: {now - began:.0f} s", file=sys.stderr)
    finally:
        reader.close()
    raise ControlRefused(
        f"No engine has staged model {digest[:12]} within {wait_s:g} s; it was not put into force.",
        "Start one (python -m decisions.job) and do it again; where none is to read this log yet, give --stage-here.",
    )
