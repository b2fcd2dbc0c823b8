"""A table outside of the lake: Parquet files beside a manifest that tells of each of them and of what they hold.

    <folder>/manifest.json          table, schema, rows, digest of the data, SHA-256 of every file, where it is from
    <folder>/part-00000.parquet     rows in the order of their place

The digest of the data is of the rows in that order, column by column in the contract's, and of nothing else: a
warehouse that unloads the same rows into other files has the same digest. A file that changed, a missing one, one too
many and rows of another schema are refused before anything is made of them.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.errors import Terminal
from lakehouse.files import arrow_schema
from lakehouse.tables import Table

MANIFEST = "manifest.json"
FORMAT = 1
FILE_ROWS = 500_000
_HASHED_ROWS = 65_536


class ExportRefused(Terminal):
    """A folder does not hold what its manifest says, or cannot take an export."""


@dataclass(frozen=True)
class Export:
    """The rows of a folder, in the order of their place, and what its manifest says of where they come from."""

    rows: pa.Table
    about: Mapping[str, Any]
    digest: str
    """Of the data: SHA-256, hex."""


def schema_of(table: Table) -> list[list[Any]]:
    """[name, type, may be null] of every column, as manifests hold it."""
    return [[column.name, column.type, column.nullable] for column in table.columns]


def in_order(rows: pa.Table, order: Sequence[str]) -> pa.Table:
    """Rows by the columns that identify them."""
    return rows.sort_by([(name, "ascending") for name in order]).combine_chunks()


def digest_of(rows: pa.Table) -> str:
    """SHA-256 (hex) over every column's digest: which values there are, and the values; the rows' order counts."""
    whole = hashlib.sha256()
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        of = hashlib.sha256(name.encode())
        for at in range(0, len(column), _HASHED_ROWS):
            for part in _bytes(column.slice(at, _HASHED_ROWS).combine_chunks()):
                of.update(part)
        whole.update(of.digest())
    return whole.hexdigest()


def _bytes(values: pa.Array) -> Iterator[bytes]:
    """What a column's values are: which are there, how long those of changing length are, and their bytes."""
    kind = values.type
    yield np.packbits(values.is_valid().to_numpy(zero_copy_only=False)).tobytes()
    if pa.types.is_list(kind):
        yield pc.fill_null(pc.list_value_length(values), 0).cast(pa.int64()).to_numpy().tobytes()
        yield from _bytes(values.flatten())
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        known = values.drop_null().cast(pa.binary())
        yield pc.binary_length(known).cast(pa.int64()).to_numpy().tobytes()
        yield b"".join(known.to_pylist())
    elif pa.types.is_boolean(kind):
        yield np.packbits(pc.fill_null(values, False).to_numpy(zero_copy_only=False)).tobytes()
    else:
        plain = values.cast(pa.int64()) if pa.types.is_timestamp(kind) else values
        yield plain.drop_null().to_numpy(zero_copy_only=False).tobytes()


def write(folder: Path, table: Table, rows: pa.Table, order: Sequence[str], about: Mapping[str, Any]) -> str:
    """Write rows into an empty folder, the manifest last; the digest of the data."""
    if folder.exists() and any(folder.iterdir()):
        raise ExportRefused(f"{folder} is not empty.", "Name a folder that is, or one that is not there yet.")
    folder.mkdir(parents=True, exist_ok=True)
    found = in_order(rows.select(list(table.column_names)).cast(arrow_schema(table)), order)
    files: dict[str, dict[str, Any]] = {}
    for number, at in enumerate(range(0, max(found.num_rows, 1), FILE_ROWS)):
        path = folder / f"part-{number:05}.parquet"
        part = found.slice(at, FILE_ROWS)
        pq.write_table(part, path, compression="zstd", write_page_checksum=True)
        files[path.name] = {"sha256": _sha256(path), "rows": part.num_rows}
    digest = digest_of(found)
    manifest = {
        "format": FORMAT,
        "table": table.name,
        "schema": schema_of(table),
        "order": list(order),
        "rows": found.num_rows,
        "digest": digest,
        "files": files,
        "about": about,
    }
    (folder / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    return digest


def read(folder: Path, table: Table) -> Export:
    """The rows of a folder, after every check; ExportRefused names what is wrong and where."""
    again = "Export it again: python -m gold.export --to ANOTHER_FOLDER"
    try:
        manifest = orjson.loads((folder / MANIFEST).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ExportRefused(f"{folder / MANIFEST} cannot be read ({type(error).__name__}).", again) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or manifest.get("table") != table.name:
        raise ExportRefused(f"{folder / MANIFEST} is not of an export of {table.name}, format {FORMAT}.", again)
    if manifest["schema"] != schema_of(table):
        names = {one[0] for one in manifest["schema"]} ^ set(table.column_names)
        told = f"other columns ({', '.join(sorted(names))})" if names else "other types or another order of columns"
        raise ExportRefused(f"{folder} has {told} than {table.name} here.", again)
    there = {path.name for path in folder.glob("*.parquet")}
    for name in sorted(there ^ set(manifest["files"])):
        raise ExportRefused(f"{folder / name} is {'not in the manifest' if name in there else 'missing'}.", again)
    for name, told in manifest["files"].items():
        if (found := _sha256(folder / name)) != told["sha256"]:
            raise ExportRefused(
                f"{folder / name} was changed: its SHA-256 is {found[:12]}, the manifest has {told['sha256'][:12]}.",
                again,
            )
    parts = [pq.read_table(folder / name, partitioning=None) for name in sorted(manifest["files"])]
    rows = in_order(pa.concat_tables(parts).cast(arrow_schema(table)), manifest["order"])
    if (digest := digest_of(rows)) != manifest["digest"]:
        raise ExportRefused(
            f"The rows of {folder} have the digest {digest[:12]}, the manifest has {manifest['digest'][:12]}.",
            again,
        )
    return Export(rows, manifest["about"], digest)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
