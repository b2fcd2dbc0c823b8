"""Spark's Python worker daemon, with our modules loaded before it forks: a worker then starts in milliseconds.

Without it every new worker imports numba, pyarrow and our kernels again, seconds of processor time each. A fork copies
one thread, so nothing that is loaded here may start another; jemalloc's own is prepared for that (it resets itself in
the child). Anything else is reported, as a worker could then wait for ever for a lock that nobody holds.
"""

import gc
import importlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from lakehouse.warming import warm_all

YOUNG_OBJECTS = 50_000
PREPARED_FOR_FORKS = ("jemalloc_bg_thd",)
LOADED = ("pandas", "bronze.job", "silver.job", "features.job", "gold.job")
"""What tasks import: Spark's own way with Arrow, and the modules of the functions that they run."""


def folders(path: Sequence[str]) -> list[str]:
    """A module search path without the archives that lie inside a package installed on it: Spark's own.

    Spark's worker looks again at everything it has found modules in before each task. For an archive that is to read
    its whole directory, once per package: with Spark's two zips and its jar an eighth of a second of processor time a
    task. What they hold is installed anyway. Archives from elsewhere (a distribution of Spark, a zip of rooms) stay.
    """
    places = {Path(entry) for entry in path}

    def installed(archive: Path) -> bool:
        return any((above / "__init__.py").exists() for above in archive.parents if above.parent in places)

    return [entry for entry in path if not (Path(entry).is_file() and installed(Path(entry)))]


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
    sys.path[:] = folders(sys.path)
    sys.path_importer_cache.clear()
    daemon = importlib.import_module("pyspark.daemon")  # from where it is installed
    try:
        warm_all()
        for module in LOADED:
            importlib.import_module(module)
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
