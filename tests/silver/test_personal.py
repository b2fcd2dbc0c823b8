"""Which key seals a personal record, and what destroying it takes away: in Arrow alone, without log or lake."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import keys
from lakehouse.crypto import Tokens
from lakehouse.data_keys import DataKeys
from lakehouse.errors import KeyDestroyed, KeysMissing
from lakehouse.key_store import KeyName
from lakehouse.keys import KeySource
from lakehouse.registry import registry
from silver.erasing import Erasure, by_customer, first_of_each, keys_of, looking
from silver.masking import Masker
from silver.personal import generation, key_of, opened
from tests.lakehouse.records import T0, raw
from tests.silver.sealed import in_bronze

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture
def source(tmp_path: Path) -> KeySource:
    keys.create(tmp_path)
    return KeySource("file", str(tmp_path))


def _bronze(source: KeySource, values: list[bytes]) -> pa.RecordBatch:
    return in_bronze(source, values, datetime.fromtimestamp(T0 / 1000, UTC), NOW)


def _masked(source: KeySource, batch: pa.RecordBatch, erased: dict[str, list[int]]) -> list[dict[str, Any]]:
    masked, looked_at = Masker(source, registry().latest("payment"), erased, 1).masked(batch)
    found = zip(masked.to_pylist(), looked_at.to_pylist(), strict=True)
    return [{**row, **narrow} for row, narrow in found]


def _token(source: KeySource, customer: bytes) -> str:
    tokens = Tokens(source.keyring())
    return tokens.text(tokens.digests("customer", [customer])[0])


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 50))
def test_the_generation_is_the_number_of_erasures_before_a_position(erasures: list[int], offset: int) -> None:
    assert generation({"v1:a": sorted(erasures)}, "v1:a", offset) == sum(at < offset for at in erasures)
    assert generation({"v1:a": sorted(erasures)}, "v1:b", offset) == 0


def test_what_comes_before_and_after_an_erasure_has_different_keys(source: KeySource) -> None:
    batch = _bronze(source, [raw("payment", customer_id=name) for name in ("C-1", "C-2", "C-1", "C-1", "C-2")])
    rows = _masked(source, batch, {_token(source, b"C-1"): [1, 3]})
    assert [row["personal_key"] for row in rows] == [f"subject|g{number}" for number in (0, 0, 1, 1, 0)]
    assert [opened(DataKeys(source), "silver.payments", row)["customer_id"] for row in rows] == [
        *("C-1", "C-2", "C-1", "C-1", "C-2")
    ]
    assert len({key_of(row) for row in rows}) == 3


def test_an_erased_record_stays_erased_when_it_is_done_again_and_others_do_not_change(source: KeySource) -> None:
    data_keys, token = DataKeys(source), _token(source, b"C-1")
    batch = _bronze(source, [raw("payment", customer_id=name) for name in ("C-1", "C-2", "C-1")])
    erased = {token: [1]}
    before = _masked(source, batch, erased)
    data_keys.destroy(keys_of("T", 0, erased, Erasure(1, "e1", token)))
    with pytest.raises(KeyDestroyed):
        opened(data_keys, "silver.payments", before[0])
    again = _masked(source, batch, erased)
    assert [(row["personal"] is None, row["personal_key"]) for row in again] == [
        *((True, "subject|g0"), (False, "subject|g0"), (False, "subject|g1"))
    ]
    for at in (1, 2):
        assert opened(data_keys, "silver.payments", again[at]) == opened(data_keys, "silver.payments", before[at])
    kept = [{name: v for name, v in row.items() if name != "personal"} for row in before]
    assert [{name: v for name, v in row.items() if name != "personal"} for row in again] == kept


def test_a_record_without_a_customer_has_a_key_of_its_day(source: KeySource) -> None:
    (row,) = _masked(source, _bronze(source, [raw("payment", customer_id="")]), {})
    assert row["personal_key"] == "silver|2026-01-05|g1"
    assert opened(DataKeys(source), "silver.payments", row)["customer_id"] == ""


def test_records_of_one_customer_in_two_logs_have_nothing_to_do_with_each_other() -> None:
    row = {"topic_id": "T", "partition": 0, "customer_token": "v1:a", "personal_key": "subject|g0"}
    other = {**row, "topic_id": "U"}
    assert key_of(row) == KeyName("subject", "T/0|v1:a", 0)
    assert key_of(other) != key_of(row)


@pytest.mark.parametrize("named", ["silver|v1", "subject|v1", "", "subject|g", "silver|2026-01-05"])
def test_a_row_that_names_no_data_key_is_told_of_in_a_sentence(named: str) -> None:
    with pytest.raises(KeysMissing, match="before there were data keys"):
        key_of({"topic_id": "T", "partition": 0, "customer_token": "v1:a", "personal_key": named})


def test_a_record_that_nobody_can_open_keeps_its_place_and_names_its_key(source: KeySource) -> None:
    batch = _bronze(source, [raw("payment"), raw("payment")])
    DataKeys(source).destroy([KeyName("day", "bronze|2026-01-05", 1)])
    rows = _masked(source, batch, {})
    assert [row["broken"] for row in rows] == ["unreadable: key bronze|2026-01-05|g1 is destroyed"] * 2
    assert {(row["personal"], row["personal_key"], row["customer_token"]) for row in rows} == {(None, None, None)}
    assert [row["offset"] for row in rows] == [0, 1]


def test_erasures_are_seen_before_anything_is_masked(source: KeySource) -> None:
    values = [
        raw("erasure", erasure_id="e1", customer_id="C-1"),
        raw("erasure", erasure_id="e2", customer_id="C-2")[:-1],
        raw("erasure", erasure_id="", customer_id="C-3"),
        raw("erasure", erasure_id="e1", customer_id="C-1"),
    ]
    (found,) = looking(source, registry().latest("erasure").id, 1)([_bronze(source, values)])
    seen = [Erasure.of(row) for row in found.to_pylist()]
    token = _token(source, b"C-1")
    assert seen == [Erasure(0, "e1", token), Erasure(3, "e1", token)]
    assert first_of_each(seen) == [Erasure(0, "e1", token)]


def test_an_erasure_destroys_every_generation_before_it() -> None:
    erasures = [Erasure(9, "e3", "a"), Erasure(4, "e1", "a"), Erasure(6, "e2", "b")]
    assert by_customer(erasures) == {"a": [4, 9], "b": [6]}
    assert keys_of("T", 0, by_customer(erasures), erasures[0]) == [
        *(KeyName("subject", "T/0|a", 0), KeyName("subject", "T/0|a", 1))
    ]
