"""Delta tables without Spark: making, reading and small appends."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable, Field, write_deltalake
from deltalake import Schema as DeltaSchema
from deltalake.schema import ArrayType, PrimitiveType
from pyarrow import fs

from lakehouse import lineage
from lakehouse.errors import ContractBroken
from lakehouse.tables import Table

_PROPERTIES: Mapping[str, str | None] = {
    "delta.checkpointInterval": "50",
    "delta.dataSkippingNumIndexedCols": "8",
}
"""Every commit writes a checkpoint's worth of JVM work when it is due; statistics of late columns help no query."""


def exists(root: str, table: Table) -> bool:
    """Whether the table has been made."""
    return DeltaTable.is_deltatable(table.path(root))


def ensure(root: str, table: Table) -> None:
    """Make the table when it is not there, else add nullable columns that are new; Spark's way takes a second a table.

    ContractBroken where a new column may not be null: what is there has no value for it.
    """
    fields = [Field(c.name, _type(c.type), nullable=c.nullable, metadata={"comment": c.meaning}) for c in table.columns]
    if exists(root, table):
        reader = DeltaTable(table.path(root))
        held = {field.name for field in reader.schema().fields}
        new = [field for field in fields if field.name not in held]
        if required := [field.name for field in new if not field.nullable]:
            raise ContractBroken(
                f"{table.name} was made without {', '.join(required)}, which may not be null.",
                "Make the table again under a new lake root.",
            )
        if new:
            reader.alter.add_columns(new)
        return
    DeltaTable.create(
        table.path(root),
        DeltaSchema(fields),
        mode="ignore",
        partition_by=list(table.partition_by) or None,
        description=table.meaning,
        configuration=_PROPERTIES,
    )


def _type(name: str) -> PrimitiveType | ArrayType:
    if name.startswith("array<"):
        return ArrayType(PrimitiveType(name[6:-1]), contains_null=True)
    return PrimitiveType({"int": "integer", "bigint": "long"}.get(name, name))


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


def append(root: str, table: Table, found: Sequence[Mapping[str, Any]]) -> None:
    """Append a few rows in one commit; the table is made when it is not there. Any number of processes may."""
    ensure(root, table)
    write_deltalake(table.path(root), pa.Table.from_pylist(list(found), arrow_schema(table)), mode="append")


def dataset(table: DeltaTable) -> ds.Dataset:
    """The current rows of a table, to be scanned.

    On local disks Arrow reads the files itself. Through delta-rs's filesystem, which is Python, its read-ahead threads
    may still call into an interpreter that is ending, and the process aborts after its work is done.
    """
    lineage.read(".".join(table.table_uri.rstrip("/").rsplit("/", 2)[-2:]), table.version())
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


def count(root: str, table: Table, where: pc.Expression | None = None) -> int:
    """How many rows a table has, or of those that `where` holds for; 0 before it exists."""
    return int(dataset(DeltaTable(table.path(root))).count_rows(filter=where)) if exists(root, table) else 0
