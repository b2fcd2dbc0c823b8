"""Keeps tables in order, off the hot path: small files become large ones, what no version needs any more goes.

    python -m lakehouse.maintenance                     what would be done, table by table
    python -m lakehouse.maintenance --do                do it; once a day
    python -m lakehouse.maintenance --do --cluster      and sort the large tables by source position; once a week

It never stands in the way of a writer: where one was faster, it leaves the table for the next time. Versions that a
recorded training set was made from stay readable for maintenance.training_sets_kept_d.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
from pyarrow import fs

from lakehouse import checkpoints, delta, high_water, jobs, storage
from lakehouse import settings as conf
from lakehouse.contracts.gold import TRAINING_SET
from lakehouse.contracts.register import TABLES
from lakehouse.errors import FraudlakeError
from lakehouse.expired import EXPIRED
from lakehouse.files import filesystem
from lakehouse.log import configure, logger
from lakehouse.moments import DAY_MS
from lakehouse.runs import recorded
from lakehouse.settings import Maintenance
from lakehouse.tables import Table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CHECKPOINT_AFTER = 10
"""Commits; a reader opens each of them that came after the checkpoint."""
_FASTER = "Concurrent"
"""In the names of Delta's errors where another writer was faster."""


@dataclass(frozen=True)
class Plan:
    """What a table needs."""

    table: Table
    properties: Mapping[str, str]
    """Properties that differ from those that tables are made with: statistics, checkpoints."""
    small_files: int
    """Files to be joined; 0 where there are too few of them."""
    cluster_by: str | None
    """The column that all files are sorted by; None where that is not asked for."""
    unused_files: int
    """Data files that left the table long ago and that no version needs which is to stay readable."""
    keep_versions: tuple[int, ...]
    """Versions that recorded training sets were made from."""
    checkpoint: bool
    """Whether enough commits came since the last one."""
    keep_log_from: int
    """The oldest version that the log has to tell of."""

    def text(self) -> str:
        """One line for people."""
        parts = []
        if self.properties:
            parts.append("set " + ", ".join(f"{name}={value}" for name, value in self.properties.items()))
        if self.cluster_by:
            parts.append(f"sort by {self.cluster_by}")
        elif self.small_files:
            parts.append(f"join {self.small_files} small files")
        if self.unused_files:
            parts.append(f"remove {self.unused_files} unused files")
        if self.checkpoint:
            parts.append("write a checkpoint")
        parts.append(f"keep the log from version {self.keep_log_from}")
        if self.keep_versions:
            parts.append("and files of versions " + ", ".join(map(str, self.keep_versions)))
        return f"{self.table.name}: " + "; ".join(parts)


def plan(root: str, table: Table, settings: Maintenance, cluster: bool, now_ms: int) -> Plan:
    """What a table needs now; it has been made."""
    reader = delta.opened(root, table)
    history = reader.history()
    sizes = pa.table(reader.get_add_actions(flatten=True)).column("size_bytes").to_pylist()
    small = sum(size < settings.small_file_mb << 20 for size in sizes)
    held = reader.metadata().configuration
    needed = needed_versions(root, settings, now_ms)
    versions = tuple(sorted(needed.get(table.name, ())))
    return Plan(
        table,
        {name: str(value) for name, value in delta.properties(table).items() if held.get(name) != value},
        small if small >= settings.join_files else 0,
        table.position[2] if cluster and table.position and len(sizes) > 1 else None,
        len(_still_there(root, table, _unused(root, table, settings, versions, dry_run=True))),
        versions,
        reader.version() - max(_checkpoints(filesystem(table.path(root))), default=-1) >= CHECKPOINT_AFTER,
        min([*versions, *_told(table, history, settings, now_ms)]),
    )


def needed_versions(root: str, settings: Maintenance, now_ms: int) -> dict[str, set[int]]:
    """By table, the versions that recorded training sets were made from which are still to be kept."""
    found: dict[str, set[int]] = {}
    for commit in delta.opened(root, TRAINING_SET).history() if delta.exists(root, TRAINING_SET) else []:
        sources = orjson.loads(commit.get("userMetadata") or "{}").get(storage.SOURCES)
        if sources is not None and commit["timestamp"] >= now_ms - settings.training_sets_kept_d * DAY_MS:
            for name, version in sources["versions"].items():
                found.setdefault(name, set()).update({version} - {-1})
    return found


def _told(table: Table, history: Sequence[Mapping[str, Any]], settings: Maintenance, now_ms: int) -> Iterator[int]:
    """Versions whose commits have to stay: young ones, the last with positions or expired offsets, recipes."""
    wanted = {storage.METADATA, EXPIRED}
    for commit in history:
        metadata = orjson.loads(commit.get("userMetadata") or "{}")
        recipe = storage.SOURCES in metadata and commit["timestamp"] >= now_ms - settings.training_sets_kept_d * DAY_MS
        last = wanted & metadata.keys()
        wanted -= last
        if recipe or last or commit["timestamp"] >= now_ms - settings.log_kept_d * DAY_MS:
            yield commit["version"]
    yield history[0]["version"]


def _unused(root: str, table: Table, settings: Maintenance, keep: Sequence[int], dry_run: bool) -> list[str]:
    # Delta refuses less than the table's own retention, unless told; here the settings say what readers need.
    return delta.opened(root, table).vacuum(
        settings.vacuum_after_h, dry_run, enforce_retention_duration=False, full=True, keep_versions=list(keep)
    )


def _still_there(root: str, table: Table, listed: list[str]) -> list[str]:
    # The log tells of files that left the table long after they were removed.
    found = filesystem(table.path(root)).get_file_info(listed)
    return [info.path for info in found if info.type != fs.FileType.NotFound]


def _versions_of(root: str, table: Table) -> list[tuple[int, str]]:
    names = high_water.log_names(filesystem(table.path(root)))
    digits = [(name.removeprefix(".")[:20], name) for name in names]
    return sorted((int(number), name) for number, name in digits if len(number) == 20 and number.isdigit())


def _checkpoints(store: fs.FileSystem) -> dict[int, list[str]]:
    return checkpoints.whole(high_water.log_names(store))


def _opens(store: fs.FileSystem, table: Table, names: Sequence[str]) -> bool:
    for name in names:
        if (error := checkpoints.fault_of(store, name)) is not None:
            why = high_water.said(error)
            logger("maintenance").warning("a checkpoint cannot be read", table=table.name, file=name, reason=why)
            return False
    return True


def clean_log(root: str, table: Table, keep_from: int) -> int:
    """Remove what lies before the newest checkpoint at or before a version, the oldest first; how many files.

    That version and every later one can be read as before. A checkpoint that cannot be read stands for nothing.
    """
    store = filesystem(table.path(root))
    held = _checkpoints(store)
    until = sorted((version for version in held if version <= keep_from), reverse=True)
    base = next((version for version in until if _opens(store, table, held[version])), -1)
    old = [name for number, name in _versions_of(root, table) if number < base]
    for name in old:
        store.delete_file(f"_delta_log/{name}")
    return len(old)


class Upkeep:
    """Does what plans say, step by step; a step behind which another writer was faster is left for the next time."""

    def __init__(self, spark: "SparkSession", root: str, settings: Maintenance) -> None:
        self._spark, self._root, self._settings = spark, root, settings
        self._log = logger("maintenance")

    def do(self, found: Plan) -> list[str]:
        """Bring a table in order; the steps that another writer was in the way of."""
        table = found.table
        place = f"delta.`{table.path(self._root)}`"
        left: list[str] = []

        def step(name: str, work: Callable[[], object]) -> None:
            try:
                work()
            except Exception as error:
                if (
                    _FASTER not in type(error).__name__ + str(error)[:300]
                    and "CommitFailed" not in type(error).__name__
                ):
                    raise
                left.append(name)
            delta.followed(self._root, table)

        if found.properties:
            values = ", ".join(f"'{k}' = '{v}'" for k, v in found.properties.items())
            step("properties", lambda: self._spark.sql(f"ALTER TABLE {place} SET TBLPROPERTIES ({values})"))
        if found.cluster_by:
            step("sort", lambda: self._joined(f"OPTIMIZE {place} ZORDER BY (`{found.cluster_by}`)"))
        elif found.small_files:
            step("join", lambda: self._joined(f"OPTIMIZE {place}"))
        if found.unused_files:
            step("remove", lambda: _unused(self._root, table, self._settings, found.keep_versions, dry_run=False))
        if found.checkpoint:
            step("checkpoint", lambda: delta.opened(self._root, table).create_checkpoint())
        clean_log(self._root, table, found.keep_log_from)
        self._log.info("table in order", table=table.name, left=" ".join(left))
        return left

    def _joined(self, statement: str) -> None:
        small = self._settings.small_file_mb << 20
        self._spark.conf.set("spark.databricks.delta.optimize.minFileSize", str(small))
        self._spark.conf.set("spark.databricks.delta.optimize.maxFileSize", str(4 * small))
        self._spark.sql(statement)


def plans(root: str, tables: Sequence[Table], settings: Maintenance, cluster: bool) -> list[Plan]:
    """What the tables that have been made need, left to right."""
    now_ms = int(time.time() * 1000)
    return [plan(root, table, settings, cluster, now_ms) for table in tables if delta.exists(root, table)]


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lakehouse.maintenance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--table", action="append", choices=tuple(TABLES), metavar="TABLE", help="only this one")
    parser.add_argument(
        "--cluster", action="store_true", help="sort tables by source position; every file is rewritten"
    )
    parser.add_argument("--do", action="store_true", help="do it; without it, only say what would be done")
    given = parser.parse_args(argv)

    def work() -> None:
        settings = conf.load(given.env)
        configure(settings, "maintenance")
        root = conf.lake_root(settings)
        found = plans(root, [TABLES[name] for name in given.table or TABLES], settings.maintenance, given.cluster)
        for one in found:
            print(one.text())
        if given.do and found:
            with recorded(settings, "lakehouse.maintenance", "maintenance", tables=len(found)):
                _do(settings, found)

    return jobs.guarded(work)


def _do(settings: conf.Settings, found: Sequence[Plan]) -> None:
    from lakehouse.session import build_session

    upkeep = Upkeep(build_session(settings, "maintenance"), conf.lake_root(settings), settings.maintenance)
    failed: list[FraudlakeError] = []
    for one in found:
        try:
            left = upkeep.do(one)
        except FraudlakeError as error:  # a damaged table does not keep the others from being kept in order
            failed.append(error)
        else:
            print(f"{one.table.name}: done" + (f", but for {', '.join(left)}: a writer was faster" if left else ""))
    if failed:
        raise failed[0]


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
