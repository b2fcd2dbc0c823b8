"""A folder of one run's own, beside others: a second run cannot mix its files in, and what a killed one left goes."""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "working"


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the folder until it is closed or its process ends; None where somebody else holds it."""
    try:
        held = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        return None
    return held


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """A new folder in `folder`, gone at the end; those that nobody holds any more are removed first."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{PREFIX}*"):
        held = _locked(left)
        if held is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(held)
    name = uuid.uuid4().hex
    # It is held before it can be found under its name.
    making = folder / f"making-{name}"
    making.mkdir()
    held = _locked(making)
    mine = making.rename(folder / f"{PREFIX}-{name}")
    try:
        yield mine
    finally:
        shutil.rmtree(mine, ignore_errors=True)
        if held is not None:
            os.close(held)
