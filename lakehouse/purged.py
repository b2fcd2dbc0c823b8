"""The commits of a table that emptied records on request: how they are marked, and what cannot be read before one."""

from deltalake import DeltaTable

from lakehouse.errors import RangeMissing
from lakehouse.tables import Table

MARK = "fraudlake_purged"
"""In the metadata of a commit that empties records: the erasure that asked for it."""


def refuse_before(reader: DeltaTable, table: Table, version: int) -> None:
    """RangeMissing where a version is from before a purge: its files are gone."""
    for commit in reader.history(max(1, reader.version() - version)):
        if commit["version"] > version and MARK in (commit.get("userMetadata") or ""):
            raise RangeMissing(
                f"{table.name} cannot be read at version {version}: records were purged on request in version "
                f"{commit['version']}, and the files from before it are gone.",
                f"Read version {commit['version']} or a later one.",
            )
