"""A column of byte strings as slices of one buffer: what the codec reads from and writes to without copying."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

Bytes8 = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

EMPTY = np.zeros(0, np.uint8)


@njit(cache=True)
def _gather(buffer: Bytes8, start: Ints, length: Ints, out: Bytes8) -> None:
    at = 0
    for i in range(len(start)):
        s = start[i]
        for j in range(length[i]):
            out[at + j] = buffer[s + j]
        at += length[i]


@njit(cache=True)
def hash_of(buffer: Bytes8, start: int, length: int, seed: int) -> int:
    """The hash of one string, for compiled code: what `Texts.hash64` gives."""
    # FNV-1a followed by the 64-bit finaliser of MurmurHash3: fixed on every machine, no secret.
    h = np.uint64(0xCBF29CE484222325) ^ np.uint64(seed)
    for j in range(start, start + length):
        h = (h ^ np.uint64(buffer[j])) * np.uint64(0x100000001B3)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xFF51AFD7ED558CCD)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xC4CEB9FE1A85EC53)
    h ^= h >> np.uint64(33)
    return np.int64(h)  # type: ignore[return-value]


@njit(cache=True)
def _hash64(buffer: Bytes8, start: Ints, length: Ints, seed: int, out: Ints) -> None:
    for i in range(len(start)):
        out[i] = hash_of(buffer, start[i], length[i], seed)


@dataclass(frozen=True)
class Texts:
    """`n` byte strings; string i is buffer[start[i] : start[i] + length[i]]. Nulls are kept beside it, not in it."""

    buffer: Bytes8
    start: Ints
    length: Ints

    def __len__(self) -> int:
        return len(self.start)

    @staticmethod
    def of(values: Sequence[str | bytes]) -> "Texts":
        """The column holding `values`."""
        raw = [v.encode() if isinstance(v, str) else v for v in values]
        length = np.fromiter(map(len, raw), np.int64, len(raw))
        return Texts(np.frombuffer(b"".join(raw), np.uint8), np.add.accumulate(length) - length, length)

    @staticmethod
    def fixed(rows: Bytes8) -> "Texts":
        """The column whose strings are the rows of a (n, width) matrix."""
        n, width = rows.shape
        return Texts(
            np.ascontiguousarray(rows).reshape(-1), np.arange(n, dtype=np.int64) * width, np.full(n, width, np.int64)
        )

    @staticmethod
    def from_arrow(array: pa.Array) -> "Texts":
        """The column of an Arrow string or binary array; a null becomes an empty string."""
        array = array.cast(pa.large_binary())
        _, offsets, data = array.buffers()
        bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
        buffer = EMPTY if data is None else np.frombuffer(data, np.uint8)
        length = np.diff(bounds)
        if array.null_count:
            # Arrow lets a null lie over bytes of any length.
            length[array.is_null().to_numpy(zero_copy_only=False)] = 0
        return Texts(buffer, bounds[:-1].copy(), length)

    def take(self, index: npt.NDArray[np.integer] | Flags) -> "Texts":
        """The strings at `index` (positions or a mask), sharing the buffer."""
        return Texts(self.buffer, self.start[index], self.length[index])

    def packed(self) -> tuple[Bytes8, Ints]:
        """The strings without gaps, and n + 1 offsets into them."""
        offsets = np.zeros(len(self) + 1, np.int64)
        np.cumsum(self.length, out=offsets[1:])
        out = np.empty(int(offsets[-1]), np.uint8)
        _gather(self.buffer, self.start, self.length, out)
        return out, offsets

    def get(self, row: int) -> bytes:
        """One string."""
        at = int(self.start[row])
        return self.buffer[at : at + int(self.length[row])].tobytes()

    def to_list(self) -> list[bytes]:
        """The strings as Python bytes."""
        raw: memoryview = np.ascontiguousarray(self.buffer).data
        return [bytes(raw[s : s + n]) for s, n in zip(self.start.tolist(), self.length.tolist(), strict=True)]

    def to_arrow(self, valid: Flags | None = None, binary: bool = False) -> pa.Array:
        """An Arrow string (or binary) array; where `valid` is false, null."""
        data, offsets = self.packed()
        mask = None if valid is None or bool(valid.all()) else pa.py_buffer(np.packbits(valid, bitorder="little"))
        kind = pa.large_binary() if binary else pa.large_string()
        array = pa.Array.from_buffers(kind, len(self), [mask, pa.py_buffer(offsets), pa.py_buffer(data)])
        return array.cast(pa.binary() if binary else pa.string())

    def hash64(self, seed: int = 0) -> Ints:
        """An unkeyed 64-bit hash of every string, the same on every machine; for public identifiers only."""
        out = np.empty(len(self), np.int64)
        _hash64(self.buffer, self.start, self.length, seed, out)
        return out

    @staticmethod
    def concat(parts: Sequence["Texts"]) -> "Texts":
        """One column after the other."""
        buffers: dict[int, int] = {}
        kept: list[Bytes8] = []
        size = 0
        for part in parts:
            if id(part.buffer) not in buffers:
                buffers[id(part.buffer)] = size
                kept.append(part.buffer)
                size += len(part.buffer)
        if not kept:
            return Texts(EMPTY, np.zeros(0, np.int64), np.zeros(0, np.int64))
        return Texts(
            kept[0] if len(kept) == 1 else np.concatenate(kept),
            np.concatenate([part.start + buffers[id(part.buffer)] for part in parts]),
            np.concatenate([part.length for part in parts]),
        )
