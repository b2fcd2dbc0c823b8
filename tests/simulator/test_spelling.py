import ipaddress

import numpy as np
from hypothesis import given
from hypothesis import strategies as some
from simulated import words

from lakehouse.texts import Texts
from simulator.spelling import (
    card_numbers,
    hexed,
    joined,
    network_addresses,
    network_numbers,
    nine_digits,
    numbered_cards,
    prefixed_digits,
)

KEYS = some.integers(0, 2**64 - 1)


def test_an_id_is_a_prefix_and_sixteen_hex_digits() -> None:
    values = np.array([0, 255, 2**64 - 1, 0x0123456789ABCDEF], np.uint64)
    assert hexed(values, "t-").to_list() == [
        b"t-0000000000000000",
        b"t-00000000000000ff",
        b"t-ffffffffffffffff",
        b"t-0123456789abcdef",
    ]


def test_the_card_of_customer_4242_has_its_luhn_digit() -> None:
    assert numbered_cards(np.array([4_242, 0])).to_list() == [b"4000000000042426", b"4000000000000002"]


def test_numbers_keep_their_leading_zeros() -> None:
    assert prefixed_digits("rc-", np.array([0, 42, 99_999_999]), 8).to_list() == [
        b"rc-00000000",
        b"rc-00000042",
        b"rc-99999999",
    ]


@given(KEYS)
def test_no_two_cards_share_their_nine_digits(key: int) -> None:
    index = np.concatenate([np.arange(5_000), np.arange(10**9 - 5_000, 10**9)])
    assert len(np.unique(nine_digits(index, key))) == 10_000
    assert nine_digits(index, key).min() >= 0
    assert nine_digits(index, key).max() < 10**9


@given(KEYS)
def test_every_card_number_passes_the_luhn_check(key: int) -> None:
    for number in card_numbers(np.arange(50), key).to_list():
        digits = [int(c) for c in number.decode()][::-1]
        assert sum(d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits)) % 10 == 0


@given(KEYS)
def test_network_addresses_are_well_formed_and_differ(key: int) -> None:
    index = np.concatenate([np.arange(2_000), np.arange(2**28 - 2_000, 2**28)])
    assert len(np.unique(network_numbers(index, key))) == 4_000
    is_v6 = (index % 2).astype(np.uint8)
    texts = [a.decode() for a in network_addresses(index, is_v6, key).to_list()]
    assert [ipaddress.ip_address(a).version for a in texts] == np.where(is_v6, 6, 4).tolist()
    assert len(set(texts)) == 4_000


@given(some.lists(some.tuples(some.text(), some.text(), some.text()), min_size=1))
def test_pieces_are_joined_row_by_row(rows: list[tuple[str, str, str]]) -> None:
    columns = [Texts.of(list(column)) for column in zip(*rows, strict=True)]
    assert joined(columns).to_list() == ["".join(row).encode() for row in rows]


def test_joining_takes_rows_in_any_order() -> None:
    column = Texts.of(["a", "bb", ""]).take(np.array([2, 1, 0, 1]))
    assert words(joined([column, column])).tolist() == [b"", b"bbbb", b"aa", b"bbbb"]
