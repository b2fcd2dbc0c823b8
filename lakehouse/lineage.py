"""Which table versions the run of this process reads and writes, noted by the verbs that do it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Lineage:
    """What one run touched; its threads note side by side."""

    versions_read: dict[str, tuple[int, int]] = field(default_factory=dict)
    """First and last version by table."""
    versions_written: dict[str, tuple[int, int]] = field(default_factory=dict)
    rows_out: int = 0
    """Rows in the commits of the run."""
    _taken: dict[tuple[str, str], int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def rows_in(self) -> int | None:
        """Source offsets that were taken, each once however many tables they went to; None without positions."""
        most: dict[str, int] = {}
        for (_, key), offsets in self._taken.items():
            most[key] = max(most.get(key, 0), offsets)
        return sum(most.values()) if most else None

    def _widen(self, versions: dict[str, tuple[int, int]], table: str, version: int) -> None:
        first, last = versions.get(table, (version, version))
        versions[table] = min(first, version), max(last, version)

    def read(self, table: str, version: int) -> None:
        """A version was read."""
        with self._lock:
            self._widen(self.versions_read, table, version)

    def wrote(self, table: str, version: int, rows: int) -> None:
        """A commit made this version, with so many rows."""
        with self._lock:
            self._widen(self.versions_written, table, version)
            self.rows_out += rows

    def took(self, table: str, key: str, offsets: int) -> None:
        """So many source offsets of a partition went to a table."""
        with self._lock:
            self._taken[table, key] = self._taken.get((table, key), 0) + offsets


def spelled(versions: dict[str, tuple[int, int]]) -> list[str]:
    """`table@version` or `table@first-last`, by name."""
    return [f"{name}@{a}" if a == b else f"{name}@{a}-{b}" for name, (a, b) in sorted(versions.items())]


_runs: list[Lineage] = []


@contextmanager
def noted() -> Iterator[Lineage]:
    """What is touched in this block, by any thread of the process."""
    made = Lineage()
    _runs.append(made)
    try:
        yield made
    finally:
        _runs.remove(made)


def of_this_run() -> Lineage | None:
    """The run at hand; None outside of one."""
    return _runs[-1] if _runs else None


def read(table: str, version: int) -> None:
    """A version was read."""
    if (run := of_this_run()) is not None:
        run.read(table, version)


def wrote(table: str, version: int, rows: int) -> None:
    """A commit made this version, with so many rows."""
    if (run := of_this_run()) is not None:
        run.wrote(table, version, rows)


def took(table: str, key: str, offsets: int) -> None:
    """So many source offsets of a partition went to a table."""
    if (run := of_this_run()) is not None:
        run.took(table, key, offsets)
