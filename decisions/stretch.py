"""A stretch of topic `events` taken again: its records, and the state that lies before it."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from decisions.intake import Message
from features import store
from features.store import Place, State
from lakehouse import broker
from lakehouse.errors import RangeMissing
from lakehouse.settings import Settings

PARTITION = 0
PROGRESS_S = 2.0


def stretch(settings: Settings, name: str, start: int, end: int) -> Iterator[list[Message]]:
    """The records [start, end) in batches, with progress on standard error; RangeMissing where the topic lacks some."""
    low, high = broker.watermarks(settings, name, PARTITION)
    if not low <= start <= end <= high:
        raise RangeMissing(
            f"Topic {name} holds offsets {low} to {high}; {start} to {end} are wanted.",
            "Choose positions that it holds, or a --snapshot that stands at a later one.",
        )
    said = time.monotonic()
    for found in broker.batches(settings, name, PARTITION, start, end, settings.engine.batch_records):
        yield [Message(m.offset(), m.timestamp()[1], m.value() or b"") for m in found]
        if time.monotonic() - said > PROGRESS_S:
            said = time.monotonic()
            print(f"at offset {found[-1].offset() + 1:,} of {end:,}", file=sys.stderr)


def state_before(settings: Settings, topic_id: str, base: Path | None, start: int) -> State:
    """The state of a snapshot, or the empty one; RangeMissing where it stands behind `start`."""
    if base is None:
        return store.new(settings, Place(topic_id, PARTITION, 0))
    state = store.load(base, settings, topic_id)
    if state.place.next_offset > start:
        raise RangeMissing(f"The snapshot stands at offset {state.place.next_offset}, after {start}.")
    return state
