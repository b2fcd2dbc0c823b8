"""Rows that Python workers make, written by the workers that make them.

A list of floats costs Spark more on its way from Arrow through rows into Parquet, value by value, than the features in
it cost to compute. So a worker writes what it makes as a Parquet file beside the table's others, and the driver commits
the files. A file of a task that died or was done twice is in no commit; vacuum removes it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow.compute as pc
from deltalake.transaction import AddAction
from pyspark.sql import DataFrame

from lakehouse.files import Batches, Writer
from lakehouse.tables import Table

_FILES_DDL = "path string, size bigint, stats string"


@dataclass(frozen=True)
class Made:
    """Rows of a table that `make`, a function for mapInArrow, makes of a frame's batches."""

    frame: DataFrame
    make: Callable[[Batches], Batches]
    table: Table

    def rows(self) -> DataFrame:
        """The rows as a frame."""
        return self.frame.mapInArrow(self.make, self.table.ddl.replace(" NOT NULL", ""))

    def written(self, root: str, where: pc.Expression) -> list[AddAction]:
        """The rows that `where` holds for, as Parquet files in the table's folder, to be committed."""
        assert not self.table.partition_by, f"{self.table.name} is partitioned; its files would need folders"
        writer = Writer(self.table, self.table.path(root), where)
        make = self.make  # the frame must not travel with it
        files = self.frame.mapInArrow(lambda batches: writer.written(make(batches)), _FILES_DDL).collect()
        now_ms = int(time.time() * 1000)
        return [AddAction(file["path"], file["size"], {}, now_ms, True, file["stats"]) for file in files]
