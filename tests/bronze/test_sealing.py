"""Kafka rows become bronze rows in Arrow alone: no broker and no Spark are needed to see what is kept of a record."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bronze.sealing import sealing
from lakehouse.contracts import bronze
from lakehouse.crypto import Digests, RecordSeal
from lakehouse.data_keys import DataKeys
from lakehouse.envelope import packed
from lakehouse.errors import KeyDestroyed
from lakehouse.keys import Keyring, KeySource
from tests.lakehouse.records import raw

NOW = datetime(2026, 1, 5, 23, 59, 59, 250_000, UTC)
BROKER_TIME = datetime(2026, 1, 5, 8, 0, 0, 123_000, UTC)

Row = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]] | None]


@pytest.fixture(scope="module")
def source(state_folder: Path) -> KeySource:
    return KeySource("file", str(state_folder / "keys"))


@pytest.fixture(scope="module")
def keyring(source: KeySource) -> Keyring:
    return source.keyring()


def _header(key: str, value: bytes | None) -> dict[str, str]:
    return {"key": key} if value is None else {"key": key, "value": base64.b64encode(value).decode()}


def _batch(rows: list[Row], first: int = 17) -> pa.RecordBatch:
    headers = [None if h is None else json.dumps([_header(k, v) for k, v in h]) for _, _, h in rows]
    return pa.RecordBatch.from_pydict(
        {
            "key": pa.array([key for key, _, _ in rows], pa.binary()),
            "value": pa.array([value for _, value, _ in rows], pa.binary()),
            "headers": pa.array(headers, pa.string()),
            "partition": pa.array([2] * len(rows), pa.int32()),
            "offset": pa.array(range(first, first + len(rows)), pa.int64()),
            "timestamp": pa.array([BROKER_TIME] * len(rows), pa.timestamp("us", "UTC")),
        }
    )


def _sealed(source: KeySource, *batches: pa.RecordBatch) -> list[dict[str, Any]]:
    made = list(sealing(source, "T", NOW)(iter(batches)))
    for batch in made:
        assert batch.schema.names == list(bronze.EVENTS.column_names)
        batch.validate(full=True)
    return [row for batch in made for row in batch.to_pylist()]


ROWS: list[Row] = [
    (None, raw("payment"), None),
    (b"key", raw("label"), [("trace", b"7"), ("empty", None)]),
    (b"key", None, None),
    (None, b"", []),
    (b"", b"{}", [("", b"")]),
    (None, b"\x00\xff\xff\xff\xff", None),
    (None, b"\x00\x00\x00\x00", None),
]


def test_every_record_is_kept_with_key_and_headers(source: KeySource) -> None:
    found = _sealed(source, _batch(ROWS))
    seal = RecordSeal.opening(DataKeys(source), "bronze|2026-01-05|g1")
    for row, (key, value, headers), offset in zip(found, ROWS, range(17, 24), strict=True):
        assert seal.open([row["sealed"]], [f"T/2/{offset}".encode()]) == [packed(key, headers or [], value)]
        assert row["sealing_key"] == "bronze|2026-01-05|g1"


def test_where_it_came_from_and_what_it_was_stand_beside_it(source: KeySource, keyring: Keyring) -> None:
    found = _sealed(source, _batch(ROWS))
    digests = Digests(keyring)
    assert [row["schema_id"] for row in found] == [9, 7, None, None, None, None, None]
    assert [row["record_bytes"] for row in found] == [len(value or b"") for _, value, _ in ROWS]
    assert [row["payload_digest"] for row in found] == [digests.payload(value or b"") for _, value, _ in ROWS]
    for row in found:
        assert (row["topic_id"], row["partition"], row["broker_time"]) == ("T", 2, BROKER_TIME)
        assert (row["ingested_at"], row["ingest_date"]) == (NOW, NOW.date())


def test_batches_without_headers_or_rows_are_no_special_case(source: KeySource) -> None:
    found = _sealed(source, _batch(ROWS[:1]), _batch([]), _batch(ROWS[2:3], first=30))
    assert [row["offset"] for row in found] == [17, 30]


def test_a_record_is_never_sealed_to_the_same_bytes_twice(source: KeySource) -> None:
    found = _sealed(source, _batch(ROWS[:1]), _batch(ROWS[:1]))
    assert found[0]["sealed"] != found[1]["sealed"]
    assert found[0]["payload_digest"] == found[1]["payload_digest"]


def test_the_position_that_a_record_repairs_is_kept_in_clear(source: KeySource) -> None:
    headers: list[tuple[str, bytes | None]] = [("fraudlake-repairs", b"T/2/5")]
    found = _sealed(source, _batch([(None, raw("payment"), headers), *ROWS]))
    assert [row["repairs"] for row in found] == ["T/2/5", *[None] * len(ROWS)]


def test_workers_read_the_key_that_the_driver_has_made(source: KeySource) -> None:
    again = NOW.replace(day=6)
    work = sealing(source, "T", again)
    made = DataKeys(source).store.generations("day", "bronze|2026-01-06")
    assert [key.name.generation for key in made] == [1]
    (batch,) = work([_batch(ROWS[:1])])
    assert batch.column("sealing_key").to_pylist() == ["bronze|2026-01-06|g1"]
    DataKeys(source).destroy([made[0].name])
    with pytest.raises(KeyDestroyed, match=r"bronze\|2026-01-06\|g1"):
        list(work([_batch(ROWS[:1])]))
    (batch,) = sealing(source, "T", again)([_batch(ROWS[:1])])
    assert batch.column("sealing_key").to_pylist() == ["bronze|2026-01-06|g2"]
