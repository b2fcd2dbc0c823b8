"""Rows that are to be appended, written as Parquet by the workers that make them; the driver commits the files.

Spark's own Delta writer would read a table's whole state for every commit that has to be refused when another writer
came first, and turns every value that a Python worker made into part of a row and back. A file of a task that died or
was done twice is in no commit; vacuum removes it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.transaction import AddAction
from pyspark.sql import DataFrame, SparkSession

from lakehouse.files import Batches, Writer, added
from lakehouse.tables import Table

_TOLD_DDL = "path string, size bigint, values string, stats string"


@dataclass(frozen=True)
class Made:
    """Rows of a table that `make`, a function for mapInArrow, makes of a frame's batches."""

    frame: DataFrame
    make: Callable[[Batches], Batches]
    table: Table


Rows: TypeAlias = DataFrame | Made | pa.Table
"""Rows of one table, with the contract's columns in its order; an Arrow table is written where it is."""


def as_frame(rows: Rows) -> DataFrame:
    """The rows as a frame."""
    if isinstance(rows, Made):
        return rows.frame.mapInArrow(rows.make, rows.table.ddl.replace(" NOT NULL", ""))
    return SparkSession.active().createDataFrame(rows) if isinstance(rows, pa.Table) else rows


def written(rows: Rows, root: str, table: Table, where: pc.Expression) -> list[AddAction]:
    """The rows that `where` holds for, as Parquet files in the table's folder, to be committed."""
    writer = Writer(table, table.path(root), where)
    if isinstance(rows, pa.Table):
        return added(file for told in writer.written(rows.to_batches()) for file in told.to_pylist())
    if isinstance(rows, Made):
        make = rows.make  # the frame must not travel with it
        told = rows.frame.mapInArrow(lambda batches: writer.written(make(batches)), _TOLD_DDL)
    else:
        told = rows.mapInArrow(writer.written, _TOLD_DDL)
    return added(row.asDict() for row in told.collect())
