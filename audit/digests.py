"""Columns -> one 64-bit digest a row, vectorised; equal rows have equal digests, whatever file they came from.

Each number, and each eight bytes of a text, is spread over 64 bits by splitmix64's finaliser (Steele, Lea, Flood 2014)
and taken times a fixed odd number of its place; a row is the sum (multilinear hashing). The digests find accidents, and
hands that do not aim at them; who aims is found by the keyed payload digests that the tables carry.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Digests = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_NULL = np.uint64(0x6E756C6C)
_MISSING = np.uint32(0x7FC00000)
_TAILS = np.array([(1 << (8 * left)) - 1 for left in range(9)], np.uint64)
"""What of eight bytes belongs to a text that ends after so many."""


def mixed(numbers: Digests) -> Digests:
    """The numbers, each spread over all 64 bits."""
    x = numbers + _GOLDEN
    x ^= x >> np.uint64(30)
    x *= _MIX[0]
    x ^= x >> np.uint64(27)
    x *= _MIX[1]
    x ^= x >> np.uint64(31)
    return x


@cache
def _multipliers(number: int) -> Digests:
    """An odd number for each of the first places of a row, text or list."""
    return mixed(np.arange(number, dtype=np.uint64)) | np.uint64(1)


def _ended(total: Digests, lengths: Ints) -> Digests:
    """Sums of runs, with their lengths."""
    return mixed(total ^ (lengths.astype(np.uint64) * _GOLDEN))


def _runs(column: pa.Array) -> tuple[Ints, Ints]:
    """(start, length) of each value of a large list or binary array."""
    bounds = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    return bounds[:-1], np.diff(bounds)


def _texts(column: pa.Array) -> Digests:
    column = column.cast(pa.large_binary())
    starts, lengths = _runs(column)
    longest = int(lengths.max(initial=0))
    total = np.zeros(len(column), np.uint64)
    if not longest:
        return _ended(total, lengths)
    # Eight bytes from any byte on, as one number.
    first = int(starts[0])
    raw = np.frombuffer(column.buffers()[2], np.uint8)[first : int(starts[-1] + lengths[-1])]
    padded = np.concatenate([raw, np.zeros(8, np.uint8)])
    words = np.ndarray((len(raw) + 1,), "<u8", padded, 0, (1,))
    rows, multipliers = np.arange(len(column)), _multipliers(-(-longest // 4096) * 512)
    for place in range(-(-longest // 8)):
        left = lengths[rows] - 8 * place
        if (left <= 0).any():
            rows, left = rows[left > 0], left[left > 0]
        word = words[starts[rows] - first + 8 * place] & _TAILS[np.minimum(left, 8)]
        total[rows] += mixed(word) * multipliers[place]
    return _ended(total, lengths)


def _lists(column: pa.Array) -> Digests:
    column = column.cast(pa.large_list(column.type.value_type))
    starts, lengths = _runs(column)
    parts = values(column.values)
    place = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    row = np.repeat(np.arange(len(column)), lengths)
    total = np.zeros(len(column), np.uint64)
    taken = parts[np.repeat(starts, lengths) + place]
    np.add.at(total, row, taken * _multipliers(max(64, int(lengths.max(initial=0))))[place])
    return _ended(total, lengths)


def _numbers(column: pa.Array) -> Digests:
    kind = column.type
    if pa.types.is_floating(kind):
        numbers = np.asarray(column.fill_null(0.0).cast(pa.float64()))
        return mixed(numbers.view(np.uint64))
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
    missing = column.is_null(nan_is_null=True) if pa.types.is_floating(kind) else None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        found = _lists(column)
    elif (
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_temporal(kind)
    ):
        found = _numbers(column)
    else:
        found = _texts(column)
    if missing is None and column.null_count:
        missing = column.is_null()
    return found if missing is None else np.where(np.asarray(missing), _NULL, found)


def rows(columns: Sequence[pa.Array], number: int) -> Digests:
    """One digest a row over some columns, in their order."""
    total = np.zeros(number, np.uint64)
    for column, multiplier in zip(columns, _multipliers(256)[: len(columns)], strict=True):
        total += values(column) * multiplier
    return mixed(total)


def _bits(numbers: npt.NDArray[np.float32]) -> Digests:
    """Features as they lie in memory; missing ones all the same."""
    return np.where(np.isnan(numbers), _MISSING, numbers.view(np.uint32)).astype(np.uint64)


def vectors(column: pa.Array) -> Digests:
    """One digest a row of float32 vectors: lists, or their bytes (little endian)."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = column.cast(pa.large_list(pa.float32()))
        _, lengths = _runs(column)
        numbers = np.asarray(column.flatten().fill_null(np.nan))
    else:
        column = column.cast(pa.large_binary())
        _, lengths = _runs(column)
        if (lengths % 4).any():  # no vector; whatever it is, it is not the same as one
            return _texts(column)
        numbers, lengths = np.frombuffer(b"".join(v for v in column.to_pylist() if v), "<f4"), lengths // 4
    lengths = np.where(np.asarray(column.is_valid()), lengths, 0)
    total = np.zeros(len(lengths), np.uint64)
    bits, begins = _bits(numbers), np.cumsum(lengths) - lengths
    for width in np.flatnonzero(np.bincount(lengths)).tolist() if len(lengths) else ():
        of_width = lengths == width
        if not width:
            continue
        table = bits if of_width.all() else bits[begins[of_width, None] + np.arange(width)]
        total[of_width] = table.reshape(-1, width) @ _multipliers(width)
    return _ended(total, lengths)


def matrix(columns: Sequence[pa.Array]) -> Digests:
    """The same of vectors that lie as a column a place."""
    total = np.zeros(len(columns[0]), np.uint64)
    for column, multiplier in zip(columns, _multipliers(len(columns)), strict=True):
        total += _bits(np.asarray(float32(column).fill_null(np.nan))) * multiplier
    return _ended(total, np.full(len(total), len(columns)))


def bound(digests: Digests, offsets: Ints) -> Digests:
    """The digests, bound to their rows' positions."""
    return mixed(digests ^ mixed(offsets.astype(np.int64).view(np.uint64)))


def float32(column: pa.Array) -> pa.Array:
    """Numbers rounded as a feature holds them."""
    return pc.cast(column, pa.float32(), safe=False)
