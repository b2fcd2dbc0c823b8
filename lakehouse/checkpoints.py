"""Checkpoints of a table's log: which of them have all their parts, and whether one can be read."""

import re
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

_NAME = re.compile(r"(?P<version>\d{20})\.checkpoint(\.\d{10}\.(?P<parts>\d{10}))?\.parquet")


def whole(names: Iterable[str]) -> dict[int, list[str]]:
    """Of names in a log's folder the files of every whole checkpoint, by version.

    What a writer is still at has another name.
    """
    parts: dict[tuple[str, str], list[str]] = {}
    for name in names:
        if found := _NAME.fullmatch(name):
            parts.setdefault((found["version"], found["parts"] or "1"), []).append(name)
    return {int(version): some for (version, number), some in parts.items() if len(some) == int(number)}


def fault_of(store: fs.FileSystem, name: str) -> Exception | None:
    """Why a file of a checkpoint cannot be read from its first byte to its last; None for a sound one."""
    try:
        with store.open_input_file(f"_delta_log/{name}") as file:
            pq.ParquetFile(file).read()
    except (OSError, pa.ArrowException) as error:
        return error
    return None
