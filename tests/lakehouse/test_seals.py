from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.crypto import PersonalSeal, RecordSeal
from lakehouse.errors import ContractBroken, KeysMissing
from lakehouse.keys import Keyring
from tests.lakehouse.test_keys import FIRST, SECOND

RING = Keyring({1: FIRST, 2: SECOND})
POSITIONS = [b"topic/0/17", b"topic/0/18", b"topic/1/17", b"other/0/17"]


@given(st.lists(st.binary(max_size=300), min_size=4, max_size=4))
def test_a_sealed_record_opens_at_its_position_only(records: list[bytes]) -> None:
    seal = RecordSeal(RING, "2026-01-05")
    sealed = seal.seal(records, POSITIONS)
    assert [seal.open(s, p) for s, p in zip(sealed, POSITIONS, strict=True)] == records
    for a, b in permutations(range(4), 2):
        with pytest.raises(ContractBroken, match=POSITIONS[b].decode()):
            seal.open(sealed[a], POSITIONS[b])


@settings(max_examples=25)
@given(st.binary(max_size=40), st.data())
def test_a_record_seal_with_one_bit_changed_or_bytes_lost_does_not_open(record: bytes, data: st.DataObject) -> None:
    seal = RecordSeal(RING, "2026-01-05")
    sealed = bytearray(seal.seal([record], [b"topic/0/17"])[0])
    shorter = bytes(sealed[: data.draw(st.integers(0, len(sealed) - 1))])
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(sealed), shorter):
        with pytest.raises(ContractBroken, match="was altered, moved or sealed with another key"):
            seal.open(damaged, b"topic/0/17")


def test_every_day_and_version_has_its_own_key() -> None:
    seals = [RecordSeal(RING, day, version) for day in ("2026-01-05", "2026-01-06") for version in (1, 2)]
    assert [seal.key_id for seal in seals] == [
        *("bronze|2026-01-05|v1", "bronze|2026-01-05|v2", "bronze|2026-01-06|v1", "bronze|2026-01-06|v2")
    ]
    sealed = [seal.seal([b"record"], [b"p"])[0] for seal in seals]
    for i, one in enumerate(sealed):
        for j, seal in enumerate(seals):
            if i == j:
                assert RecordSeal.opening(RING, seal.key_id).open(one, b"p") == b"record"
            else:
                with pytest.raises(ContractBroken):
                    seal.open(one, b"p")


def test_the_newest_version_seals() -> None:
    assert RecordSeal(RING, "2026-01-05").key_id == "bronze|2026-01-05|v2"
    assert PersonalSeal(RING).key_id == "silver|v2"


def test_without_its_key_version_a_seal_cannot_be_opened() -> None:
    with pytest.raises(KeysMissing, match="version 2 is not held"):
        RecordSeal.opening(Keyring({1: FIRST}), "bronze|2026-01-05|v2")


def test_the_same_record_is_never_sealed_to_the_same_bytes() -> None:
    seal = RecordSeal(RING, "2026-01-05")
    assert len(set(seal.seal([b"record"] * 100, [b"p"] * 100))) == 100


PLACES = [("silver.payments", "topic/0/17"), ("silver.payments", "topic/0/18"), ("silver.labels", "topic/0/17")]


@settings(max_examples=25)
@given(st.dictionaries(st.text(max_size=10), st.none() | st.text(max_size=20), max_size=4))
def test_personal_values_open_at_their_row_only(values: dict[str, str | None]) -> None:
    seal = PersonalSeal(RING)
    sealed = [seal.seal(table, position, values) for table, position in PLACES]
    for (table, position), token in zip(PLACES, sealed, strict=True):
        assert seal.open(table, position, token) == values
    for a, b in permutations(range(3), 2):
        with pytest.raises(ContractBroken, match="belongs to another row"):
            seal.open(*PLACES[b], sealed[a])


def test_personal_values_that_were_altered_do_not_open() -> None:
    seal = PersonalSeal(RING)
    token = seal.seal(*PLACES[0], {"customer_id": "C1"})
    for at in (0, 1, len(token) // 2, len(token) - 5):
        altered = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        with pytest.raises(ContractBroken, match=r"silver\.payments at topic/0/17 was altered"):
            seal.open(*PLACES[0], altered)
    with pytest.raises(ContractBroken, match="was altered"):
        PersonalSeal(RING, 1).open(*PLACES[0], token)


def test_errors_of_seals_say_where_and_not_what() -> None:
    seal = PersonalSeal(RING)
    token = seal.seal(*PLACES[0], {"customer_id": "Somebody"})
    with pytest.raises(ContractBroken) as refused:
        seal.open(*PLACES[1], token)
    assert "Somebody" not in str(refused.value)
