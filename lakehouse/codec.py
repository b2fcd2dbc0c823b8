"""Batches of Avro bodies <-> columns, in one compiled pass that checks every byte.

A schema is compiled to a short program (one type code a field); numba walks the bodies with it. The walk is also the
check that a body ends exactly at its last byte, that no index, length or number is out of range and that text is
UTF-8, so a body that passes is a body that any Avro reader decodes to the same values. Bit for bit what fastavro
writes (tests/lakehouse/test_codec.py); it exists because fastavro needs 10-16 us a record and this needs about one.

Supported: records of boolean, int, long, double, bytes, string, nullable forms ["null", T] of these, and arrays of
strings. Logical types are their underlying numbers here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lakehouse import avro
from lakehouse.avro import BOOLEAN, BYTES, DOUBLE, INT, LONG, STRING, STRINGS
from lakehouse.errors import ContractBroken
from lakehouse.texts import EMPTY, Bytes8, Flags, Ints, Texts

_CODES = {"boolean": BOOLEAN, "int": INT, "long": LONG, "double": DOUBLE, "bytes": BYTES, "string": STRING}


@dataclass(frozen=True)
class Strings:
    """A column of lists of strings: list i is items[first[i] : first[i] + count[i]]."""

    first: Ints
    count: Ints
    items: Texts

    @staticmethod
    def of(values: Sequence[Sequence[str]]) -> "Strings":
        """The column holding `values`."""
        count = np.fromiter((len(v) for v in values), np.int64, len(values))
        first = np.zeros(len(values), np.int64)
        np.cumsum(count[:-1], out=first[1:])
        return Strings(first, count, Texts.of([item for value in values for item in value]))

    def to_list(self) -> list[list[str]]:
        """The lists as Python lists of text."""
        items = [item.decode() for item in self.items.to_list()]
        return [items[f : f + n] for f, n in zip(self.first.tolist(), self.count.tolist(), strict=True)]


Column = npt.NDArray[Any] | Texts | Strings


class Buffers:
    """Buffers of texts, each once, one after the other."""

    def __init__(self) -> None:
        self._base: dict[int, int] = {}
        self._kept: list[Bytes8] = []
        self._size = 0

    def base_of(self, buffer: Bytes8) -> int:
        """Where a buffer begins among all; it is taken in when it is new."""
        base = self._base.get(id(buffer))
        if base is None:
            base = self._base[id(buffer)] = self._size
            self._kept.append(buffer)
            self._size += len(buffer)
        return base

    def joined(self) -> Bytes8:
        """All of them, read-only: to compiled code what may be written is another type, and compiled once more."""
        if len(self._kept) == 1:
            out = self._kept[0].view()
        else:
            out = np.concatenate(self._kept) if self._kept else EMPTY.view()
        out.flags.writeable = False
        return out


@dataclass(frozen=True)
class Grid:
    """The columns of a batch as lines of matrices (columns, rows), for compiled code that walks many of them.

    `fixed` holds numbers (a double's bits, a text's place in `buffer`), `length` the bytes of texts.
    """

    names: tuple[str, ...]
    double: Flags
    """(columns): whose numbers are the bits of a double."""
    buffer: Bytes8
    fixed: Ints
    length: Ints
    valid: Flags

    @property
    def line(self) -> Mapping[str, int]:
        """The line of each column."""
        return lines_of(self.names)


@cache
def lines_of(names: tuple[str, ...]) -> Mapping[str, int]:
    """Places by name."""
    return {name: at for at, name in enumerate(names)}


@dataclass(frozen=True)
class Batch:
    """Columns by field name, and for nullable fields which rows have a value (absent here: all of them)."""

    rows: int
    columns: Mapping[str, Column]
    valid: Mapping[str, Flags]
    decoded: Grid | None = None
    """The same columns, where the codec made them."""

    def grid(self) -> Grid:
        """Numbers and texts side by side."""
        if self.decoded is not None:
            return self.decoded
        columns = {name: column for name, column in self.columns.items() if not isinstance(column, Strings)}
        shape = (len(columns), self.rows)
        fixed, length, valid = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.ones(shape, np.bool_)
        double = np.zeros(len(columns), np.bool_)
        buffers = Buffers()
        for line, (name, column) in enumerate(columns.items()):
            valid[line] = self.has(name)
            if isinstance(column, Texts):
                fixed[line] = column.start + buffers.base_of(column.buffer)
                length[line] = column.length
            elif column.dtype.kind == "f":
                fixed[line] = column.astype(np.float64).view(np.int64)
                double[line] = True
            else:
                fixed[line] = column
        return Grid(tuple(columns), double, buffers.joined(), fixed, length, valid)

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """A numeric column; null rows hold zero."""
        column = self.columns[name]
        assert isinstance(column, np.ndarray), name
        return column

    def texts(self, name: str) -> Texts:
        """A text or bytes column; null rows hold the empty string."""
        column = self.columns[name]
        assert isinstance(column, Texts), name
        return column

    def take(self, rows: npt.NDArray[np.integer]) -> "Batch":
        """The batch of these rows, in this order."""
        if len(rows) == self.rows and np.array_equal(rows, np.arange(self.rows)):
            return self  # nearly every batch is all good; fifty columns need not be copied
        taken = {
            name: column[rows]
            if isinstance(column, np.ndarray)
            else column.take(rows)
            if isinstance(column, Texts)
            else Strings(column.first[rows], column.count[rows], column.items)
            for name, column in self.columns.items()
        }
        return Batch(len(rows), taken, {name: valid[rows] for name, valid in self.valid.items()})

    def has(self, name: str) -> Flags:
        """Which rows have a value."""
        valid = self.valid.get(name)
        return np.full(self.rows, True) if valid is None else valid


@dataclass(frozen=True)
class Decoded:
    """What a batch of bodies holds. Rows with `fault` != 0 (an index into FAULTS) have no meaning in `batch`."""

    batch: Batch
    fault: Ints
    mark: Ints
    """(2, n): first and one-past-last byte of the marked field in the buffer."""


@dataclass(frozen=True)
class Field:
    """One field of a schema."""

    name: str
    kind: int
    nullable: bool


@dataclass(frozen=True)
class Codec:
    """One record schema, ready to encode and decode batches."""

    name: str
    fields: tuple[Field, ...]

    @staticmethod
    def of(schema: Mapping[str, Any]) -> "Codec":
        """The codec of an Avro record schema (parsed JSON); ContractBroken where a type is not supported."""
        fields = []
        for field in schema["fields"]:
            declared, nullable = field["type"], False
            if isinstance(declared, list):
                if len(declared) != 2 or declared[0] != "null":
                    raise ContractBroken(f'{schema["name"]}.{field["name"]}: a union must be ["null", type].')
                declared, nullable = declared[1], True
            if isinstance(declared, dict):
                if declared["type"] == "array" and declared["items"] == "string" and not nullable:
                    fields.append(Field(field["name"], STRINGS, False))
                    continue
                declared = declared["type"]
            if declared not in _CODES:
                raise ContractBroken(f"{schema['name']}.{field['name']}: the type {declared} is not supported.")
            fields.append(Field(field["name"], _CODES[declared], nullable))
        return Codec(schema["name"], tuple(fields))

    @cached_property
    def _kinds(self) -> Ints:
        return np.array([f.kind for f in self.fields], np.int64)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.fields)

    @cached_property
    def _double(self) -> Flags:
        return np.array([f.kind == DOUBLE for f in self.fields], np.bool_)

    @cached_property
    def _nullable(self) -> Flags:
        return np.array([f.nullable for f in self.fields], np.bool_)

    def decode(self, buffer: Bytes8, start: Ints, end: Ints, mark: str | None = None) -> Decoded:
        """Columns of the bodies buffer[start[i] : end[i]]; `mark` names a field whose byte range is wanted."""
        n, width = len(start), len(self.fields)
        fixed = np.zeros((width, n), np.int64)
        length = np.zeros((width, n), np.int64)
        valid = np.zeros((width, n), np.bool_)
        places = np.zeros((2, n), np.int64)
        fault = np.zeros(n, np.int64)
        room = int((end - start).sum()) if any(f.kind == STRINGS for f in self.fields) else 0
        item_start, item_length = np.zeros(room, np.int64), np.zeros(room, np.int64)
        marked = next((i for i, f in enumerate(self.fields) if f.name == mark), -1)
        used = avro.decode(
            buffer,
            start,
            end,
            self._kinds,
            self._nullable,
            marked,
            fixed,
            length,
            valid,
            places,
            item_start,
            item_length,
            fault,
        )
        items = Texts(buffer, item_start[:used], item_length[:used])
        columns: dict[str, Column] = {}
        for i, field in enumerate(self.fields):
            if field.kind == DOUBLE:
                columns[field.name] = fixed[i].view(np.float64)
            elif field.kind == BOOLEAN:
                columns[field.name] = fixed[i].astype(np.bool_)
            elif field.kind == STRINGS:
                columns[field.name] = Strings(fixed[i], length[i], items)
            elif field.kind in (BYTES, STRING):
                columns[field.name] = Texts(buffer, fixed[i], length[i])
            else:
                columns[field.name] = fixed[i]
        nulls = {f.name: valid[i] for i, f in enumerate(self.fields) if f.nullable}
        grid = Grid(self._names, self._double, buffer, fixed, length, valid)
        return Decoded(Batch(n, columns, nulls, grid), fault, places)

    def encode(
        self, batch: Batch, prefix: bytes = b"", first: str | None = None, last: str | None = None
    ) -> tuple[Bytes8, Ints]:
        """Bodies without gaps, each behind `prefix`, and n + 1 offsets; fields `first` to `last`, both included."""
        names = self._names
        lo = 0 if first is None else names.index(first)
        hi = len(names) if last is None else names.index(last) + 1
        n, width = batch.rows, hi - lo
        fixed = np.zeros((width, n), np.int64)
        length = np.zeros((width, n), np.int64)
        valid = np.ones((width, n), np.bool_)
        buffers = Buffers()
        item_start, item_length = np.zeros(0, np.int64), np.zeros(0, np.int64)
        item_bytes = 0

        for row, field in enumerate(self.fields[lo:hi]):
            column = batch.columns[field.name]
            if field.nullable:
                valid[row] = batch.has(field.name)
            if isinstance(column, Strings):
                fixed[row] = column.first + len(item_start)
                length[row] = column.count
                item_start = np.concatenate([item_start, column.items.start + buffers.base_of(column.items.buffer)])
                item_length = np.concatenate([item_length, column.items.length])
                # Rows may share items (`Batch.take`): bytes are counted by row, ten more for each item's length.
                ends = np.concatenate([[0], np.cumsum(column.items.length + 10)])
                item_bytes += int((ends[column.first + column.count] - ends[column.first]).sum())
            elif isinstance(column, Texts):
                fixed[row] = column.start + buffers.base_of(column.buffer)
                length[row] = column.length
            elif field.kind == DOUBLE:
                fixed[row] = np.ascontiguousarray(column, np.float64).view(np.int64)
            else:
                fixed[row] = column
        # A number takes at most ten bytes, a union branch one, an array's two counts ten more.
        bound = int(length.sum()) + n * (len(prefix) + 21 * width) + item_bytes
        out = np.empty(bound, np.uint8)
        offsets = np.zeros(n + 1, np.int64)
        avro.encode(
            self._kinds[lo:hi],
            self._nullable[lo:hi],
            fixed,
            length,
            valid,
            buffers.joined(),
            item_start,
            item_length,
            np.frombuffer(prefix, np.uint8),
            out,
            offsets,
        )
        return out[: offsets[-1]], offsets


def slices(packed: Bytes8, offsets: Ints) -> list[bytes]:
    """The encoded bodies as Python bytes."""
    raw = packed.tobytes()
    bounds = offsets.tolist()
    return [raw[a:b] for a, b in pairwise(bounds)]
