"""Records of the topics as columns, decoded by fastavro from the committed schemas."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa

from audit.errors import CannotLook

PREFIX_BYTES = 5
"""A zero byte and the schema's id, big-endian: the Confluent wire format."""


@dataclass(frozen=True)
class Schema:
    """One version of a kind of record."""

    id: int
    kind: str
    fields: tuple[dict[str, Any], ...]
    read: Callable[[io.BytesIO], dict[str, Any]]

    @property
    def carried(self) -> tuple[str, ...]:
        """Fields that are nobody's personal data: tables carry them as they are."""
        return tuple(field["name"] for field in self.fields if not field.get("pd"))

    def decoded(self, value: bytes) -> dict[str, Any] | None:
        """The record of a value, prefix included; None where it is not one, whole and nothing more."""
        body = io.BytesIO(value[PREFIX_BYTES:])
        try:
            found = self.read(body)
        except Exception:  # fastavro raises whatever the bytes lead it to
            return None
        return found if body.tell() == len(value) - PREFIX_BYTES else None

    def columns(self, records: Sequence[dict[str, Any]]) -> list[pa.Array]:
        """The carried fields of some records; times in microseconds, as tables hold them.

        A record of an older version lacks some: their defaults, as tables hold those too.
        """
        arrays = []
        for field in self.fields:
            if field.get("pd"):
                continue
            kind = field["type"][1] if isinstance(field["type"], list) else field["type"]
            values = [record.get(field["name"], field.get("default")) for record in records]
            logical = kind.get("logicalType") if isinstance(kind, dict) else None
            if logical == "timestamp-millis":
                arrays.append(pa.array([None if ms is None else ms * 1000 for ms in values], pa.int64()))
            else:
                arrays.append(pa.array(values, _TYPES["array" if _is_list(kind) else _plain(kind)]))
        return arrays


_TYPES = {
    "string": pa.string(),
    "bytes": pa.binary(),
    "int": pa.int64(),
    "long": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "array": pa.list_(pa.string()),
}


def _is_list(kind: object) -> bool:
    return isinstance(kind, dict) and kind["type"] == "array"


def _plain(kind: Any) -> str:
    return str(kind["type"] if isinstance(kind, dict) else kind)


def _without_logical_types(kind: Any) -> Any:
    if isinstance(kind, list):
        return [_without_logical_types(one) for one in kind]
    return kind["type"] if isinstance(kind, dict) and "logicalType" in kind else kind


def load(folder: Path) -> dict[int, Schema]:
    """The schemas of a folder by id, from its registry file; CannotLook where one is lacking."""
    try:
        entries = json.loads((folder / "registry.json").read_text())
        return {int(entry["id"]): _schema(folder, entry) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotLook(f"The schemas in {folder} cannot be read: {error}.", "--schemas names their folder.") from None


def _schema(folder: Path, entry: dict[str, Any]) -> Schema:
    declared = json.loads((folder / f"{entry['subject']}.v{entry['version']}.avsc").read_text())
    # Numbers are compared, not moments: fastavro would make a datetime of each.
    bare = [{**field, "type": _without_logical_types(field["type"])} for field in declared["fields"]]
    parsed = fastavro.parse_schema({**declared, "name": f"{entry['subject']}_{entry['id']}", "fields": bare})
    return Schema(
        int(entry["id"]),
        entry["subject"],
        tuple(declared["fields"]),
        lambda body: fastavro.schemaless_reader(body, parsed),
    )
