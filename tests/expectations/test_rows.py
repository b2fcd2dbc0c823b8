import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expectations.rows import broken, is_well_formed_card
from lakehouse.codec import Batch
from lakehouse.contracts.silver import PAYMENTS
from lakehouse.tables import Between, Digits, Holds, Length, OneOf, Required, Rule
from lakehouse.texts import Flags, Texts


def _luhn(number: str) -> bool:
    """The definition, digit by digit: every second one from the right is doubled and its digits are added."""
    doubled = [sum(map(int, str(int(digit) * (1 + at % 2)))) for at, digit in enumerate(reversed(number))]
    return sum(doubled) % 10 == 0


def _well_formed(numbers: list[str]) -> list[bool]:
    texts = Texts.of(numbers)
    places = zip(texts.start, texts.length, strict=True)
    return [bool(is_well_formed_card(texts.buffer, start, length)) for start, length in places]


@pytest.mark.parametrize(
    ("number", "good"),
    [
        ("4539148803436467", True),
        ("4539148803436468", False),
        ("378282246310005", True),
        ("0000000000000000", False),
        ("4539148803436467 ", False),
        ("4539 1488 0343 6467", False),
        ("٤٥٣٩١٤٨٨٠٣٤٣٦٤٦٧", False),
        ("453914880343646a", False),
        ("", False),
        ("18", False),
        ("00000000018", False),
        ("000000000018", True),
        ("0000000000000000018", True),
        ("00000000000000000018", False),
    ],
)
def test_a_well_formed_card_has_12_to_19_digits_and_a_luhn_digit(number: str, good: bool) -> None:
    assert _well_formed(["4539148803436467", number, "1"]) == [True, good, False]


@given(st.lists(st.text("0123456789", max_size=21), max_size=30))
def test_the_luhn_digit_is_that_of_the_definition(numbers: list[str]) -> None:
    expected = [12 <= len(n) <= 19 and _luhn(n) and set(n) != {"0"} for n in numbers]
    assert _well_formed(numbers) == expected


NAN, INF = float("nan"), float("inf")

CASES: dict[str, tuple[Rule, object, list[bool], list[str]]] = {
    "required": (Required("r", "x"), ["", "a"], [True, False], ["", "r"]),
    "between whole numbers": (
        Between("r", "x", -2, 3),
        [-3, -2, 3, 4, 9],
        [True] * 4 + [False],
        ["r", "", "", "r", ""],
    ),
    "between numbers": (
        Between("r", "x", 0, 1),
        [-1e-9, 0.0, -0.0, 1.0, 1.0000001, NAN, INF, -INF],
        [True] * 8,
        ["r", "", "", "", "r", "", "r", "r"],
    ),
    "one of": (
        OneOf("r", "x", ("ab", "c")),
        ["ab", "c", "", "AB", "ab ", "a", "abc", "zz"],
        [True] * 7 + [False],
        ["", "", *["r"] * 5, ""],
    ),
    "digits": (
        Digits("r", "x", 4),
        ["5411", "541", "54111", "5411\n", "541a", "٥٤١١", "", "-411", "zz"],
        [True] * 8 + [False],
        ["", *["r"] * 7, ""],
    ),
    "length": (
        Length("r", "x", 1, 3),
        ["", "a", "äöü", "äöüa", "😀😀😀", "\x00", "abcd", "zzzz"],
        [True] * 7 + [False],
        ["r", "", "", "r", "", "", "r", ""],
    ),
    "holds": (Holds("r", "x"), [True, False, False], [True, True, False], ["", "r", ""]),
}


@pytest.mark.parametrize(("rule", "values", "valid", "expected"), CASES.values(), ids=CASES)
def test_what_breaks_a_rule(rule: Rule, values: list[object], valid: list[bool], expected: list[str]) -> None:
    column = Texts.of(values) if isinstance(values[0], str) else np.array(values)  # type: ignore[arg-type]
    flags: Flags = np.array(valid)
    assert broken([rule], Batch(len(values), {"x": column}, {"x": flags})) == expected


def test_broken_rules_are_named_in_the_order_of_the_contract() -> None:
    rules = [Between("low", "x", 0, 9), Between("small", "x", 0, 5), Between("even_smaller", "x", 0, 3)]
    batch = Batch(3, {"x": np.array([10, 4, 1])}, {})
    assert broken(rules, batch) == ["low,small,even_smaller", "even_smaller", ""]
    assert broken([], batch) == ["", "", ""]
    assert broken(PAYMENTS.rules[:0], Batch(0, {}, {})) == []


def test_no_rule_has_a_name_that_could_be_taken_for_two() -> None:
    assert all("," not in rule.name for rule in PAYMENTS.rules)
