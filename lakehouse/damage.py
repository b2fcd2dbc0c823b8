"""What is damaged in a table, found by looking at all of it: its log, its record, every page of its files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyarrow import fs

from lakehouse import checkpoints, high_water
from lakehouse.errors import TableDamaged
from lakehouse.files import counted, filesystem
from lakehouse.high_water import GONE, MISSING, OTHER, RECORD, UNFINISHED, UNREADABLE, Mark
from lakehouse.tables import Table

LOST_FILE = "a data file is not there"
DAMAGED_FILE = "a data file is not what was written"
WRONG_RECORD = "its high-water record tells of other rows or amounts than its files hold"
CHECKPOINT = "a checkpoint of its log cannot be read"

Kind = Literal["log", "checkpoint", "file", "record", "unfinished"]
Offsets = Mapping[str, tuple[int, int]]
"""[start, end) of source offsets by `topic_id/partition`."""
TO_THE_END = "*"
"""As a key of them: and everything from the table's end on."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a table, at its version."""

    table: Table
    kind: Kind
    symptom: str
    version: int
    good: int = -1
    """Of a damaged log: the last version before the damage, -1 when there is none."""
    files: tuple[str, ...] = ()
    """Of lost or damaged data files and of torn checkpoints: their paths in the table's folder."""
    offsets: Offsets = field(default_factory=dict)
    """Source offsets that are concerned, as far as the log tells."""

    def text(self) -> str:
        """One line for people."""
        parts = [f"{self.table.name}, version {self.version}: {self.symptom}"]
        if self.kind == "log":
            parts.append(f"good up to version {self.good}" if self.good >= 0 else "no version is good")
        parts.extend(self.files)
        parts.extend(f"offsets {a} to {b} of {key}" for key, (a, b) in self.offsets.items())
        return "; ".join(parts)


def noted(root: str, table: Table) -> dict[str, tuple[int, int]] | None:
    """The offsets of an open repair; None when there is none."""
    raw = high_water.content(filesystem(root), high_water.note_path(table))
    return None if raw is None else {key: (a, b) for key, (a, b) in orjson.loads(raw).items()}


def look(root: str, table: Table) -> list[Finding]:
    """Everything that is wrong with a table; nothing for a sound one and for one that was never made.

    TableDamaged where it cannot be read although its commits and checkpoints are sound: nothing is known to mend then.
    """
    store = filesystem(table.path(root))
    found: list[Finding] = []
    mark: Mark | None = None
    try:
        mark = high_water.held(root, table)
    except TableDamaged:
        found.append(Finding(table, "record", RECORD, -1))
    in_log = _of_log(store, table, mark)
    if in_log is not None:
        found.append(in_log)
    elif high_water.log_names(store):
        found.extend(_of_files(root, store, table, mark if not found else None))
    open_repair = noted(root, table)
    if open_repair is not None:
        found.append(Finding(table, "unfinished", UNFINISHED, mark.version if mark else -1, offsets=open_repair))
    return found


def _of_log(
    store: fs.FileSystem, table: Table, mark: Mark | None, torn: frozenset[int] = frozenset()
) -> Finding | None:
    """The first version whose commit is not what it was, and the last good one before it.

    Commits before the newest checkpoint are not needed, unless that one is among the `torn` ones.
    """
    names = high_water.log_names(store)
    if not names:
        return None if mark is None else Finding(table, "log", GONE, mark.version)
    numbered = [(int(name[:20]), name) for name in names if name[:20].isdigit()]
    commits = sorted(n for n, name in numbered if name[20:] == ".json")
    base = max(checkpoints.whole(names).keys() - torn, default=-1)
    last = max([*commits, mark.version if mark else -1, base])
    begin = min(base + 1, mark.version if mark else base + 1)
    for version in range(begin, last + 1):
        raw = high_water.content(store, high_water.commit_name(version))
        fault = MISSING if raw is None else high_water.fault_of(raw)
        if raw is None and version <= base and commits and commits[-1] > version:
            continue  # cleaned up behind a checkpoint
        if raw is not None and fault is None and mark and version == mark.version:
            fault = OTHER if high_water.digest_of(raw) != mark.digest else None
        if fault is not None:
            return Finding(table, "log", fault, last, version - 1)
    return None


def _of_checkpoints(store: fs.FileSystem, table: Table, mark: Mark | None, error: Exception) -> Finding:
    """Which checkpoints keep a table of sound commits from being read; a damaged log where commits lack without them.

    TableDamaged where every checkpoint can be read: the store does not answer, say, and no commit is to go for that.
    """
    held = checkpoints.whole(high_water.log_names(store))
    torn = {n: names for n, names in held.items() if any(checkpoints.fault_of(store, name) for name in names)}
    version = mark.version if mark else -1
    if not torn:
        what = f"{UNREADABLE}, though its commits and checkpoints can: {high_water.said(error)}; look at its store"
        raise TableDamaged(table.name, version, what) from error
    without = _of_log(store, table, mark, frozenset(torn))
    paths = tuple(f"_delta_log/{name}" for n in sorted(torn, reverse=True) for name in sorted(torn[n]))
    return without or Finding(table, "checkpoint", CHECKPOINT, version, files=paths)


def _of_files(root: str, store: fs.FileSystem, table: Table, mark: Mark | None) -> list[Finding]:
    try:
        reader = DeltaTable(table.path(root))
        actions = pa.table(reader.get_add_actions(flatten=True)).to_pylist()
    except Exception as error:  # delta-rs raises errors of many kinds over a broken log
        return [_of_checkpoints(store, table, mark, error)]
    bad: dict[str, list[dict[str, object]]] = {}
    for action in actions:
        if (symptom := _fault_of_file(store, unquote(action["path"]), action["size_bytes"])) is not None:
            bad.setdefault(symptom, []).append(action)
    found = [
        Finding(
            *(table, "file", symptom, reader.version()),
            files=tuple(str(action["path"]) for action in those),
            offsets=_offsets(table, those),
        )
        for symptom, those in bad.items()
    ]
    if not found and mark is not None and mark.version == reader.version():
        held = [counted(store, unquote(a["path"]), high_water.amount_column(table)) for a in actions]
        if (sum(rows for rows, _ in held), sum(amount for _, amount in held)) != (mark.rows, mark.amount):
            found.append(Finding(table, "record", WRONG_RECORD, reader.version()))
    return found


def _fault_of_file(store: fs.FileSystem, path: str, size: int) -> str | None:
    try:
        with pq.ParquetFile(store.open_input_file(path), page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
    except FileNotFoundError:
        return LOST_FILE
    except (OSError, pa.ArrowException):
        return DAMAGED_FILE
    return None if store.get_file_info(path).size == size else DAMAGED_FILE


def _offsets(table: Table, actions: list[dict[str, object]]) -> Offsets:
    """Least and largest offset of files, by the statistics of the log; all of them where it has none."""
    if table.position is None:
        return {}
    topic_id, partition, offset = table.position
    first = "start_offset" if "start_offset" in table.column_names else offset
    out: dict[str, tuple[int, int]] = {}
    for action in actions:
        if action.get("num_records") == 0:
            continue
        key = f"{action.get(f'min.{topic_id}')}/{action.get(f'min.{partition}')}"
        low, high = action.get(f"min.{first}"), action.get(f"max.{offset}")
        if not isinstance(low, int) or not isinstance(high, int):
            return {}
        a, b = out.get(key, (low, high + 1))
        out[key] = min(a, low), max(b, high + 1)
    return out
