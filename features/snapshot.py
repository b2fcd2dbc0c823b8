"""State on disk: named arrays behind a header, complete and checked or not there at all.

    8 bytes   b"FRAUDLK2"
    8 bytes   length of the header, little-endian
    32 bytes  SHA-256 of the header
    header    JSON: meta, and for every array its name, dtype, shape, place, length and SHA-256
    arrays    one after the other, each from a multiple of 64 bytes

A file is written beside its place, synced and renamed, so a reader never sees half of one.
"""

import hashlib
import os
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from lakehouse.crash import crash_point
from lakehouse.errors import SnapshotRefused
from lakehouse.state_files import SUFFIX as SUFFIX
from lakehouse.state_files import file_name as file_name
from lakehouse.state_files import newest as newest
from lakehouse.state_files import position as position

MAGIC = b"FRAUDLK2"
TORN = ".new"
"""What a file ends with that is not whole yet."""
_HEADER_AT = 48

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Snapshot:
    """What a file holds."""

    meta: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]


def _padded(size: int) -> int:
    """Arrays begin at multiples of a cache line, so that they can be used where they lie."""
    return -(-size // 64) * 64


def _bytes(array: npt.NDArray[Any]) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data


def write(path: Path, meta: Mapping[str, Any], arrays: Arrays, working: Path | None = None) -> None:
    """Write a snapshot; after the return it is on the disk under its name.

    Until it is whole it lies beside its place, or in a `working` folder on the same disk.
    """
    entries, place = [], 0
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    raw = [_bytes(array) for array in contiguous.values()]
    for (name, array), digest in zip(contiguous.items(), _digests(raw), strict=True):
        entries.append(
            {
                "name": name,
                "dtype": np.lib.format.dtype_to_descr(array.dtype),
                "shape": list(array.shape),
                "place": place,
                "bytes": array.nbytes,
                "sha256": digest,
            }
        )
        place += _padded(array.nbytes)
    header = orjson.dumps({"meta": meta, "arrays": entries})
    header += b" " * (_padded(_HEADER_AT + len(header)) - _HEADER_AT - len(header))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = (path.parent if working is None else working) / path.with_suffix(f".{os.getpid()}{TORN}").name
    try:
        with beside.open("wb") as file:
            file.write(MAGIC + struct.pack("<Q", len(header)) + hashlib.sha256(header).digest() + header)
            for part in raw:
                file.write(part)
                file.write(bytes(_padded(len(part)) - len(part)))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        # Of a full disk it would be what keeps the disk full.
        beside.unlink(missing_ok=True)
        raise
    crash_point("snapshot-before-rename")
    beside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _digests(raw: Sequence[memoryview]) -> list[str]:
    """SHA-256 of arrays and the zeros behind them, two at a time."""

    def digest(part: memoryview) -> str:
        found = hashlib.sha256(part)
        found.update(bytes(_padded(len(part)) - len(part)))
        return found.hexdigest()

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(digest, raw))


def _refused(path: Path, why: str) -> SnapshotRefused:
    return SnapshotRefused(
        f"The snapshot {path.name} {why}.",
        "Delete it: the one before it and the log, or `python -m features.job`, make the state again.",
    )


def _dtype(described: str | list[list[Any]]) -> np.dtype[Any]:
    if isinstance(described, str):
        return np.dtype(described)
    return np.lib.format.descr_to_dtype([(name, kind, *map(tuple, shape)) for name, kind, *shape in described])


def read(path: Path, parts: Sequence[str] | None = None) -> Snapshot:
    """The snapshot of a file, or only the named parts of it; SnapshotRefused when what is read is torn or altered.

    The arrays are the file's own pages, private to whoever writes into them.
    """
    raw = np.asarray(np.memmap(path, np.uint8, "c")) if path.stat().st_size else np.zeros(0, np.uint8)
    return parsed(raw, path, parts)


def parsed(raw: npt.NDArray[np.uint8], path: Path, parts: Sequence[str] | None = None) -> Snapshot:
    """The snapshot of a file's bytes, as `read`; the arrays are views of them, `path` is for errors."""
    if len(raw) < _HEADER_AT or raw[:8].tobytes() != MAGIC:
        raise _refused(path, "does not begin like a snapshot")
    (length,) = struct.unpack("<Q", raw[8:16].tobytes())
    begin = _HEADER_AT + length
    if begin > len(raw):
        raise _refused(path, "is torn: its header is cut off")
    if hashlib.sha256(_bytes(raw[_HEADER_AT:begin])).digest() != raw[16:_HEADER_AT].tobytes():
        raise _refused(path, "has an altered header")
    header = orjson.loads(raw[_HEADER_AT:begin].tobytes())
    entries = [e for e in header["arrays"] if parts is None or e["name"].split("/")[0] in parts]
    found = [raw[begin + e["place"] :][: _padded(e["bytes"])] for e in entries]
    for entry, part, digest in zip(entries, found, _digests([_bytes(part) for part in found]), strict=True):
        if len(part) != _padded(entry["bytes"]):
            raise _refused(path, f"is torn: array {entry['name']} is cut off")
        if digest != entry["sha256"]:
            raise _refused(path, f"is altered: the checksum of array {entry['name']} is another")
    arrays = {
        e["name"]: part[: e["bytes"]].view(_dtype(e["dtype"])).reshape(e["shape"])
        for e, part in zip(entries, found, strict=True)
    }
    return Snapshot(header["meta"], arrays)


def part(arrays: Arrays, prefix: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays whose names begin with `prefix/`, without it."""
    return {name.removeprefix(f"{prefix}/"): array for name, array in arrays.items() if name.startswith(f"{prefix}/")}


def prefixed(arrays: Arrays, prefix: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays with `prefix/` before their names."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}
