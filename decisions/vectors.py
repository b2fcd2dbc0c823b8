"""The engine's vectors of a stretch of the log, made anew by the engine's driver and kept in an Arrow file.

Starts from an empty state, or from a snapshot, and needs the log from there on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from decisions.driver import Driver
from decisions.stretch import state_before, stretch
from features import store
from features.catalogue import NAMES
from lakehouse import jobs, keys, topics
from lakehouse import settings as conf
from lakehouse.errors import FraudlakeError
from lakehouse.log import configure
from lakehouse.runs import recorded
from lakehouse.settings import Settings

SCHEMA = pa.schema([("offset", pa.int64()), ("vector", pa.binary(4 * len(NAMES)))])


def kept(settings: Settings, start: int, end: int, base: Path | None, out: Path) -> int:
    """Write the vectors of the accepted payments in [start, end) to a file; how many."""
    identity = topics.identify(settings, topics.EVENTS)
    state = state_before(settings, identity.topic_id, base, start)
    driver = Driver(state, keys.source(settings).keyring())
    payments = 0
    with pa.ipc.new_stream(str(out), SCHEMA) as file:
        for messages in stretch(settings, identity.name, state.place.next_offset, end):
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
    if state.place.next_offset < end:
        store.check_tokens(state)
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
