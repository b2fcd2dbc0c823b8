"""Parquet files of tables, with page checksums: written, verified when they are read, and counted.

Delta's own writer in Rust writes no page checksums, and without them two of three flipped bits in a data file are read
as another value and nobody notices. So what is appended is written by Arrow; Spark writes them where it overwrites.
"""

import datetime as dt
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction
from pyarrow import fs

from lakehouse.errors import ContractBroken
from lakehouse.tables import Table

Batches = Iterable[pa.RecordBatch]

GROUP_ROWS = 65_536
"""Rows of a row group: with a vector of a kilobyte some 60 MB."""
TOLD = pa.schema({"path": pa.string(), "size": pa.int64(), "values": pa.string(), "stats": pa.string()})
"""Of a written file: path within the table's folder, bytes, values of the columns that part the table, statistics."""
STATISTICS = 8
"""Columns with statistics, unless the positions come later; those of late columns help no query."""
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


def statistics(table: Table) -> int:
    """How many of the first columns have statistics."""
    return max(STATISTICS, *(table.column_names.index(name) + 1 for name in table.position or ()), 0)


def arrow_schema(table: Table) -> pa.Schema:
    """The table's columns as Arrow has them."""
    return pa.schema([pa.field(c.name, _ARROW[c.type], nullable=c.nullable) for c in table.columns])


@dataclass(frozen=True)
class Writer:
    """Writes the rows of one task, or of a small append, a file a partition; those alone that `where` holds for."""

    table: Table
    folder: str
    where: pc.Expression | None = None

    def written(self, batches: Batches) -> Iterator[pa.RecordBatch]:
        """A row that tells of each file, as `TOLD`; none where there are no rows."""
        files: dict[tuple[str, ...], _File] = {}
        with ExitStack() as opened:
            for group in self._groups(batches):
                for values, rows in self._parts(group):
                    if values not in files:
                        files[values] = opened.enter_context(_File(self.table, self.folder, values))
                    files[values].add(rows)
        if files:
            yield pa.RecordBatch.from_pylist([file.told() for file in files.values()], TOLD)

    def _groups(self, batches: Batches) -> Iterator[pa.Table]:
        held: list[pa.RecordBatch] = []
        for batch in batches:
            held.append(self._within(batch))
            if sum(one.num_rows for one in held) >= GROUP_ROWS:
                yield pa.Table.from_batches(held)
                held = []
        if sum(one.num_rows for one in held):
            yield pa.Table.from_batches(held)

    def _parts(self, group: pa.Table) -> Iterator[tuple[tuple[str, ...], pa.Table]]:
        """Rows by the values of the columns that part the table, without those."""
        names = list(self.table.partition_by)
        if not names:
            yield (), group
            return
        for row in group.select(names).group_by(names).aggregate([]).to_pylist():
            here = reduce(and_, (pc.field(name) == row[name] for name in names))
            yield tuple(str(row[name]) for name in names), group.filter(here).drop_columns(names)

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


class _File(AbstractContextManager["_File"]):
    """One file while it is written."""

    def __init__(self, table: Table, folder: str, values: tuple[str, ...]) -> None:
        self._values = dict(zip(table.partition_by, values, strict=True))
        parts = [f"{name}={value}" for name, value in self._values.items()]
        self._path = "/".join([*parts, f"part-{uuid.uuid4()}.snappy.parquet"])
        self._files = filesystem(folder)
        if parts:
            self._files.create_dir("/".join(parts))
        columns = [c for c in table.columns if c.name not in table.partition_by]
        self._told = _Told([c.name for c in columns[: statistics(table)] if not c.type.startswith("array")])
        self._file = pq.ParquetWriter(
            self._path,
            pa.schema([arrow_schema(table).field(c.name) for c in columns]),
            filesystem=self._files,
            compression="snappy",
            use_dictionary=[c.name for c in columns if c.type == "string"],
            write_page_checksum=True,
        )

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, rows: pa.Table) -> None:
        """Write a group of rows."""
        self._file.write_table(rows, row_group_size=GROUP_ROWS)
        self._told.add(rows)

    def told(self) -> dict[str, Any]:
        """What Delta is told of the file, once it is closed."""
        size = self._files.get_file_info(self._path).size
        values = orjson.dumps(self._values).decode()
        return {"path": self._path, "size": size, "values": values, "stats": self._told.stats()}


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


def is_local(root: str) -> bool:
    """Whether a lake root is a folder of this machine."""
    return "://" not in root or root.startswith("file://")


def filesystem(folder: str) -> fs.FileSystem:
    """What lies in a folder, by relative paths: of this machine, or of an object store through delta-rs."""
    if "://" in folder and not folder.startswith("file://"):
        return fs.PyFileSystem(Objects(folder))
    return fs.SubTreeFileSystem(str(Path(folder.removeprefix("file://"))), fs.LocalFileSystem())


def added(files: Iterable[Mapping[str, Any]]) -> list[AddAction]:
    """Written files, to be committed."""
    now_ms = int(time.time() * 1000)
    return [
        AddAction(file["path"], file["size"], orjson.loads(file["values"]), now_ms, True, file["stats"])
        for file in files
    ]


def verified(found: ds.Dataset) -> ds.Dataset:
    """The same files, with the checksums of their pages verified when they are read."""
    parts = [
        FORMAT.make_fragment(part.path, filesystem=part.filesystem, partition_expression=part.partition_expression)
        for part in found.get_fragments()
    ]
    return ds.FileSystemDataset(parts, found.schema, FORMAT, found.filesystem)


def counted(store: fs.FileSystem, path: str, column: str | None) -> tuple[int, int]:
    """Rows of a file and the sum of one of its columns (0 without one); OSError where it is lost or damaged."""
    try:
        with pq.ParquetFile(store.open_input_file(path), page_checksum_verification=True) as file:
            if column is None or column not in file.schema_arrow.names:
                return file.metadata.num_rows, 0
            return file.metadata.num_rows, pc.sum(file.read([column]).column(0)).as_py() or 0
    except pa.ArrowException as error:  # of a file that is cut off or has another footer
        raise OSError(f"{path}: {error}") from error


class _Told:
    """What Delta is told of a file's rows: their number, least and largest values and nulls of the plain columns."""

    def __init__(self, columns: list[str]) -> None:
        self._columns = columns
        self._rows = 0
        self._least: dict[str, Any] = {}
        self._largest: dict[str, Any] = {}
        self._nulls = dict.fromkeys(self._columns, 0)

    def add(self, rows: pa.Table) -> None:
        self._rows += rows.num_rows
        for name in self._columns:
            self._nulls[name] += rows.column(name).null_count
            if pa.types.is_binary(rows.column(name).type):
                continue  # Delta has no least and largest of bytes
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
