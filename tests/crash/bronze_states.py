"""The states that a crash or a restored copy can leave a landed topic in, and how each is made on disk."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lakehouse import high_water

BATCH, BATCHES = 100, 5
RECORDS = BATCH * BATCHES
"""Landed before the damage; another batch waits on the topic, as after any crash."""
ALL = RECORDS + BATCH
LAST = BATCHES - 1


@dataclass(frozen=True)
class Place:
    """A recipe's copy of the recorded world: checkpoint and table."""

    checkpoint: Path
    table: Path


@dataclass(frozen=True)
class State:
    """A state: its name, how it is made, and how many records the next run takes at a time."""

    name: str
    make: Callable[[Place], None]
    batch: int = BATCH
    checkpoint_only: bool = True
    """The table is as the sink left it."""


def remove(path: Path) -> None:
    """Remove a file with Hadoop's checksum of it, or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
        return
    path.unlink()
    path.with_name(f".{path.name}.crc").unlink(missing_ok=True)


def torn(name: str, kept: float) -> Callable[[Place], None]:
    """Leave a file of the checkpoint empty, or its first half."""

    def make(place: Place) -> None:
        path = place.checkpoint / name
        content = path.read_bytes()
        remove(path)
        path.write_bytes(content[: int(len(content) * kept)])

    return make


def gone(*names: str) -> Callable[[Place], None]:
    """Take files or folders out of the checkpoint."""

    def make(place: Place) -> None:
        for name in names:
            remove(place.checkpoint / name)

    return make


def both(*steps: Callable[[Place], None]) -> Callable[[Place], None]:
    """One after the other."""

    def make(place: Place) -> None:
        for step in steps:
            step(place)

    return make


def whole(place: Place) -> None:
    """The checkpoint is gone."""
    shutil.rmtree(place.checkpoint)


def newest_commit(table: Path) -> Path:
    """The last file of a Delta log."""
    return max((table / "_delta_log").glob("*.json"))


def forget(table: Path) -> None:
    """No high-water record of a table is left, as in a lake that was restored without: nothing refuses it any more."""
    path = table.parents[1] / high_water.FOLDER / f"{table.parent.name}.{table.name}.json"
    path.unlink(missing_ok=True)


def set_back(table: Path, commits: int = 1) -> None:
    """The table as it was some commits ago: its newest commit files were never written, or were lost."""
    forget(table)
    for _ in range(commits):
        path = newest_commit(table)
        for other in (table / "_delta_log").glob(f"*{path.stem}*"):
            other.unlink()


def table_gone(place: Place) -> None:
    """The table is not there, nor a record of it."""
    forget(place.table)
    shutil.rmtree(place.table)


def older_copy(kept: int) -> Callable[[Place], None]:
    """The checkpoint as it was after some batches, restored from a copy."""
    return gone(*(f"{folder}/{n}" for folder in ("offsets", "commits") for n in range(kept, BATCHES)))


STATES = (
    State("killed after the sink's commit, before commits/N", gone(f"commits/{LAST}")),
    State("offsets/N and commits/N gone, batches now larger", older_copy(LAST), 200),
    State("restored from a copy three batches older", older_copy(BATCHES - 3)),
    State("restored from such a copy, batches now larger", older_copy(BATCHES - 3), 250),
    State("whole checkpoint gone, batches as before", whole),
    State("whole checkpoint gone, batches now larger", whole, 400),
    State("whole checkpoint gone, batches now smaller", whole, 60),
    State("offsets gone", gone("offsets")),
    State("commits gone", gone("commits")),
    State("sources gone", gone("sources")),
    State("metadata gone", gone("metadata")),
    State("commits/N gone, offsets/N empty", both(gone(f"commits/{LAST}"), torn(f"offsets/{LAST}", 0))),
    State("commits/N gone, offsets/N half", both(gone(f"commits/{LAST}"), torn(f"offsets/{LAST}", 0.5))),
    State("offsets/N empty", torn(f"offsets/{LAST}", 0)),
    State("commits/N empty", torn(f"commits/{LAST}", 0)),
    State("commits/N half", torn(f"commits/{LAST}", 0.5)),
    State("sources/0/0 empty", torn("sources/0/0", 0)),
    State("sources/0/0 half", torn("sources/0/0", 0.5)),
    State("metadata empty", torn("metadata", 0)),
    State("metadata half", torn("metadata", 0.5)),
    State(
        "killed before the sink's commit",
        both(gone(f"commits/{LAST}"), lambda place: set_back(place.table)),
        checkpoint_only=False,
    ),
    State("table's newest commit lost", lambda place: set_back(place.table), checkpoint_only=False),
    State("table's two newest commits lost", lambda place: set_back(place.table, 2), checkpoint_only=False),
    State("table gone", table_gone, checkpoint_only=False),
)
