from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expectations.reference import MAX_RATE_MICRO, Reference, converted, short_codes
from lakehouse import settings as conf
from lakehouse.contracts.silver import MAX_AMOUNT_MINOR
from lakehouse.errors import ControlRefused
from lakehouse.iso import CURRENCIES
from lakehouse.texts import Texts
from tests.lakehouse.records import REFERENCE

AMOUNTS = st.integers(0, MAX_AMOUNT_MINOR)
RATES = st.integers(1, MAX_RATE_MICRO)


def _by_decimal(amount: int, rate: int) -> int:
    return int((Decimal(amount) * rate / 1_000_000).quantize(Decimal(1), ROUND_HALF_EVEN))


@given(st.lists(st.tuples(AMOUNTS, RATES), max_size=20))
def test_amounts_are_converted_as_decimal_arithmetic_does(pairs: list[tuple[int, int]]) -> None:
    amounts, rates = (np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1))
    assert converted(amounts, rates).tolist() == [_by_decimal(*pair) for pair in pairs]


@pytest.mark.parametrize(
    ("amount", "rate", "base"),
    [
        (0, 862_069, 0),
        (1250, 1_000_000, 1250),
        (1, 500_000, 0),
        (3, 500_000, 2),
        (5, 500_000, 2),
        (1, 500_001, 1),
        (1, 499_999, 0),
        (1000, 862_069, 862),
        (MAX_AMOUNT_MINOR, MAX_RATE_MICRO, 9_000_000_000_000),
    ],
)
def test_halves_go_to_the_even_neighbour_and_the_largest_amount_fits(amount: int, rate: int, base: int) -> None:
    assert converted(np.array([amount]), np.array([rate])).tolist() == [base]


def test_the_tables_are_looked_up_by_code() -> None:
    tables = Reference.of(7, orjson.dumps(REFERENCE).decode())

    def codes(*texts: str) -> Any:
        return short_codes(Texts.of(texts))

    assert (tables.version, tables.base_currency) == (7, "EUR")
    np.testing.assert_equal(
        tables.rate_micro(codes("JPY", "EUR", "USD", "GBP", "", "EURO")), [620_000, 1e6, 862_069, *[np.nan] * 3]
    )
    np.testing.assert_equal(tables.category_risk(codes("5411", "7995", "5412")), [0.02, 0.8, np.nan])
    np.testing.assert_equal(tables.country_risk(np.concatenate([codes("NG", "DE"), [-1]])), [0.9, np.nan, np.nan])


def test_tables_without_entries_know_nothing() -> None:
    tables = Reference.of(1, orjson.dumps({**REFERENCE, "category_risk": {}, "country_risk": {}}).decode())
    assert np.isnan(tables.category_risk(short_codes(Texts.of(["5411"])))).all()


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=7), max_size=20))
def test_short_codes_are_equal_exactly_where_the_texts_are(texts: list[str]) -> None:
    short = [text for text in texts if len(text.encode()) <= 7]
    codes = short_codes(Texts.of(short)).tolist()
    assert len(set(codes)) == len(set(short))
    assert all(code >= 0 for code in codes)


def test_longer_texts_have_no_short_code() -> None:
    assert short_codes(Texts.of(["12345678", "1234567", ""])).tolist() == [-1, 0x31323334353637, 0]


REFUSED: dict[str, tuple[Any, str]] = {
    "not JSON": ("{", "is not JSON"),
    "not an object": ("[]", "must have exactly the keys"),
    "a key too many": ({**REFERENCE, "more": 1}, "must have exactly the keys"),
    "a key too few": ({"base_currency": "EUR"}, "must have exactly the keys"),
    "rates that are no table": ({**REFERENCE, "rates_micro": [1]}, "rates_micro has the wrong type"),
    "risks that are no table": ({**REFERENCE, "country_risk": None}, "country_risk has the wrong type"),
    "a base currency that is no text": ({**REFERENCE, "base_currency": ["EUR"]}, "base_currency has the wrong type"),
    "an unknown currency": ({**REFERENCE, "rates_micro": {"EUR": 10**6, "XXX": 5}}, r"ISO 4217 code: \['XXX'\]"),
    "a rate of zero": ({**REFERENCE, "rates_micro": {"EUR": 10**6, "USD": 0}}, r"\['USD'\]"),
    "a rate that overflows": ({**REFERENCE, "rates_micro": {"EUR": 10**6, "USD": MAX_RATE_MICRO + 1}}, r"\['USD'\]"),
    "a broken rate": ({**REFERENCE, "rates_micro": {"EUR": 10**6, "USD": 1.5}}, r"\['USD'\]"),
    "a rate that is true": ({**REFERENCE, "rates_micro": {"EUR": 10**6, "USD": True}}, r"\['USD'\]"),
    "another base rate": ({**REFERENCE, "rates_micro": {"EUR": 999_999}}, "base currency must have the rate 1000000"),
    "no base rate": ({**REFERENCE, "rates_micro": {"USD": 10**6}}, "base currency must have the rate 1000000"),
    "a risk above one": ({**REFERENCE, "category_risk": {"5411": 1.1}}, r"category_risk .* \['5411'\]"),
    "a risk below zero": ({**REFERENCE, "category_risk": {"5411": -0.1}}, r"category_risk .* \['5411'\]"),
    "a risk that is true": ({**REFERENCE, "category_risk": {"5411": True}}, r"category_risk .* \['5411'\]"),
    "a short category": ({**REFERENCE, "category_risk": {"541": 0.1}}, r"category_risk .* \['541'\]"),
    "a category of other digits": ({**REFERENCE, "category_risk": {"٥٤١١": 0.1}}, r"category_risk"),
    "an unknown country": ({**REFERENCE, "country_risk": {"XX": 0.1}}, r"country_risk .* \['XX'\]"),
}


@pytest.mark.parametrize(("payload", "why"), REFUSED.values(), ids=REFUSED)
def test_a_payload_that_is_wrong_is_refused(payload: Any, why: str) -> None:
    text = payload if isinstance(payload, str) else orjson.dumps(payload).decode()
    with pytest.raises(ControlRefused, match=why):
        Reference.of(1, text)


def test_the_committed_reference_is_valid_and_its_rates_are_of_known_currencies() -> None:
    payload = (conf.home() / "conf/reference.json").read_text()
    assert Reference.of(1, payload).base_currency == "EUR"
    assert set(orjson.loads(payload)["rates_micro"]) <= CURRENCIES
