"""The high-water record of a table, outside of its folder: how far it has come and what it held there.

Delta takes an empty last commit file for a commit of nothing, and a missing one for a table that never was so far: rows
are gone without an error. So every commit is followed by a record in `<lake root>/_high_water/<table>.json`: version,
digest of the commit file, rows, sum of the amounts. A table that is ahead of its record by valid commits (a crash came
in between, or another writer) only moves the record. One that is behind it, or different, is damaged.

The record is written beside its place, synced and renamed: whenever the process dies, the old or the new one is there.
"""

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import pyarrow as pa
from deltalake import DeltaTable
from pyarrow import fs

from lakehouse import checkpoints
from lakehouse.crash import crash_point
from lakehouse.errors import TableDamaged
from lakehouse.files import counted, filesystem, is_local
from lakehouse.log import logger
from lakehouse.tables import Table

FOLDER = "_high_water"
AMOUNTS = ("amount_minor", "amount_base_minor")
"""The column that is summed up: the first of these that a table has as whole minor units."""

EMPTY = "its last commit file is empty"
TORN = "its last commit file is torn"
MISSING = "its last commit file is missing"
OTHER = "its last commit file has other content than when it was written"
GONE = "its folder holds no table"
RECORD = "its high-water record cannot be read"
ROWS = "its files hold another number of rows than its commits have written"
UNREADABLE = "its log cannot be read"
FILE = "a data file cannot be read"
UNFINISHED = "a repair of it was begun and not finished"

_REPAIRED: set[tuple[str, str]] = set()
"""Root and name of the tables that this process repairs."""

Action = dict[str, Any]


@dataclass(frozen=True)
class Mark:
    """A table at one version."""

    version: int
    digest: str
    """SHA-256 of the commit file."""
    rows: int
    amount: int
    """Sum of the amount column, minor units; 0 for a table without one."""


def amount_column(table: Table) -> str | None:
    """The column that is summed up, if any."""
    whole = {column.name for column in table.columns if column.type == "bigint"}
    return next((name for name in AMOUNTS if name in whole), None)


def commit_name(version: int) -> str:
    """The path of a commit file within its table's folder."""
    return f"_delta_log/{version:020d}.json"


def digest_of(raw: bytes) -> str:
    """How a commit file is recognised."""
    return sha256(raw).hexdigest()


def content(store: fs.FileSystem, path: str) -> bytes | None:
    """The bytes of a file; None where there is none."""
    try:
        with store.open_input_file(path) as file:
            return bytes(file.read())
    except FileNotFoundError:
        return None


def actions_of(raw: bytes) -> list[Action] | None:
    """The actions of a commit file; None for a torn one."""
    try:
        found = [orjson.loads(line) for line in raw.splitlines()]
    except orjson.JSONDecodeError:
        return None
    return found if all(isinstance(action, dict) for action in found) else None


def fault_of(raw: bytes) -> str | None:
    """What is wrong with the content of a commit file, if anything."""
    if not raw.strip(b"\0\r\n "):
        return EMPTY
    return TORN if actions_of(raw) is None else None


def held(root: str, table: Table) -> Mark | None:
    """The record; None before there is one, TableDamaged where it is no record."""
    raw = content(filesystem(root), f"{FOLDER}/{table.name}.json")
    if raw is None:
        return None
    try:
        return Mark(**orjson.loads(raw))
    except (orjson.JSONDecodeError, TypeError):
        raise TableDamaged(table.name, -1, RECORD) from None


def keep_up(root: str, table: Table) -> Mark | None:
    """The record, moved on to the table's last commit; None before the table is made.

    TableDamaged where the table is behind its record or different.
    """
    before = held(root, table)
    store = filesystem(table.path(root))
    if before is None:
        if content(store, commit_name(0)) is None and not DeltaTable.is_deltatable(table.path(root)):
            return None
        return _kept(root, table, begun(root, table))
    mark = _moved(root, store, table, before)
    return before if mark == before else _kept(root, table, mark)


def _moved(root: str, store: fs.FileSystem, table: Table, mark: Mark) -> Mark:
    raw = content(store, commit_name(mark.version))
    if raw is None:
        if not log_names(store):
            raise TableDamaged(table.name, mark.version, GONE)
        if not _cleaned(store, mark.version):
            raise TableDamaged(table.name, mark.version, MISSING)
        return begun(root, table)
    if digest_of(raw) != mark.digest:
        raise TableDamaged(table.name, mark.version, fault_of(raw) or OTHER)
    while (raw := content(store, commit_name(mark.version + 1))) is not None:
        if fault := fault_of(raw):
            raise TableDamaged(table.name, mark.version + 1, fault)
        try:
            mark = advanced(store, table, mark, raw)
        except OSError:  # vacuumed since: what is there now has to be counted as a whole
            return begun(root, table)
    return mark


def log_names(store: fs.FileSystem) -> list[str]:
    """What lies in the log's folder; nothing where there is none."""
    return [i.base_name for i in store.get_file_info(fs.FileSelector("_delta_log", allow_not_found=True))]


def _cleaned(store: fs.FileSystem, version: int) -> bool:
    """Whether a commit file is rightly gone: a checkpoint holds what it did, and there are commits after it."""
    names = log_names(store)
    later = [n for n in names if n.endswith(".json") and n[:20].isdigit() and int(n[:20]) > version]
    return bool(later) and max(checkpoints.whole(names), default=-1) >= version


def advanced(store: fs.FileSystem, table: Table, mark: Mark, raw: bytes) -> Mark:
    """The record after one more commit; OSError where a file that it names cannot be read."""
    column, rows, amount = amount_column(table), mark.rows, mark.amount
    for action in actions_of(raw) or []:
        for name, sign in (("add", 1), ("remove", -1)):
            file = action.get(name)
            if file is None or not file.get("dataChange", True):
                continue
            stats = orjson.loads(file.get("stats") or "{}")
            if column is None and "numRecords" in stats:
                rows += sign * stats["numRecords"]
                continue
            found = counted(store, unquote(file["path"]), column)
            rows, amount = rows + sign * found[0], amount + sign * found[1]
    return Mark(mark.version + 1, digest_of(raw), rows, amount)


def begun(root: str, table: Table) -> Mark:
    """The record of a table as it is, counted file by file: where there is no record to go on from."""
    reader = readable(root, table, -1)
    store, column = filesystem(table.path(root)), amount_column(table)
    raw = content(store, commit_name(reader.version()))
    if raw is None or (fault := fault_of(raw)):
        raise TableDamaged(table.name, reader.version(), MISSING if raw is None else fault or TORN)
    rows, amount = stated_rows(reader), 0
    if column is not None or rows is None:
        try:
            found = [counted(store, unquote(path), column) for path in paths(reader)]
        except OSError as error:
            raise TableDamaged(table.name, reader.version(), f"{FILE}: {said(error)}") from None
        rows, amount = sum(n for n, _ in found), sum(total for _, total in found)
    if reader.version() > 0:
        logger("high_water").warning("there was no record to go on from", table=table.name, version=reader.version())
    return Mark(reader.version(), digest_of(raw), rows, amount)


def paths(reader: DeltaTable) -> list[str]:
    """The data files of a version, as its log spells them."""
    return [str(path) for path in pa.table(reader.get_add_actions(flatten=True)).column("path").to_pylist()]


def stated_rows(reader: DeltaTable) -> int | None:
    """Rows of a version as the statistics of its files have them; None where a file has none."""
    actions = pa.table(reader.get_add_actions(flatten=True))
    if actions.num_rows == 0:
        return 0
    found = actions.column("num_records").to_pylist() if "num_records" in actions.column_names else [None]
    return None if None in found else sum(found)


_OF_A_FILE = (FILE, "CRC checksum verification failed", "FILE_NOT_EXIST", "FILE_NOT_FOUND", "ChecksumException")
"""What Spark, or a worker that reads by itself, says of a data file that is damaged or lost."""


def recognised(root: str, error: BaseException) -> TableDamaged | None:
    """The table of this lake that an error of Spark's is about, where it is about a data file that cannot be read."""
    text = str(error)
    if not any(sign in text for sign in _OF_A_FILE):
        return None
    found = re.search(re.escape(root.removeprefix("file://").rstrip("/")) + r"/(\w+)/(\w+)/([\w=./-]+\.parquet)", text)
    return found and TableDamaged(f"{found[1]}.{found[2]}", -1, f"{FILE}: {found[3]}")


def said(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def readable(root: str, table: Table, version: int) -> DeltaTable:
    """The table, for reading; TableDamaged where its log cannot be read."""
    try:
        return DeltaTable(table.path(root))
    except Exception as error:  # delta-rs raises errors of many kinds over a broken log
        raise TableDamaged(table.name, version, f"{UNREADABLE}: {said(error)}") from None


def note_path(table: Table) -> str:
    """Where an open repair of a table is noted, under the lake root."""
    return f"{FOLDER}/{table.name}.repair.json"


@contextmanager
def repaired(root: str, tables: Iterable[Table]) -> Iterator[None]:
    """Within it, this process opens tables whose repair is open: it and the jobs that it runs make their rows again."""
    these = {(root, table.name) for table in tables} - _REPAIRED
    _REPAIRED.update(these)
    try:
        yield
    finally:
        _REPAIRED.difference_update(these)


def opened(root: str, table: Table) -> DeltaTable:
    """A table that has been made, at its last version, after a look at its record; TableDamaged as `keep_up`.

    Refused too between the begin of a repair and its end: rows are lacking then that are to come back.
    """
    if (root, table.name) not in _REPAIRED and content(filesystem(root), note_path(table)) is not None:
        raise TableDamaged(table.name, -1, UNFINISHED)
    while True:
        mark = keep_up(root, table)
        reader = readable(root, table, -1 if mark is None else mark.version)
        if mark is None or reader.version() == mark.version:
            break
        if reader.version() < mark.version:
            raise TableDamaged(table.name, mark.version, MISSING)
    rows = stated_rows(reader)
    if mark is not None and rows is not None and rows != mark.rows:
        raise TableDamaged(table.name, mark.version, f"{ROWS}: {rows:,} instead of {mark.rows:,}")
    return reader


def _kept(root: str, table: Table, mark: Mark) -> Mark:
    with suppress(PermissionError):  # who may only read leaves it to the next writer
        keep(root, table, mark)
    return mark


def keep(root: str, table: Table, mark: Mark, anyway: bool = False) -> None:
    """Write a record, unless another writer has come further; `anyway` also over one that is wrong."""
    raw, name = orjson.dumps(asdict(mark)), f"{table.name}.json"
    if not is_local(root):  # whoever is last wins, and a record that is behind moves on
        put(root, name, raw)
        return
    folder = Path(root.removeprefix("file://")) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f"{table.name}.lock"):
        if anyway or (now := held(root, table)) is None or now.version < mark.version:
            put(root, name, raw)


def put(root: str, name: str, raw: bytes) -> None:
    """Write a file of the folder, for good: whenever the process dies, the old content or the new one is there."""
    if not is_local(root):  # an object appears whole or not at all
        with filesystem(root).open_output_stream(f"{FOLDER}/{name}") as out:
            out.write(raw)
        return
    folder = Path(root.removeprefix("file://")) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{name.removesuffix('.json')}.new"
    with beside.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    crash_point("high-water-beside")
    beside.replace(folder / name)
    crash_point("high-water-renamed")
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
