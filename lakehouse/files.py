"""Parquet files of tables, with page checksums: written, verified when they are read, and counted.

Delta's own writer in Rust writes no page checksums, and without them two of three flipped bits in a data file are read
as another value and nobody notices. So small appends are written by Arrow too; Spark writes them by default.
"""

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake.fs import DeltaStorageHandler
from pyarrow import fs

from lakehouse.errors import ContractBroken
from lakehouse.tables import Table

Batches = Iterable[pa.RecordBatch]

GROUP_ROWS = 65_536
"""Rows of a row group: with a vector of a kilobyte some 60 MB."""
FORMAT = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True, page_checksum_verification=True)
)
"""How data files are scanned."""

_ARROW = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "array<string>": pa.list_(pa.field("element", pa.string())),
    "array<float>": pa.list_(pa.field("element", pa.float32())),
}


def arrow_schema(table: Table) -> pa.Schema:
    """The table's columns as Arrow has them."""
    return pa.schema([pa.field(c.name, _ARROW[c.type], nullable=c.nullable) for c in table.columns])


@dataclass(frozen=True)
class Writer:
    """Writes the rows of one task, or of one small append, as one file; those alone that `where` holds for."""

    table: Table
    folder: str
    where: pc.Expression | None = None

    def written(self, batches: Batches) -> Iterator[pa.RecordBatch]:
        """One row that tells of the file; none where there are no rows."""
        groups = self._groups(batches)
        first = next(groups, None)
        if first is None:
            return
        name, files = f"part-{uuid.uuid4()}.snappy.parquet", filesystem(self.folder)
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
        found = batch if self.where is None else batch.filter(self.where)
        for column in self.table.columns:
            if not column.nullable and found.column(column.name).null_count:
                raise ContractBroken(f"Rows made for {self.table.name} lack {column.name}.")
        return pa.RecordBatch.from_arrays(found.columns, schema=wanted)


class _Sink:
    """What delta-rs writes an object through takes bytes alone, and Arrow hands on buffers."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink

    def write(self, data: Any) -> int:
        return int(self._sink.write(bytes(data)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)


class Objects(DeltaStorageHandler):
    """An object store, through delta-rs."""

    def open_output_stream(self, path: str, metadata: dict[str, str] | None = None) -> pa.PythonFile:
        """A new object, there as a whole when it is closed."""
        return pa.PythonFile(_Sink(self._handler.open_output_stream(path, metadata)), "w")


def filesystem(folder: str) -> fs.FileSystem:
    """What lies in a folder, by relative paths: of this machine, or of an object store through delta-rs."""
    if "://" in folder and not folder.startswith("file://"):
        return fs.PyFileSystem(Objects(folder))
    return fs.SubTreeFileSystem(str(Path(folder.removeprefix("file://"))), fs.LocalFileSystem())


def verified(found: ds.Dataset) -> ds.Dataset:
    """The same files, with the checksums of their pages verified when they are read."""
    parts = [
        FORMAT.make_fragment(part.path, filesystem=part.filesystem, partition_expression=part.partition_expression)
        for part in found.get_fragments()
    ]
    return ds.FileSystemDataset(parts, found.schema, FORMAT, found.filesystem)


def counted(store: fs.FileSystem, path: str, column: str | None) -> tuple[int, int]:
    """Rows of a file and the sum of one of its columns (0 without one); OSError where it is lost or damaged."""
    with pq.ParquetFile(store.open_input_file(path), page_checksum_verification=True) as file:
        if column is None or column not in file.schema_arrow.names:
            return file.metadata.num_rows, 0
        return file.metadata.num_rows, pc.sum(file.read([column]).column(0)).as_py() or 0


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
