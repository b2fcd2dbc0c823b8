"""Which versions of other tables a table was made from, as its commits recorded it."""

from typing import Any

import orjson
from deltalake import DeltaTable as DeltaReader

from lakehouse.delta import exists, opened
from lakehouse.storage import SOURCES
from lakehouse.tables import Table


def sources(root: str, table: Table, version: int) -> dict[str, Any]:
    """What the commit of a version recorded as its sources; nothing where it recorded none."""
    commits = DeltaReader(table.path(root)).history() if exists(root, table) else []
    metadata = next((commit.get("userMetadata") for commit in commits if commit["version"] == version), None)
    found: dict[str, Any] = orjson.loads(metadata).get(SOURCES, {}) if metadata else {}
    return found


def version_with_sources(root: str, table: Table) -> int | None:
    """The last version whose commit recorded its sources; None where none is known."""
    for commit in opened(root, table).history() if exists(root, table) else []:
        if SOURCES in orjson.loads(commit.get("userMetadata") or "{}"):
            return int(commit["version"])
    return None
