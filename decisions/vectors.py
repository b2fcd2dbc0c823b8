"""The engine's vectors of a stretch of the log, made anew by the engine's driver and kept in an Arrow file.

Starts from an empty state, or from a snapshot, and needs the log from there on.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from decisions.driver import Driver
from decisions.intake import Message
from features import store
from features.catalogue import NAMES
from features.store import Place
from lakehouse import broker, jobs, keys, topics
from lakehouse import settings as conf
from lakehouse.errors import FraudlakeError, RangeMissing
from lakehouse.log import configure
from lakehouse.runs import recorded
from lakehouse.settings import Settings

PARTITION = 0
SCHEMA = pa.schema([("offset", pa.int64()), ("vector", pa.binary(4 * len(NAMES)))])
PROGRESS_S = 2.0


def _messages(settings: Settings, name: str, start: int, end: int) -> Iterator[list[Message]]:
    """The records [start, end) of a partition in batches."""
    low, high = broker.watermarks(settings, name, PARTITION)
    if not low <= start <= end <= high:
        raise RangeMissing(
            f"Topic {name} holds offsets {low} to {high}; {start} to {end} are wanted.",
            "Choose positions that it holds, or a --snapshot that stands at a later one.",
        )
    for found in broker.batches(settings, name, PARTITION, start, end, settings.engine.batch_records):
        yield [Message(m.offset(), m.timestamp()[1], m.value() or b"") for m in found]


def kept(settings: Settings, start: int, end: int, base: Path | None, out: Path) -> int:
    """Write the vectors of the accepted payments in [start, end) to a file; how many."""
    identity = topics.identify(settings, topics.EVENTS)
    if base is None:
        state = store.new(settings, Place(identity.topic_id, PARTITION, 0))
    else:
        state = store.load(base, settings, identity.topic_id)
    if state.place.next_offset > start:
        raise RangeMissing(f"The snapshot stands at offset {state.place.next_offset}, after {start}.")
    driver = Driver(state, keys.source(settings).keyring())
    payments, said = 0, time.monotonic()
    with pa.ipc.new_stream(str(out), SCHEMA) as file:
        for messages in _messages(settings, identity.name, state.place.next_offset, end):
            for segment in driver.take(messages):
                if "payment" not in segment.judged:
                    continue
                judged = segment.judged["payment"]
                offset = judged.offset[judged.accepted]
                wanted = offset >= start
                vectors = np.ascontiguousarray(segment.vectors[wanted])
                raw = pa.Array.from_buffers(SCHEMA.field("vector").type, len(vectors), [None, pa.py_buffer(vectors)])
                file.write_batch(pa.record_batch([pa.array(offset[wanted]), raw], schema=SCHEMA))
                payments += len(vectors)
            if time.monotonic() - said > PROGRESS_S:
                said = time.monotonic()
                print(f"engine's driver at offset {driver.state.place.next_offset:,} of {end:,}", file=sys.stderr)
    return payments


def main(argv: Sequence[str]) -> int:
    """Make the vectors of an interval."""
    parser = argparse.ArgumentParser(prog="python -m decisions.vectors", description=__doc__)
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--from-position", type=int, default=0, metavar="OFFSET", help="first offset (default 0)")
    parser.add_argument("--to-position", type=int, required=True, metavar="OFFSET", help="offset after the last one")
    parser.add_argument("--snapshot", type=Path, metavar="FILE", help="begin from it (default: from an empty state)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="Arrow stream of (offset, vector)")
    given = parser.parse_args(argv)

    def work() -> None:
        if given.to_position <= given.from_position:
            raise FraudlakeError("--to-position must be above --from-position.")
        settings = conf.load(given.env)
        configure(settings, "vectors")
        with recorded(settings, "decisions.vectors", "replay", (given.from_position, given.to_position)):
            payments = kept(settings, given.from_position, given.to_position, given.snapshot, given.out)
        print(f"{payments:,} vectors")

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
