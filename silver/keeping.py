"""Masked rows of a batch between masking and verdict: Arrow files in a folder of the batch's own.

The files that counted are those that their tasks told of; what a task left that died, or was done twice, is gone with
the folder. Nothing in them is in the clear.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from lakehouse.tables import Table

Batches = Iterable[pa.RecordBatch]

NARROWED = "narrow"
"""Kind of the files with what admission looks at."""
TOLD_DDL = "kind string, path string, rows bigint"
_TOLD = pa.schema({"kind": pa.string(), "path": pa.string(), "rows": pa.int64()})
_NUMBERED = pa.schema({"number": pa.int32(), "path": pa.string()})
FILE_ROWS = 100_000
"""Rows that one task makes a file of a table from, roughly."""


class Keeper(AbstractContextManager["Keeper"]):
    """Writes the files of one task."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, tuple[str, pa.RecordBatchFileWriter]] = {}
        self._rows: dict[str, int] = {}
        self._open = ExitStack()

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def put(self, kind: str, rows: pa.RecordBatch) -> None:
        """Keep some rows of a kind."""
        if kind not in self._files:
            path = str(self._folder / f"{kind}-{uuid.uuid4()}.arrow")
            self._files[kind] = path, self._open.enter_context(pa.ipc.new_file(path, rows.schema))
            self._rows[kind] = 0
        self._files[kind][1].write_batch(rows)
        self._rows[kind] += rows.num_rows

    def told(self) -> pa.RecordBatch:
        """A row a file, with the columns of `TOLD_DDL`; the files are whole when the keeper is closed."""
        rows = [{"kind": kind, "path": path, "rows": self._rows[kind]} for kind, (path, _) in self._files.items()]
        return pa.RecordBatch.from_pylist(rows, _TOLD)


class Kept:
    """The files of a batch, by kind."""

    def __init__(self, told: pa.Table) -> None:
        self._paths: dict[str, list[tuple[str, int]]] = {}
        self.add(told)

    def add(self, told: pa.Table | pa.RecordBatch | None) -> None:
        """More files of the same batch."""
        for row in [] if told is None else told.to_pylist():
            self._paths.setdefault(row["kind"], []).append((row["path"], row["rows"]))

    @property
    def kinds(self) -> list[str]:
        """Kinds of records of which there are any."""
        return [kind for kind in self._paths if kind != NARROWED]

    def rows(self, kind: str, schema: pa.Schema) -> pa.Table:
        """Every row of a kind."""
        return pa.Table.from_batches([batch for path, _ in self._of(kind) for batch in _batches(path)], schema)

    def numbered(self, kind: str) -> pa.Table:
        """(number of the task that writes it, path) of every file, so that tasks have about `FILE_ROWS` each."""
        out, rows = [], 0
        for path, count in self._of(kind):
            out.append({"number": rows // FILE_ROWS, "path": path})
            rows += count
        return pa.Table.from_pylist(out, _NUMBERED)

    def _of(self, kind: str) -> Sequence[tuple[str, int]]:
        return self._paths.get(kind, [])


def _batches(path: str) -> Iterable[pa.RecordBatch]:
    with pa.memory_map(path) as held:
        file = pa.ipc.open_file(held)
        for number in range(file.num_record_batches):
            yield file.get_batch(number)


def admitted_to(folder: Path, kind: str, rows: pa.Table) -> str:
    """Keep what admission says of the accepted rows of a kind, in the order of their offsets; its path."""
    path = str(folder / f"admitted-{kind}.arrow")
    with pa.ipc.new_file(path, rows.schema) as file:
        file.write_table(rows)
    return path


def filling(table: Table, admitted: str) -> Callable[[Batches], Batches]:
    """A function for mapInArrow over paths of kept files: the accepted rows, with what admission says of them."""

    def filled(batches: Batches) -> Batches:
        with pa.memory_map(admitted) as held:
            said = pa.ipc.open_file(held).read_all().combine_chunks()
        offsets = said.column("offset").to_numpy()
        for batch in batches:
            for path in batch.column("path").to_pylist():
                for rows in _batches(path):
                    yield _joined(rows, said, offsets, table)

    return filled


def _joined(rows: pa.RecordBatch, said: pa.Table, offsets: np.ndarray, table: Table) -> pa.RecordBatch:
    own = rows.column("offset").to_numpy()
    at = np.searchsorted(offsets, own)
    here = at < len(offsets)
    here[here] = offsets[at[here]] == own[here]
    taken = said.take(pa.array(at[here])).combine_chunks()
    kept = rows if here.all() else rows.filter(pa.array(here))
    columns: Mapping[str, pa.Array] = {
        name: kept.column(name) if name in kept.schema.names else _chunk(taken.column(name))
        for name in table.column_names
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
