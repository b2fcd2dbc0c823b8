"""The high-water records of the tables, by a reader of its own: whether a table is one that was set back.

Without its last commits a table reads like one that has not come further, and an emptied commit file like a commit of
nothing. The record beside the tables, `_high_water/<table>.json`, says version and SHA-256 of the last commit file.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from audit.errors import CannotLook
from audit.tables import Table, filesystem

FOLDER = "_high_water"


@dataclass(frozen=True)
class Mark:
    """A version that a table has had, and the SHA-256 of its commit file."""

    version: int
    digest: str


def _content(path: str) -> bytes | None:
    try:
        where, inside = filesystem(path)
        with where.open_input_file(inside) as file:
            return bytes(file.read())
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        raise CannotLook(f"{path} cannot be read ({type(error).__name__}).", "Look at disk and rights.") from None


def read(root: str, names: Iterable[str]) -> Mapping[str, Mark]:
    """The records that there are; read them before the tables are opened, which only move on meanwhile."""
    found = {}
    for name in names:
        raw = _content(f"{root}/{FOLDER}/{name}.json")
        try:
            told = None if raw is None else json.loads(raw)
            if told is not None:
                found[name] = Mark(int(told["version"]), str(told["digest"]))
        except (ValueError, KeyError, TypeError):
            raise CannotLook(f"The high-water record of {name} is none.", _mend(name)) from None
    return found


def refuse_set_back(tables: Iterable[Table], marks: Mapping[str, Mark]) -> None:
    """CannotLook for a table that is behind its record, or whose commit is another one than was recorded."""
    for table in tables:
        mark = marks.get(table.name)
        if mark is None:
            continue
        if table.version < mark.version:
            is_at = "is not there" if table.version < 0 else f"is at version {table.version}"
            raise CannotLook(
                f"{table.name} {is_at}, its high-water record tells of version {mark.version}: commits are lost.",
                _mend(table.name),
            )
        # Maintenance removes old commit files; the last one stays.
        raw = _content(f"{table.path}/_delta_log/{mark.version:020d}.json")
        if raw is not None and hashlib.sha256(raw).hexdigest() != mark.digest:
            raise CannotLook(
                f"Commit {mark.version} of {table.name} is not the one that its high-water record tells of.",
                _mend(table.name),
            )


def _mend(name: str) -> str:
    return f"python -m lakehouse.repair --table {name}"
