"""Spark's Python worker daemon, with our modules loaded before it forks: a worker then starts in milliseconds.

Without it every new worker imports numba, pyarrow and our kernels again, seconds of processor time each. A fork copies
one thread, so nothing that is loaded here may start another; jemalloc's own is prepared for that (it resets itself in
the child). Anything else is reported, as a worker could then wait for ever for a lock that nobody holds.
"""

import gc
import sys
import traceback
from pathlib import Path

from pyspark import daemon

from lakehouse.warming import warm_all

YOUNG_OBJECTS = 50_000
PREPARED_FOR_FORKS = ("jemalloc_bg_thd",)


def _threads() -> list[str]:
    tasks = Path("/proc/self/task")
    return [(task / "comm").read_text().strip() for task in tasks.iterdir()] if tasks.exists() else ["python"]


def settle() -> None:
    """Make the collector of garbage fit for batches, once everything is loaded."""
    # What is loaded by now stays: no collection needs to walk through it again.
    gc.collect()
    gc.freeze()
    # A batch is tens of thousands of small objects and no cycles among them: not a reason to look each time.
    gc.set_threshold(YOUNG_OBJECTS)


def main() -> None:
    """Warm, then be the ordinary daemon."""
    try:
        warm_all()
    except Exception:
        # The workers would fail with the same error, where the job can report it.
        traceback.print_exc()
    settle()
    others = [name for name in _threads() if name not in PREPARED_FOR_FORKS]
    if len(others) > 1:
        print(f"worker daemon: threads before forking: {', '.join(others)}", file=sys.stderr)
    daemon.manager()


if __name__ == "__main__":
    main()
