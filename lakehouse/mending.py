"""How a damaged table is made sound again: what is bad is put aside, never deleted, and the table goes on without it.

Nothing here brings rows back; `lakehouse.repair` has them made again afterwards.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import unquote

import orjson
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.transaction import AddAction, RemoveAction
from pyarrow import fs

from lakehouse import delta, high_water
from lakehouse.crash import crash_point
from lakehouse.damage import Offsets
from lakehouse.files import filesystem
from lakehouse.tables import Table

ASIDE = "_damaged"
_HINTS = ("_last_checkpoint", "._last_checkpoint.crc")
"""Where the newest checkpoint is; a table is read without it too."""


def note(root: str, table: Table, offsets: Offsets) -> None:
    """Write down that a repair is open, before anything is changed."""
    path, raw = high_water.note_path(table), orjson.dumps({key: list(span) for key, span in offsets.items()})
    high_water.put(root, path.removeprefix(f"{high_water.FOLDER}/"), raw)


def done(root: str, table: Table) -> None:
    """The repair is not open any more."""
    filesystem(root).delete_file(high_water.note_path(table))


def cut(root: str, table: Table, good: int) -> str:
    """Put every commit and checkpoint after version `good` aside; the folder under the lake root that holds them.

    The data files of these commits stay where they are, in no version; vacuum removes them. With no good version the
    table is made anew, empty.
    """
    store, aside = filesystem(root), _aside(table)
    log = f"{table.path('')[1:]}/_delta_log"
    names = [info.base_name for info in store.get_file_info(fs.FileSelector(log, allow_not_found=True))]
    bad = [name for name in names if _version(name) > good]
    _moved(store, log, aside, sorted({*bad, *(name for name in names if name in _HINTS)}, key=_version, reverse=True))
    crash_point("repair-log-cut")
    if good < 0:
        _forget(root, table)
        delta.ensure(root, table)
    else:
        rebuilt(root, table)
    return aside


def without(root: str, table: Table, checkpoints: Iterable[str]) -> str:
    """Put checkpoints aside, and what says which is the newest; the folder that holds them. No row is lost."""
    store, aside = filesystem(root), _aside(table)
    log = f"{table.path('')[1:]}/_delta_log"
    names = {info.base_name for info in store.get_file_info(fs.FileSelector(log))}
    # What points at them goes first: after a crash in between they are still found.
    _moved(store, log, aside, [name for name in _HINTS if name in names])
    _moved(store, log, aside, sorted(names & {path.rpartition("/")[2] for path in checkpoints}, reverse=True))
    return aside


def drop(root: str, table: Table, paths: Iterable[str]) -> str:
    """Put data files aside and take them out of the table, in one commit; the folder that holds them."""
    store, aside, listed = filesystem(root), _aside(table), list(paths)
    reader = DeltaTable(table.path(root))
    actions = pa.table(reader.get_add_actions(flatten=True)).to_pylist()
    sizes = {action["path"]: action["size_bytes"] for action in actions}
    gone: list[AddAction | RemoveAction] = [
        RemoveAction(path, True, int(time.time() * 1000), sizes[path]) for path in listed if path in sizes
    ]
    told = orjson.dumps({"fraudlake_dropped": listed}).decode()
    properties = CommitProperties({"userMetadata": told}, 0)
    reader.create_write_transaction(gone, "append", reader.schema(), commit_properties=properties)
    crash_point("repair-files-dropped")
    for path in map(unquote, listed):
        folder, _, name = f"{table.path('')[1:]}/{path}".rpartition("/")
        if store.get_file_info(f"{folder}/{name}").type != fs.FileType.NotFound:
            _moved(store, folder, aside, [name])
    rebuilt(root, table)
    return aside


def rebuilt(root: str, table: Table) -> None:
    """Make the table's record anew from what its files hold."""
    _forget(root, table)
    high_water.keep(root, table, high_water.begun(root, table), anyway=True)


def _forget(root: str, table: Table) -> None:
    store, path = filesystem(root), f"{high_water.FOLDER}/{table.name}.json"
    if store.get_file_info(path).type != fs.FileType.NotFound:
        _moved(store, high_water.FOLDER, _aside(table), [f"{table.name}.json"])


def _aside(table: Table) -> str:
    return f"{ASIDE}/{table.name}/{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"


def _version(name: str) -> int:
    digits = name.removeprefix(".")[:20]
    return int(digits) if len(digits) == 20 and digits.isdigit() else -1


def _moved(store: fs.FileSystem, folder: str, aside: str, names: Iterable[str]) -> None:
    store.create_dir(aside, recursive=True)
    for name in names:  # the newest first: a crash in between leaves a log without a gap
        store.move(f"{folder}/{name}", f"{aside}/{name}")
