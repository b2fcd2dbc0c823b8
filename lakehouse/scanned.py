"""Rows of a table read as Arrow batches by the workers that need them: Spark hands out files, not rows.

On the way through the JVM every value becomes part of a row and then part of a batch again. For a job that only wants
batches, that costs more than reading the files.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from lakehouse import lineage
from lakehouse.delta import exists, opened, within
from lakehouse.files import FORMAT, Batches, arrow_schema, filesystem
from lakehouse.high_water import FILE, said
from lakehouse.spans import Span
from lakehouse.tables import Table
from lakehouse.tasks import handed_out

BATCH_ROWS = 65_536
_PARTS = pa.schema({"number": pa.int32(), "path": pa.string(), "start": pa.int64(), "end": pa.int64()})


@dataclass(frozen=True)
class Scanned:
    """Some columns of a table's rows of a span, at one version; a task a file."""

    files: DataFrame
    scan: Callable[[Batches], Batches]

    def mapped(self, work: Callable[[Batches], Batches], ddl: str) -> DataFrame:
        """What `work`, a function as for mapInArrow, makes of the rows."""
        scan = self.scan
        return self.files.mapInArrow(lambda batches: work(scan(batches)), ddl)


def scanned(
    spark: SparkSession, root: str, table: Table, span: Span, columns: Sequence[str], task_rows: int | None = None
) -> Scanned:
    """Columns that are in the files, so none that part the table; TableDamaged where it is not what its record says.

    A task a file, or where `task_rows` is given, one for so many offsets of it.
    """
    lacking = {*columns} & {*table.partition_by}
    assert not lacking, f"{table.name} is parted by {lacking}, which its files lack"
    assert table.position is not None
    position = table.position
    parts = [
        (path, start, end)
        for path, least, largest in _extents(root, table)
        for start, end in _pieces(
            span.start if least is None else max(least, span.start),
            span.end if largest is None else min(largest + 1, span.end),
            task_rows,
        )
    ]
    numbered = [{"number": n, "path": path, "start": start, "end": end} for n, (path, start, end) in enumerate(parts)]
    files = handed_out(spark, pa.Table.from_pylist(numbered, _PARTS))
    folder, wanted = table.path(root), list(columns)
    schema = pa.schema([field for field in arrow_schema(table) if field.name not in table.partition_by])

    def scan(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for part in batch.to_pylist():
                here = within(Span(span.topic_id, span.partition, part["start"], part["end"]), position)
                file = FORMAT.make_fragment(part["path"], filesystem=filesystem(folder))
                options = {"filter": here, "batch_size": BATCH_ROWS, "use_threads": False}
                try:
                    yield from file.scanner(schema=schema, columns=wanted, **options).to_batches()
                except (OSError, pa.ArrowException) as error:
                    raise OSError(f"{FILE}: {folder}/{part['path']}: {said(error)}") from error

    return Scanned(files, scan)


def _pieces(start: int, end: int, most: int | None) -> list[tuple[int, int]]:
    """Ranges that make up a range, of at most so many offsets each."""
    step = most or max(1, end - start)
    return [(at, min(at + step, end)) for at in range(start, end, step)]


def _extents(root: str, table: Table) -> list[tuple[str, int | None, int | None]]:
    """(path, least offset, largest offset) of every file, the largest files first; None where the log does not tell."""
    if not exists(root, table):
        return []
    reader = opened(root, table)
    lineage.read(table.name, reader.version())
    actions = pa.table(reader.get_add_actions(flatten=True))
    if not actions.num_rows:
        return []
    assert table.position is not None
    offset = table.position[2]
    actions = actions.sort_by([("size_bytes", "descending")])
    nothing = [None] * actions.num_rows
    least, largest = (
        actions.column(f"{end}.{offset}").to_pylist() if f"{end}.{offset}" in actions.column_names else nothing
        for end in ("min", "max")
    )
    return list(zip(actions.column("path").to_pylist(), least, largest, strict=True))
