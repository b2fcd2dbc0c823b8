"""Compile or load every numba kernel before its first use: `python -m lakehouse.warming`, and in Spark's worker daemon.

Each room with kernels has a module `warm` with a function `warm()`; they are found by name, as the kernel imports no
room.
"""

import importlib

ROOMS = ("lakehouse", "expectations", "features", "decisions")


def warm_all() -> None:
    """Warm every room."""
    for room in ROOMS:
        importlib.import_module(f"{room}.warm").warm()


if __name__ == "__main__":
    warm_all()
