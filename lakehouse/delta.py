"""Delta tables without Spark: making, reading and small appends."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Field
from deltalake import Schema as DeltaSchema
from deltalake.schema import ArrayType, PrimitiveType
from deltalake.transaction import AddAction, RemoveAction
from pyarrow import fs

from lakehouse import high_water, lineage
from lakehouse.crash import crash_point
from lakehouse.errors import ContractBroken, TableDamaged
from lakehouse.files import Writer, added, arrow_schema, statistics, verified
from lakehouse.spans import Span
from lakehouse.tables import Table

PROPERTIES: Mapping[str, str] = {
    # A checkpoint costs JVM work that a batch would wait for.
    "delta.checkpointInterval": "50",
    # `lakehouse.maintenance` alone removes old commits; it sees to it that the positions stay.
    "delta.enableExpiredLogCleanup": "false",
}
RETRIES = 15
"""Times that a small append tries again behind other writers; delta-rs's own default."""


def properties(table: Table) -> dict[str, str | None]:
    """What a table is made with; `lakehouse.maintenance` brings it to tables that were made before."""
    return {**PROPERTIES, "delta.dataSkippingNumIndexedCols": str(statistics(table))}


def exists(root: str, table: Table) -> bool:
    """Whether the table has been made; TableDamaged where it has, and is not there any more."""
    if DeltaTable.is_deltatable(table.path(root)):
        return True
    if (mark := high_water.held(root, table)) is not None:
        raise TableDamaged(table.name, mark.version, high_water.GONE)
    return False


def opened(root: str, table: Table) -> DeltaTable:
    """A table that has been made, at its last version; TableDamaged where it is not what its record says."""
    return high_water.opened(root, table)


def followed(root: str, table: Table) -> None:
    """Move the table's record on to the commit that was just made; every verb that commits ends so."""
    crash_point("after-table-commit")
    high_water.keep_up(root, table)


def ensure(root: str, table: Table) -> None:
    """Make the table when it is not there, else add nullable columns that are new; Spark's way takes a second a table.

    ContractBroken where a new column may not be null: what is there has no value for it.
    """
    fields = [Field(c.name, _type(c.type), nullable=c.nullable, metadata={"comment": c.meaning}) for c in table.columns]
    if exists(root, table):
        reader = opened(root, table)
        held = {field.name for field in reader.schema().fields}
        new = [field for field in fields if field.name not in held]
        if required := [field.name for field in new if not field.nullable]:
            raise ContractBroken(
                f"{table.name} was made without {', '.join(required)}, which may not be null.",
                "Make the table again under a new lake root.",
            )
        if new:
            reader.alter.add_columns(new)
            followed(root, table)
        return
    DeltaTable.create(
        table.path(root),
        DeltaSchema(fields),
        mode="ignore",
        partition_by=list(table.partition_by) or None,
        description=table.meaning,
        configuration=properties(table),
    )
    followed(root, table)


def _type(name: str) -> PrimitiveType | ArrayType:
    if name.startswith("array<"):
        return ArrayType(PrimitiveType(name[6:-1]), contains_null=True)
    return PrimitiveType({"int": "integer", "bigint": "long"}.get(name, name))


def append(root: str, table: Table, found: Sequence[Mapping[str, Any]]) -> None:
    """Append a few rows in one commit; the table is made when it is not there. Any number of processes may."""
    ensure(root, table)
    rows = pa.Table.from_pylist(list(found), arrow_schema(table)).to_batches()
    told = Writer(table, table.path(root)).written(rows)
    files: list[AddAction | RemoveAction] = [*added(file for part in told for file in part.to_pylist())]
    reader = opened(root, table)
    again = CommitProperties(max_commit_retries=RETRIES)
    reader.create_write_transaction(files, "append", reader.schema(), commit_properties=again)
    followed(root, table)


def dataset(table: DeltaTable) -> ds.Dataset:
    """The current rows of a table, to be scanned.

    On local disks Arrow reads the files itself. Through delta-rs's filesystem, which is Python, its read-ahead threads
    may still call into an interpreter that is ending, and the process aborts after its work is done.
    """
    lineage.read(".".join(table.table_uri.rstrip("/").rsplit("/", 2)[-2:]), table.version())
    if "://" in table.table_uri and not table.table_uri.startswith("file://"):
        return verified(table.to_pyarrow_dataset())
    folder = table.table_uri.removeprefix("file://")
    return verified(table.to_pyarrow_dataset(filesystem=fs.SubTreeFileSystem(folder, fs.LocalFileSystem())))


PLACE = ("topic_id", "partition", "offset")
"""The columns that hold a row's place in most tables."""


def of_partition(topic_id: str, partition: int, position: Sequence[str] = PLACE) -> pc.Expression:
    """Holds for rows of a partition of a topic; `position` are the columns that hold a row's place."""
    return (pc.field(position[0]) == topic_id) & (pc.field(position[1]) == partition)


def within(span: Span, position: Sequence[str] = PLACE) -> pc.Expression:
    """Holds for rows of a span."""
    offset = pc.field(position[2])
    return of_partition(span.topic_id, span.partition, position) & (offset >= span.start) & (offset < span.end)


def rows(
    root: str, table: Table, columns: Sequence[str], where: pc.Expression | None = None, at_most: int | None = None
) -> pa.Table:
    """Columns of all rows, of those that `where` holds for, or of any `at_most`; no rows before the table exists.

    TableDamaged where a file is lost or a page of it is not what was written.
    """
    if not exists(root, table):
        return pa.table({name: [] for name in columns})
    reader = opened(root, table)
    found = dataset(reader).scanner(columns=list(columns), filter=where)
    try:
        return found.to_table() if at_most is None else found.head(at_most)
    except (OSError, pa.ArrowException) as error:
        what = f"{high_water.FILE}: {high_water.said(error)}"
        raise TableDamaged(table.name, reader.version(), what) from error


def ends_of_rows(reader: DeltaTable, place: Sequence[str], where: pc.Expression | None = None) -> dict[str, int]:
    """By `topic_id/partition`, the offset after the last row, or after the last that `where` holds for.

    `place` names the columns of topic id, partition and offset. Read batch by batch: the columns are never held whole.
    """
    topic_id, partition, offset = place
    ends: dict[str, int] = {}
    for batch in dataset(reader).scanner(columns=list(place), filter=where).to_batches():
        last = pa.Table.from_batches([batch]).group_by([topic_id, partition]).aggregate([(offset, "max")])
        for row in last.to_pylist():
            key = f"{row[topic_id]}/{row[partition]}"
            ends[key] = max(row[f"{offset}_max"] + 1, ends.get(key, 0))
    return ends


def spans(root: str, table: Table, where: pc.Expression | None = None) -> list[Span]:
    """By partition, the offsets up to the last row of a table, or to the last that `where` holds for.

    TableDamaged as `rows`.
    """
    if not exists(root, table):
        return []
    reader = opened(root, table)
    try:
        ends = ends_of_rows(reader, PLACE, where)
    except (OSError, pa.ArrowException) as error:
        what = f"{high_water.FILE}: {high_water.said(error)}"
        raise TableDamaged(table.name, reader.version(), what) from error
    found = []
    for key, end in sorted(ends.items()):
        topic_id, partition = key.rsplit("/", 1)
        found.append(Span(topic_id, int(partition), 0, end))
    return found


def count(root: str, table: Table, where: pc.Expression | None = None) -> int:
    """How many rows a table has, or of those that `where` holds for; 0 before it exists."""
    return int(dataset(opened(root, table)).count_rows(filter=where)) if exists(root, table) else 0
