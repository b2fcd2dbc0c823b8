import struct
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import keys
from lakehouse.crypto import RecordSeal
from lakehouse.data_keys import DataKeys, day_key_id, day_key_name
from lakehouse.envelope import REPAIRS, open_values, packed, position, repaired_position, value_of
from lakehouse.errors import ContractBroken, KeyDestroyed
from lakehouse.keys import KeySource

Headers = list[tuple[str, bytes | None]]

NULLABLE = st.none() | st.binary(max_size=30)
HEADERS = st.lists(st.tuples(st.text(max_size=8), NULLABLE), max_size=4)


def unpacked(record: bytes) -> tuple[bytes | None, Headers, bytes | None]:
    """The format of lakehouse.envelope read by its description."""

    def run(size: int) -> bytes | None:
        nonlocal at
        if size == 0xFFFFFFFF:
            return None
        at += size
        return record[at - size : at]

    def number(form: str) -> int:
        nonlocal at
        (found,) = struct.unpack_from(form, record, at)
        at += struct.calcsize(form)
        return int(found)

    at = 0
    key = run(number(">I"))
    headers: Headers = []
    for _ in range(number(">H")):
        name_size, content_size = number(">I"), number(">I")
        name = run(name_size)
        assert name is not None
        headers.append((name.decode(), run(content_size)))
    has_value = number(">B")
    assert has_value or at == len(record)
    return key, headers, record[at:] if has_value else None


@given(key=NULLABLE, headers=HEADERS, value=NULLABLE)
def test_a_record_comes_back_with_its_key_headers_and_value(
    key: bytes | None, headers: Headers, value: bytes | None
) -> None:
    record = packed(key, headers, value)
    assert unpacked(record) == (key, headers, value)
    assert value_of(record) == value


@pytest.mark.parametrize(
    ("record", "bytes_of_it"),
    [
        ((None, [], b"v"), b"\xff\xff\xff\xff\x00\x00\x01v"),
        ((None, [], b""), b"\xff\xff\xff\xff\x00\x00\x01"),
        ((None, [], None), b"\xff\xff\xff\xff\x00\x00\x00"),
        ((b"", [], None), b"\x00\x00\x00\x00\x00\x00\x00"),
        ((b"k", [("h", None)], b"v"), b"\x00\x00\x00\x01k\x00\x01\x00\x00\x00\x01\xff\xff\xff\xffh\x01v"),
        ((b"k", [("h", b"x")], None), b"\x00\x00\x00\x01k\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01hx\x00"),
    ],
)
def test_the_bytes_of_a_record(record: tuple[bytes | None, Headers, bytes | None], bytes_of_it: bytes) -> None:
    assert packed(*record) == bytes_of_it


def test_absent_and_empty_are_not_the_same() -> None:
    records = {
        packed(key, [("h", header)], value) for key in (None, b"") for header in (None, b"") for value in (None, b"")
    }
    assert len(records) == 8


def _rows(places: list[tuple[str, int, int]], sealed: list[bytes], key_ids: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "topic_id": [p[0] for p in places],
            "partition": pa.array([p[1] for p in places], pa.int32()),
            "offset": [p[2] for p in places],
            "sealed": pa.array(sealed, pa.binary()),
            "sealing_key": key_ids,
        }
    )


PLACES = [("T", 0, 7), ("T", 0, 8), ("T", 1, 7)]


@pytest.fixture
def data_keys(tmp_path: Path) -> DataKeys:
    keys.create(tmp_path)
    return DataKeys(KeySource("file", str(tmp_path)))


def _of_days(data_keys: DataKeys, days: list[str]) -> tuple[list[bytes], list[str]]:
    """Records of consecutive days, sealed, and the ids of their keys."""
    names = [data_keys.of_today(f"bronze|{day}") for day in days]
    seals = [RecordSeal(data_keys.key(name), day_key_id(name)) for name in names]
    values = [b"one", None, b""]
    records = [packed(b"key", [("h", b"x")], value) for value in values]
    sealed = [
        seal.seal([record], [position(*place)])[0] for seal, record, place in zip(seals, records, PLACES, strict=True)
    ]
    return sealed, [seal.key_id for seal in seals]


def test_sealed_rows_of_several_days_open_to_their_values(data_keys: DataKeys) -> None:
    sealed, key_ids = _of_days(data_keys, ["2026-01-05", "2026-01-06", "2026-01-05"])
    assert open_values(_rows(PLACES, sealed, key_ids), data_keys) == [b"one", b"", b""]
    with pytest.raises(ContractBroken, match="T/0/8"):
        open_values(_rows(PLACES, [sealed[0], sealed[0], sealed[2]], key_ids), data_keys)


def test_a_row_whose_key_is_gone_is_refused_or_named_with_the_reason(data_keys: DataKeys) -> None:
    sealed, key_ids = _of_days(data_keys, ["2026-01-05", "2026-01-06", "2026-01-06"])
    data_keys.destroy([day_key_name("bronze|2026-01-06|g1")])
    key_ids[2] = "bronze|2026-01-06|g2"
    with pytest.raises(KeyDestroyed, match=r"bronze\|2026-01-06\|g1"):
        open_values(_rows(PLACES, sealed, key_ids), data_keys)
    unreadable: dict[int, str] = {}
    assert open_values(_rows(PLACES, sealed, key_ids), data_keys, unreadable) == [b"one", b"", b""]
    assert unreadable == {
        1: "unreadable: key bronze|2026-01-06|g1 is destroyed",
        2: "unreadable: key bronze|2026-01-06|g2 is unknown",
    }


def test_a_position_names_topic_partition_and_offset() -> None:
    assert position("T", 0, 17) == b"T/0/17"


@pytest.mark.parametrize(
    ("headers", "position"),
    [
        ([], None),
        ([("trace", b"T/0/17")], None),
        ([(REPAIRS, None)], None),
        ([("trace", b"x"), (REPAIRS, b"a-topic_Id/0/17")], "a-topic_Id/0/17"),
        ([(REPAIRS, b"T/0/17\n")], None),
        ([(REPAIRS, b"T/0/-1")], None),
        ([(REPAIRS, b"T/0/1234567890123456789")], None),
        ([(REPAIRS, b"T/0/\xd9\xa1")], None),
        ([(REPAIRS, b"4539148803436467")], None),
    ],
)
def test_only_a_position_is_taken_from_the_header_that_names_one(headers: Headers, position: str | None) -> None:
    assert repaired_position(headers) == position
