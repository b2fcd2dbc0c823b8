import base64
import json
import os
import time
from itertools import permutations
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse import keys
from lakehouse.crypto import BLOCK_BYTES, PersonalSeal, RecordSeal, fernet_head
from lakehouse.data_keys import DataKeys, day_key_id, day_key_name
from lakehouse.errors import ContractBroken, KeyDestroyed, KeysMissing, KeyUnknown
from lakehouse.keys import KeySource
from tests.lakehouse.test_keys import FIRST, SECOND

POSITIONS = [b"topic/0/17", b"topic/0/18", b"topic/1/17", b"other/0/17"]


@given(st.lists(st.binary(max_size=300), min_size=4, max_size=4))
def test_a_sealed_record_opens_at_its_position_only(records: list[bytes]) -> None:
    seal = RecordSeal(FIRST, "bronze|2026-01-05|g1")
    sealed = seal.seal(records, POSITIONS)
    assert seal.open(sealed, POSITIONS) == records
    for a, b in permutations(range(4), 2):
        with pytest.raises(ContractBroken, match=POSITIONS[b].decode()):
            seal.open([sealed[a]], [POSITIONS[b]])


@settings(max_examples=25)
@given(st.binary(max_size=40), st.data())
def test_a_record_seal_with_one_bit_changed_or_bytes_lost_does_not_open(record: bytes, data: st.DataObject) -> None:
    seal = RecordSeal(FIRST, "bronze|2026-01-05|g1")
    sealed = bytearray(seal.seal([record], [b"topic/0/17"])[0])
    shorter = bytes(sealed[: data.draw(st.integers(0, len(sealed) - 1))])
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(sealed), shorter):
        with pytest.raises(ContractBroken, match="was altered, moved or sealed with another key"):
            seal.open([damaged], [b"topic/0/17"])


def test_a_record_opens_with_the_key_that_its_row_names(tmp_path: Path) -> None:
    keys.create(tmp_path)
    data_keys = DataKeys(KeySource("file", str(tmp_path)))
    names = [data_keys.of_today(f"bronze|{day}") for day in ("2026-01-05", "2026-01-06")]
    sealed = [RecordSeal(data_keys.key(name), day_key_id(name)).seal([b"record"], [b"p"])[0] for name in names]
    first, second = (RecordSeal.opening(data_keys, f"bronze|{day}|g1") for day in ("2026-01-05", "2026-01-06"))
    assert first.open(sealed[:1], [b"p"]) == second.open(sealed[1:], [b"p"]) == [b"record"]
    with pytest.raises(ContractBroken, match="sealed with another key"):
        first.open(sealed[1:], [b"p"])
    data_keys.destroy(names[:1])
    with pytest.raises(KeyDestroyed, match=r"bronze\|2026-01-05\|g1 was destroyed"):
        RecordSeal.opening(data_keys, "bronze|2026-01-05|g1")
    with pytest.raises(KeyUnknown, match=r"bronze\|2026-01-07\|g1 is not in .*data_keys\.sqlite"):
        RecordSeal.opening(data_keys, "bronze|2026-01-07|g1")


@pytest.mark.parametrize(
    "key_id", ["bronze|2026-01-05|v1", "silver|v1", "", "bronze|2026-1-5|g1", "gold|2026-01-05|g1"]
)
def test_a_row_of_a_lake_from_before_data_keys_is_named_and_told_what_to_do(key_id: str) -> None:
    with pytest.raises(KeysMissing) as refused:
        day_key_name(key_id)
    assert repr(key_id) in str(refused.value)
    assert "new lake root" in str(refused.value)


def test_the_same_record_is_never_sealed_to_the_same_bytes() -> None:
    seal = RecordSeal(FIRST, "bronze|2026-01-05|g1")
    assert len(set(seal.seal([b"record"] * 100, [b"p"] * 100))) == 100


def _sealed(seal: PersonalSeal, table: str, position: str, values: dict[str, str | None]) -> str:
    return seal.seal(table, position, values, fernet_head(), os.urandom(BLOCK_BYTES))


PLACES = [("silver.payments", "topic/0/17"), ("silver.payments", "topic/0/18"), ("silver.labels", "topic/0/17")]


@settings(max_examples=25)
@given(st.dictionaries(st.text(max_size=10), st.none() | st.text(max_size=20), max_size=4))
def test_personal_values_open_at_their_row_only(values: dict[str, str | None]) -> None:
    seal = PersonalSeal(FIRST)
    sealed = [_sealed(seal, table, position, values) for table, position in PLACES]
    for (table, position), token in zip(PLACES, sealed, strict=True):
        assert seal.open(table, position, token) == values
    for a, b in permutations(range(3), 2):
        with pytest.raises(ContractBroken, match="belongs to another row"):
            seal.open(*PLACES[b], sealed[a])


def test_a_personal_seal_is_a_fernet_token() -> None:
    """By the library itself, at every length around a block."""
    for size in range(40):
        token = _sealed(PersonalSeal(FIRST), *PLACES[0], {"customer_id": "c" * size})
        content = json.loads(Fernet(base64.urlsafe_b64encode(FIRST)).decrypt(token))
        assert content["values"] == {"customer_id": "c" * size}
        assert abs(Fernet(base64.urlsafe_b64encode(FIRST)).extract_timestamp(token) - time.time()) < 5


def test_rows_of_one_key_go_through_one_chain_and_each_has_a_vector_of_its_own() -> None:
    seal = PersonalSeal(FIRST)
    tokens = [_sealed(seal, *PLACES[0], {"customer_id": "C1"}) for _ in range(100)]
    library = Fernet(base64.urlsafe_b64encode(FIRST))
    assert len({library.decrypt(token) for token in tokens}) == 1
    assert len({base64.urlsafe_b64decode(token)[9 : 9 + BLOCK_BYTES] for token in tokens}) == 100


def test_personal_values_that_were_altered_do_not_open() -> None:
    seal = PersonalSeal(FIRST)
    token = _sealed(seal, *PLACES[0], {"customer_id": "C1"})
    for at in (0, 1, len(token) // 2, len(token) - 5):
        altered = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        with pytest.raises(ContractBroken, match=r"silver\.payments at topic/0/17 was altered"):
            seal.open(*PLACES[0], altered)
    with pytest.raises(ContractBroken, match="was altered"):
        PersonalSeal(SECOND).open(*PLACES[0], token)


def test_errors_of_seals_say_where_and_not_what() -> None:
    seal = PersonalSeal(FIRST)
    token = _sealed(seal, *PLACES[0], {"customer_id": "Somebody"})
    with pytest.raises(ContractBroken) as refused:
        seal.open(*PLACES[1], token)
    assert "Somebody" not in str(refused.value)
