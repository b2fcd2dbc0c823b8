"""Delta tables, each pinned to one version: how far it says it got, where its rows come from, and its rows."""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from audit.errors import CannotLook

POSITION = ("topic_id", "partition", "offset")
OF_DECISION = ("decision_topic_id", "decision_partition", "decision_offset")
OF_SHADOW = ("shadow_topic_id", "shadow_partition", "shadow_offset")
"""Columns of a row's position on topic `events`, of a decision's on `decisions`, of a challenger's word on `shadow`."""
_POSITIONS = "fraudlake_positions"
_EXPIRED = "fraudlake_expired"
_UNREADABLE = {"deletionVectors", "columnMapping", "v2Checkpoint"}
BATCH_ROWS = 32_768
_SCAN = 64
WORKERS = 2
"""Threads that digest: numpy and Arrow leave the interpreter to each other while they work."""
NO_END = 1 << 62
"""An offset after every offset."""

Numbers = npt.NDArray[np.generic]
Made = Callable[[pa.RecordBatch], Mapping[str, Numbers]]


class Columns(dict[str, Numbers]):
    """Numbers of some rows by name, in the order of the rows' offsets."""

    @property
    def offset(self) -> npt.NDArray[np.int64]:
        """The rows' offsets."""
        return self.ints("offset")

    def ints(self, name: str) -> npt.NDArray[np.int64]:
        """Numbers that count something."""
        return self[name].astype(np.int64, copy=False)

    def digests(self, name: str) -> npt.NDArray[np.uint64]:
        """Digests of a fact."""
        return self[name].astype(np.uint64, copy=False)

    def flags(self, name: str) -> npt.NDArray[np.bool_]:
        """Whether something holds."""
        return self[name].astype(np.bool_, copy=False)


@dataclass(frozen=True, order=True)
class Source:
    """A partition of a topic, by the broker's id of the topic."""

    topic_id: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic_id}/{self.partition}"


@dataclass(frozen=True)
class Span:
    """Offsets [start, end) of a source."""

    source: Source
    start: int
    end: int


@dataclass(frozen=True)
class Extent:
    """Rows of a source in a table, their first offset and the one after their last."""

    rows: int
    first: int
    end: int


def filesystem(path: str) -> tuple[pa.fs.FileSystem, str]:
    """The file system of a path or URI, and the path within it."""
    if "://" not in path or path.startswith("file://"):
        return pa.fs.LocalFileSystem(), path.removeprefix("file://")
    where, inside = pa.fs.FileSystem.from_uri(path)
    return where, inside


class Table:
    """A table at one version; a table that has not been made has no rows."""

    def __init__(
        self, root: str, name: str, position: tuple[str, str, str] = POSITION, version: int | None = None
    ) -> None:
        self.name, self.position = name, position
        self.followed_by: tuple[Table, ...] = ()
        """Tables made of this one alone, at the same positions: it held whatever they have reached."""
        self.path = f"{root}/{name.replace('.', '/')}"
        self._table: DeltaTable | None = None
        try:
            if version != -1 and DeltaTable.is_deltatable(self.path):
                self._table = DeltaTable(self.path, version=version)
        except (DeltaError, OSError) as error:
            raise self._unreadable(error) from None
        self.version = -1 if self._table is None else self._table.version()

    def _unreadable(self, error: Exception) -> CannotLook:
        return CannotLook(
            f"{self.name} cannot be read: {type(error).__name__}: {str(error).splitlines()[0][:200]}.",
            f"Restore {self.path}, or the version before.",
        )

    @cached_property
    def _data(self) -> ds.Dataset | None:
        # The log gives the names of the files; what is in them is read from them, never from the log's statistics.
        if self._table is None:
            return None
        try:
            features = _UNREADABLE & set(self._table.protocol().reader_features or ())
            if features:
                raise CannotLook(f"{self.name} has {', '.join(sorted(features))}, which are not read here.")
            schema = self._table.to_pyarrow_dataset().schema
            files, where = self._files()
            kind = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(coerce_int96_timestamp_unit="us"))
            return ds.dataset(files, schema=schema, format=kind, filesystem=where)
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from None

    def _files(self) -> tuple[list[str], pa.fs.FileSystem]:
        assert self._table is not None
        where, _ = filesystem(self.path)
        return [uri.split("://", 1)[-1] for uri in self._table.file_uris()], where

    def batches(self, columns: Sequence[str], where: pc.Expression | None = None) -> Iterator[pa.RecordBatch]:
        """Columns of the rows, some thousand at a time; CannotLook where a file is lacking or cannot be read."""
        if self._data is None:
            return
        lacking = sorted(set(columns) - set(self._data.schema.names))
        if lacking:
            raise CannotLook(
                f"{self.name} lacks the columns {', '.join(lacking)}.", "Was it written by another version?"
            )
        try:
            scanner = self._data.scanner(
                columns=list(columns), filter=where, batch_size=BATCH_ROWS, batch_readahead=4, fragment_readahead=1
            )
            yield from (batch for batch in scanner.to_batches() if batch.num_rows)
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from None

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns; none before it is made."""
        return () if self._data is None else tuple(self._data.schema.names)

    @cached_property
    def extents(self) -> dict[Source, Extent]:
        """Which sources the rows come from."""
        topic_id, partition, offset = self.position
        found: dict[Source, Extent] = {}
        for batch in self.batches(self.position):
            table = pa.table({"t": batch.column(topic_id), "p": batch.column(partition), "o": batch.column(offset)})
            grouped = table.group_by(["t", "p"]).aggregate([("o", "count"), ("o", "min"), ("o", "max")])
            for row in grouped.to_pylist():
                source = Source(str(row["t"]), int(row["p"]))
                one = found.get(source, Extent(0, row["o_min"], 0))
                found[source] = Extent(
                    one.rows + row["o_count"], min(one.first, row["o_min"]), max(one.end, row["o_max"] + 1)
                )
        return found

    def _commits(self) -> Iterator[dict[str, Any]]:
        """The commits, newest first; a table has many and the wanted one is among the last."""
        known, wanted = 0, _SCAN
        while self._table is not None:
            try:
                found = self._table.history(wanted)
            except (DeltaError, OSError) as error:
                raise self._unreadable(error) from None
            yield from found[known:]
            if len(found) < wanted:
                return
            known, wanted = len(found), wanted * 8

    @cached_property
    def ends(self) -> dict[Source, int]:
        """Up to which offset the table says it holds each source: by its commits, else by its rows."""
        for commit in self._commits():
            if commit.get("operation") == "RESTORE":
                break  # the commits before it tell of rows that are gone
            told = _positions(commit.get("userMetadata"))
            if told is not None:
                return told
        return {source: extent.end for source, extent in self.extents.items()}

    def end(self, source: Source) -> int:
        """Up to which offset it says it holds a source, or what follows from it proves; 0 where nobody says so."""
        return max([self.ends.get(source, 0), *(table.end(source) for table in self.followed_by)])

    @cached_property
    def expired(self) -> dict[Source, int]:
        """Below which offset it may lack rows of a source, whose retention has passed: by its last such commit."""
        for commit in self._commits():
            told = _positions(commit.get("userMetadata"), _EXPIRED)
            if told is not None:
                return told
        return {}

    @cached_property
    def written_ms(self) -> int | None:
        """When its rows were last written, in milliseconds; None where no commit tells."""
        for commit in self._commits():
            if commit.get("operation") == "MERGE" or _positions(commit.get("userMetadata")) is not None:
                return int(commit["timestamp"])
        return None

    def taken(
        self, span: Span, columns: Sequence[str], made: Made, only: npt.NDArray[np.int64] | None = None
    ) -> Columns:
        """What `made` makes of each batch of a span's rows (or of `only` some of them), in the order of the offsets.

        `offset` is one of the results. Only the results are kept, so give numbers, not rows.
        """
        topic_id, partition, offset = self.position
        here = (
            (pc.field(topic_id) == span.source.topic_id)
            & (pc.field(partition) == span.source.partition)
            & (pc.field(offset) >= span.start)
            & (pc.field(offset) < span.end)
        )
        if only is not None:
            here &= pc.field(offset).isin(pa.array(only))
        parts: dict[str, list[Numbers]] = {}
        for found in _made_of(self.batches(list(dict.fromkeys([offset, *columns])), here), offset, made):
            for name, values in found.items():
                parts.setdefault(name, []).append(values)
        if not parts:
            empty = pa.record_batch(
                [pa.array([], self._type(name)) for name in (offset, *columns)], names=[offset, *columns]
            )
            return Columns({"offset": np.zeros(0, np.int64), **made(empty)})
        joined = {name: np.concatenate(values) for name, values in parts.items()}
        order = np.argsort(joined["offset"], kind="stable")
        return Columns({name: values[order] for name, values in joined.items()})

    def _type(self, name: str) -> pa.DataType:
        return pa.null() if self._data is None else self._data.schema.field(name).type


def _made_of(batches: Iterator[pa.RecordBatch], offset: str, made: Made) -> Iterator[Mapping[str, Numbers]]:
    """What is made of each batch, on both cores; few batches are held at a time."""

    def work(batch: pa.RecordBatch) -> Mapping[str, Numbers]:
        return {"offset": np.asarray(batch.column(offset)), **made(batch)}

    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: deque[Future[Mapping[str, Numbers]]] = deque()
        for batch in batches:
            waiting.append(pool.submit(work, batch))
            if len(waiting) > WORKERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _positions(metadata: str | None, name: str = _POSITIONS) -> dict[Source, int] | None:
    """The positions that a commit of the pipeline's tells; None of anybody else's."""
    if metadata is None or name not in metadata:
        return None
    told = json.loads(metadata)[name]
    return {Source(*_split(key)): int(end) for key, end in told.items()}


def _split(key: str) -> tuple[str, int]:
    topic_id, partition = key.rsplit("/", 1)
    return topic_id, int(partition)
