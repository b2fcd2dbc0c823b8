"""Rows that Python workers make, written by the workers that make them.

A list of floats costs Spark more on its way from Arrow through rows into Parquet, value by value, than the features in
it cost to compute. So a worker writes what it makes as a Parquet file beside the table's others, and the driver commits
the files. A file of a task that died or was done twice is in no commit; vacuum removes it.
"""

import datetime as dt
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction
from pyarrow import fs
from pyspark.sql import DataFrame

from lakehouse.delta import arrow_schema
from lakehouse.errors import ContractBroken
from lakehouse.tables import Table

Batches = Iterable[pa.RecordBatch]

GROUP_ROWS = 65_536
"""Rows of a row group: with a vector of a kilobyte some 60 MB."""
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
        writer = _Writer(self.table, self.table.path(root), where)
        make = self.make  # the frame must not travel with it
        files = self.frame.mapInArrow(lambda batches: writer.written(make(batches)), _FILES_DDL).collect()
        now_ms = int(time.time() * 1000)
        return [AddAction(file["path"], file["size"], {}, now_ms, True, file["stats"]) for file in files]


@dataclass(frozen=True)
class _Writer:
    """Writes one task's rows as one file."""

    table: Table
    folder: str
    where: pc.Expression

    def written(self, batches: Batches) -> Iterator[pa.RecordBatch]:
        """One row that tells of the file; none where there are no rows."""
        groups = self._groups(batches)
        first = next(groups, None)
        if first is None:
            return
        name, files = f"part-{uuid.uuid4()}.snappy.parquet", _filesystem(self.folder)
        told = _Told(self.table)
        with pq.ParquetWriter(
            name,
            arrow_schema(self.table),
            filesystem=files,
            compression="snappy",
            use_dictionary=[c.name for c in self.table.columns if c.type == "string"],
            write_page_checksum=True,
        ) as file:
            for group in (first, *groups):
                file.write_table(group, row_group_size=GROUP_ROWS)
                told.add(group)
        size = files.get_file_info(name).size
        yield pa.RecordBatch.from_pylist([{"path": name, "size": size, "stats": told.stats()}])

    def _groups(self, batches: Batches) -> Iterator[pa.Table]:
        held: list[pa.RecordBatch] = []
        for batch in batches:
            held.append(self._within(batch))
            if sum(one.num_rows for one in held) >= GROUP_ROWS:
                yield pa.Table.from_batches(held)
                held = []
        if sum(one.num_rows for one in held):
            yield pa.Table.from_batches(held)

    def _within(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch's rows that are wanted, as the contract has them; ContractBroken where they are others."""
        wanted = arrow_schema(self.table)
        have = pa.schema([field.remove_metadata() for field in batch.schema])
        if have.names != wanted.names or have.types != wanted.types:
            raise ContractBroken(
                f"Rows made for {self.table.name} differ from its contract: {have}, expected {wanted}."
            )
        found = batch.filter(self.where)
        for column in self.table.columns:
            if not column.nullable and found.column(column.name).null_count:
                raise ContractBroken(f"Rows made for {self.table.name} lack {column.name}.")
        return pa.RecordBatch.from_arrays(found.columns, schema=wanted)


def _filesystem(folder: str) -> fs.FileSystem:
    if "://" in folder and not folder.startswith("file://"):
        return fs.PyFileSystem(DeltaStorageHandler(folder))
    return fs.SubTreeFileSystem(str(Path(folder.removeprefix("file://"))), fs.LocalFileSystem())


class _Told:
    """What Delta is told of a file's rows: their number, least and largest values and nulls of the plain columns."""

    def __init__(self, table: Table) -> None:
        self._columns = [c.name for c in table.columns if not c.type.startswith("array")]
        self._rows = 0
        self._least: dict[str, Any] = {}
        self._largest: dict[str, Any] = {}
        self._nulls = dict.fromkeys(self._columns, 0)

    def add(self, rows: pa.Table) -> None:
        self._rows += rows.num_rows
        for name in self._columns:
            self._nulls[name] += rows.column(name).null_count
            found = pc.min_max(rows.column(name)).as_py()
            if found["min"] is not None:
                self._least[name] = min(self._least.get(name, found["min"]), found["min"])
                self._largest[name] = max(self._largest.get(name, found["max"]), found["max"])

    def stats(self) -> str:
        """As the Delta protocol writes it: times in milliseconds, the largest rounded up."""
        least = {name: _text(value) for name, value in self._least.items()}
        largest = {name: _text(value, up=True) for name, value in self._largest.items()}
        told = {"numRecords": self._rows, "minValues": least, "maxValues": largest, "nullCount": self._nulls}
        return orjson.dumps(told).decode()


def _text(value: Any, up: bool = False) -> Any:
    if not isinstance(value, dt.datetime):
        return value
    later = value + dt.timedelta(microseconds=999 if up else 0)
    return later.strftime("%Y-%m-%dT%H:%M:%S.") + f"{later.microsecond // 1000:03d}Z"
