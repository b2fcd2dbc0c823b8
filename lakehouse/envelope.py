"""Key, headers and value of a Kafka record as one run of bytes, so that they are sealed together, and back.

Four bytes with the key's length, the key; two bytes with the number of headers, each as two lengths and two runs; one
byte 1 and the value, or one byte 0 where there is none. Lengths are big-endian; the length 0xFFFFFFFF means null.
"""

import re
import struct
from collections.abc import Sequence

import pyarrow as pa

from lakehouse.crypto import RecordSeal
from lakehouse.data_keys import DataKeys
from lakehouse.errors import KeyDestroyed, KeyUnknown

_NULL = 0xFFFFFFFF
_PLAIN = struct.pack(">IH", _NULL, 0)
_WITH_VALUE = _PLAIN + b"\1"

Headers = Sequence[tuple[str, bytes | None]]

REPAIRS = "fraudlake-repairs"
"""Header of a record that enters the log again: the position of the refused record that it repairs."""
UNREADABLE = "unreadable"
"""Name of the reason for which a record is refused that nobody can open."""
PURGED = f"{UNREADABLE}: purged on request"
_POSITION = re.compile(rb"[A-Za-z0-9_-]{1,64}/[0-9]{1,9}/[0-9]{1,18}")


def packed(key: bytes | None, headers: Headers, value: bytes | None) -> bytes:
    """The record as one run of bytes."""
    if key is None and not headers and value is not None:
        return _WITH_VALUE + value
    parts = [struct.pack(">I", _NULL if key is None else len(key)), key or b"", struct.pack(">H", len(headers))]
    for name, content in headers:
        text = name.encode()
        parts += [struct.pack(">II", len(text), _NULL if content is None else len(content)), text, content or b""]
    parts.append(b"\0" if value is None else b"\1" + value)
    return b"".join(parts)


def value_of(record: bytes) -> bytes | None:
    """The value of a packed record."""
    if record.startswith(_WITH_VALUE):
        return record[len(_WITH_VALUE) :]
    (size,) = struct.unpack_from(">I", record)
    at = 4 + (0 if size == _NULL else size)
    (count,) = struct.unpack_from(">H", record, at)
    at += 2
    for _ in range(count):
        name, content = struct.unpack_from(">II", record, at)
        at += 8 + name + (0 if content == _NULL else content)
    return record[at + 1 :] if record[at] else None


def position(topic_id: str, partition: int, offset: int) -> bytes:
    """What binds a sealed record to its place."""
    return f"{topic_id}/{partition}/{offset}".encode()


def repaired_position(headers: Headers) -> str | None:
    """The position that a record says it repairs; None for an ordinary one, and for a header that is no position."""
    found = next((content for name, content in headers if name == REPAIRS), None)
    return found.decode() if found is not None and _POSITION.fullmatch(found) else None


def open_values(rows: pa.RecordBatch, keys: DataKeys, unreadable: dict[int, str] | None = None) -> list[bytes]:
    """The values of sealed rows (topic_id, partition, offset, sealed, sealing_key); empty where there is none.

    A row that was purged, or whose key is destroyed or unknown, is empty and entered into `unreadable`, by its place in
    the batch with the reason; without such a dictionary it is KeyDestroyed or KeyUnknown.
    """
    names = ("sealing_key", "sealed", "topic_id", "partition", "offset")
    key_ids, sealed, *places = (rows.column(name).to_pylist() for name in names)
    positions = list(map(position, *places))
    values = [b""] * rows.num_rows
    purged = [row for row, one in enumerate(sealed) if not one]
    if purged and unreadable is None:
        raise KeyDestroyed(f"The record at {positions[purged[0]].decode()} was purged on request.")
    if unreadable is not None:
        unreadable.update(dict.fromkeys(purged, PURGED))
    for key_id in dict.fromkeys(key_ids):
        seal = _seal(keys, key_id, unreadable is not None)
        at = [row for row, one in enumerate(key_ids) if one == key_id and sealed[row]]
        if isinstance(seal, str):
            assert unreadable is not None
            unreadable.update(dict.fromkeys(at, seal))
            continue
        records = seal.open([sealed[row] for row in at], [positions[row] for row in at])
        for row, record in zip(at, records, strict=True):
            values[row] = value_of(record) or b""
    return values


def _seal(keys: DataKeys, key_id: str, or_reason: bool) -> RecordSeal | str:
    try:
        return RecordSeal.opening(keys, key_id)
    except (KeyDestroyed, KeyUnknown) as error:
        if not or_reason:
            raise
        return f"{UNREADABLE}: key {key_id} is {'destroyed' if isinstance(error, KeyDestroyed) else 'unknown'}"
