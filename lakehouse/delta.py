"""Reading Delta tables without Spark."""

import pyarrow.dataset as ds
from deltalake import DeltaTable
from pyarrow import fs


def dataset(table: DeltaTable) -> ds.Dataset:
    """The current rows of a table, to be scanned.

    On local disks Arrow reads the files itself. Through delta-rs's filesystem, which is Python, its read-ahead threads
    may still call into an interpreter that is ending, and the process aborts after its work is done.
    """
    if "://" in table.table_uri and not table.table_uri.startswith("file://"):
        return table.to_pyarrow_dataset()
    folder = table.table_uri.removeprefix("file://")
    return table.to_pyarrow_dataset(filesystem=fs.SubTreeFileSystem(folder, fs.LocalFileSystem()))
