"""Columns -> one 64-bit digest a row, vectorised; equal rows have equal digests, whatever file type they came from.

Each value is spread over 64 bits by splitmix64's finaliser (Steele, Lea, Flood 2014); texts and lists are sums of their
parts times a fixed odd number per place (multilinear hashing), columns are chained. The digests find accidents and
hands that do not aim at them; who aims is found by the keyed payload digests that the tables carry.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Digests = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_NULL = np.uint64(0x6E756C6C)
_NOT_A_NUMBER = np.uint64(0x7FF8000000000000)
_places = np.zeros(0, np.uint64)


def mixed(values: Digests) -> Digests:
    """The values, each spread over all 64 bits."""
    x = values + _GOLDEN
    x ^= x >> np.uint64(30)
    x *= _MIX[0]
    x ^= x >> np.uint64(27)
    x *= _MIX[1]
    x ^= x >> np.uint64(31)
    return x


def _multipliers(number: int) -> Digests:
    """An odd number for each of the first places of a text or list."""
    global _places
    if len(_places) < number:
        _places = mixed(np.arange(max(number, 4096), dtype=np.uint64)) | np.uint64(1)
    return _places[:number]


def _summed(parts: Digests, starts: Ints, lengths: Ints) -> Digests:
    """Sum of the parts of each run, each times its place's multiplier; runs follow each other."""
    if not len(lengths):
        return np.zeros(0, np.uint64)
    if (lengths == lengths[0]).all():
        width = int(lengths[0])
        table = parts[starts[0] : starts[0] + width * len(lengths)].reshape(len(lengths), width)
        total: Digests = (table * _multipliers(width)).sum(axis=1, dtype=np.uint64)
    else:
        first = int(starts[0])
        whole = parts[first : first + int(lengths.sum())]
        begins = starts - first
        place = np.arange(len(whole), dtype=np.int64) - np.repeat(begins, lengths)
        running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(whole * _multipliers(int(lengths.max()))[place])])
        total = running[begins + lengths] - running[begins]
    return mixed(total ^ (lengths.astype(np.uint64) * _GOLDEN))


def _runs(column: pa.Array) -> tuple[Ints, Ints]:
    """(start, length) of each value of a large list or binary array; null values have length 0."""
    bounds = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    return bounds[:-1], np.diff(bounds)


def _texts(column: pa.Array) -> Digests:
    column = column.cast(pa.large_binary())
    starts, lengths = _runs(column)
    data = column.buffers()[2]
    raw = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    parts = raw.astype(np.uint64) + np.uint64(1)
    return _summed(parts, starts, lengths)


def _lists(column: pa.Array) -> Digests:
    column = column.cast(pa.large_list(column.type.value_type))
    starts, lengths = _runs(column)
    return _summed(values(column.values), starts, lengths)


def _numbers(column: pa.Array) -> Digests:
    kind = column.type
    if pa.types.is_floating(kind):
        bits = np.asarray(column.fill_null(0.0).cast(pa.float64())).view(np.uint64)
        return mixed(np.where(np.isnan(bits.view(np.float64)), _NOT_A_NUMBER, bits))
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
    elif pa.types.is_date(kind):
        column = column.cast(pa.int32())
    return mixed(np.asarray(column.cast(pa.int64()).fill_null(0)).view(np.uint64))


def values(column: pa.Array) -> Digests:
    """A digest a value. Numbers of any width, missing floats (null or NaN) and kinds of text compare equal."""
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), _NULL, np.uint64)
    if pa.types.is_dictionary(kind):
        return values(column.dictionary_decode())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        found = _lists(column)
    elif pa.types.is_floating(kind):
        missing = column.is_null(nan_is_null=True)
        return np.where(np.asarray(missing), _NULL, _numbers(column))
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_temporal(kind):
        found = _numbers(column)
    else:
        found = _texts(column)
    return np.where(np.asarray(column.is_null()), _NULL, found) if column.null_count else found


def chained(parts: Iterable[Digests], rows: int) -> Digests:
    """One digest a row of several digests a row; their order matters."""
    digest = np.zeros(rows, np.uint64)
    for part in parts:
        digest = mixed(digest * _GOLDEN + part)
    return digest


def rows(columns: Sequence[pa.Array], number: int) -> Digests:
    """One digest a row over some columns, in their order."""
    return chained((values(column) for column in columns), number)


def vectors(column: pa.Array) -> Digests:
    """One digest a row of a column of float lists, or of their bytes (float32, little endian)."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return values(column)
    column = column.cast(pa.large_binary())
    _, lengths = _runs(column)
    if (lengths % 4).any():  # no vector; whatever it is, it is not the same as one
        return _texts(column)
    raw = b"".join(v for v in column.to_pylist() if v)
    starts = np.cumsum(lengths) - lengths
    return _summed(values(pa.array(np.frombuffer(raw, "<f4"))), starts // 4, lengths // 4)


def matrix(columns: Sequence[pa.Array]) -> Digests:
    """The same of vectors that lie as a column a place."""
    total = np.zeros(len(columns[0]), np.uint64)
    for column, multiplier in zip(columns, _multipliers(len(columns)), strict=True):
        total += values(column) * multiplier
    return mixed(total ^ (np.full(1, len(columns), np.uint64) * _GOLDEN))


def total(digests: Digests) -> str:
    """One digest of many, whatever their order, as 16 hex digits."""
    return f"{int(mixed(digests).sum(dtype=np.uint64)):016x}"


def bound(digests: Digests, offsets: Ints) -> Digests:
    """The digests, bound to their rows' positions."""
    return mixed(digests ^ mixed(offsets.astype(np.int64).view(np.uint64)))


def float32(column: pa.Array) -> pa.Array:
    """Numbers rounded as a feature holds them."""
    return pc.cast(column, pa.float32(), safe=False)
