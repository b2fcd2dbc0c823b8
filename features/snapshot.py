"""State on disk: named arrays behind a header, complete and checked or not there at all.

    8 bytes   b"FRAUDLK1"
    8 bytes   length of the header, little-endian
    32 bytes  SHA-256 of the header
    header    JSON: meta, and for every array its name, dtype, shape, place, length and SHA-256
    arrays    one after the other

A file is written beside its place, synced and renamed, so a reader never sees half of one.
"""

import hashlib
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from lakehouse.crash import crash_point
from lakehouse.errors import SnapshotRefused

MAGIC = b"FRAUDLK1"
SUFFIX = ".state"
_HEADER_AT = 48

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Snapshot:
    """What a file holds."""

    meta: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]


def file_name(next_offset: int) -> str:
    """Name of the snapshot that ends just before an offset."""
    return f"{next_offset:020d}{SUFFIX}"


def _bytes(array: npt.NDArray[Any]) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data


def write(path: Path, meta: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a snapshot; after the return it is on the disk under its name."""
    entries, place = [], 0
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    for name, array in contiguous.items():
        raw = _bytes(array)
        entries.append(
            {
                "name": name,
                "dtype": array.dtype.descr if array.dtype.names else array.dtype.str,
                "shape": list(array.shape),
                "place": place,
                "bytes": array.nbytes,
                "sha256": hashlib.sha256(raw).hexdigest(),
            }
        )
        place += array.nbytes
    header = orjson.dumps({"meta": meta, "arrays": entries})
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.new")
    with beside.open("wb") as file:
        file.write(MAGIC + struct.pack("<Q", len(header)) + hashlib.sha256(header).digest() + header)
        for array in contiguous.values():
            file.write(_bytes(array))
        file.flush()
        os.fsync(file.fileno())
    crash_point("snapshot-before-rename")
    beside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _refused(path: Path, why: str) -> SnapshotRefused:
    return SnapshotRefused(
        f"The snapshot {path.name} {why}.",
        "Delete it: the one before it and the log, or `python -m features.job`, make the state again.",
    )


def read(path: Path, parts: Sequence[str] | None = None) -> Snapshot:
    """The snapshot of a file, or only the named parts of it; SnapshotRefused when what is read is torn or altered."""
    raw = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    if len(raw) < _HEADER_AT or raw[:8].tobytes() != MAGIC:
        raise _refused(path, "does not begin like a snapshot")
    (length,) = struct.unpack("<Q", raw[8:16].tobytes())
    begin = _HEADER_AT + length
    if begin > len(raw):
        raise _refused(path, "is torn: its header is cut off")
    if hashlib.sha256(_bytes(raw[_HEADER_AT:begin])).digest() != raw[16:_HEADER_AT].tobytes():
        raise _refused(path, "has an altered header")
    header = orjson.loads(raw[_HEADER_AT:begin].tobytes())
    arrays = {}
    for entry in header["arrays"]:
        if parts is not None and entry["name"].split("/")[0] not in parts:
            continue
        part = raw[begin + entry["place"] : begin + entry["place"] + entry["bytes"]]
        if len(part) != entry["bytes"]:
            raise _refused(path, f"is torn: array {entry['name']} is cut off")
        if hashlib.sha256(_bytes(part)).hexdigest() != entry["sha256"]:
            raise _refused(path, f"is altered: the checksum of array {entry['name']} is another")
        described = entry["dtype"]
        dtype = np.dtype(described) if isinstance(described, str) else np.dtype([(f[0], f[1]) for f in described])
        arrays[entry["name"]] = np.array(part).view(dtype).reshape(entry["shape"])
    return Snapshot(header["meta"], arrays)


def newest(folders: list[Path]) -> list[Path]:
    """Snapshots of some folders, the newest position first."""
    found = [path for folder in folders if folder.exists() for path in folder.glob(f"*{SUFFIX}")]
    return sorted(found, key=lambda path: path.name, reverse=True)


def part(arrays: Arrays, prefix: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays whose names begin with `prefix/`, without it."""
    return {name.removeprefix(f"{prefix}/"): array for name, array in arrays.items() if name.startswith(f"{prefix}/")}


def prefixed(arrays: Arrays, prefix: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays with `prefix/` before their names."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}
