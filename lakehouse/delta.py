"""Reading Delta tables without Spark."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from pyarrow import fs

from lakehouse.tables import Table


def exists(root: str, table: Table) -> bool:
    """Whether the table has been made."""
    return DeltaTable.is_deltatable(table.path(root))


def dataset(table: DeltaTable) -> ds.Dataset:
    """The current rows of a table, to be scanned.

    On local disks Arrow reads the files itself. Through delta-rs's filesystem, which is Python, its read-ahead threads
    may still call into an interpreter that is ending, and the process aborts after its work is done.
    """
    if "://" in table.table_uri and not table.table_uri.startswith("file://"):
        return table.to_pyarrow_dataset()
    folder = table.table_uri.removeprefix("file://")
    return table.to_pyarrow_dataset(filesystem=fs.SubTreeFileSystem(folder, fs.LocalFileSystem()))


def rows(
    root: str, table: Table, columns: Sequence[str], where: pc.Expression | None = None, at_most: int | None = None
) -> pa.Table:
    """Columns of all rows, of those that `where` holds for, or of any `at_most`; no rows before the table exists."""
    if not exists(root, table):
        return pa.table({name: [] for name in columns})
    found = dataset(DeltaTable(table.path(root))).scanner(columns=list(columns), filter=where)
    return found.to_table() if at_most is None else found.head(at_most)


def count(root: str, table: Table) -> int:
    """How many rows a table has; 0 before it exists."""
    return int(dataset(DeltaTable(table.path(root))).count_rows()) if exists(root, table) else 0
