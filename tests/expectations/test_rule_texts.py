"""The language of rules: what it says, what it refuses, and where."""

import numpy as np
import pytest

from expectations.rules.dialects import DUCKDB, SNOWFLAKE, SPARK, sql
from expectations.rules.parsing import MAX_CHARACTERS, parsed
from expectations.rules.programs import program
from lakehouse.errors import RuleRefused
from tests.expectations.rule_texts import COLUMNS

REFUSED = {
    "card_tx_count_5 > 3": "line 1, column 1: there is no column card_tx_count_5. Did you mean card_tx_count_5m?",
    "channel = 'pos'\n  AND amount > 1": "line 2, column 7: there is no column amount",
    "amount_minor > 1": "line 1, column 1: amount_minor could mean two things. Write amount_base_minor",
    "is_recurring": "line 1, column 1: a condition is needed, and this is a number. Compare it with something",
    "latitude > 1 AND channel > 'a'": "line 1, column 18: a number is needed, and this is a text",
    "latitude = 'x'": "line 1, column 12: this is a text, and what stands beside it a number",
    "1 < latitude < 3": "line 1, column 1: a number is needed, and this is a condition",
    "channel = NULL": "line 1, column 11: nothing is compared with NULL. Write IS NULL",
    "channel = 'a' AND RAND() > 0.5": "line 1, column 19: RAND has no place in a rule",
    "hour_utc > 3 AND CURRENT_DATE IS NULL": "line 1, column 18: CURRENT_DATE has no place in a rule",
    "latitude > (SELECT 1)": "SUBQUERY has no place in a rule",
    "SUM(latitude) > 1": "line 1, column 1: SUM has no place in a rule",
    "COUNT(*) OVER () > 1": "line 1, column 1: WINDOW has no place in a rule",
    "LOWER(channel) = 'pos'": "line 1, column 1: LOWER has no place in a rule",
    "LENGTH(channel, 1) = 2": "line 1, column 1: LENGTH has an argument too many",
    "LEAST(latitude) > 1": "line 1, column 1: LEAST needs two arguments",
    "latitude::int = 1": "line 1, column 1: CAST has no place in a rule",
    "channel ILIKE 'a'": "line 1, column 1: ILIKE has no place in a rule",
    "channel LIKE 'a\\_'": "line 1, column 14: the pattern of LIKE is a literal without a backslash",
    "channel IN (merchant_country)": "line 1, column 13: IN takes literals only",
    "latitude IN (SELECT 1)": "IN has an argument too many",
    "p.channel = 'pos'": "line 1, column 1: a column is one name",
    "channel = 'a'; channel = 'b'": "BLOCK has no place in a rule",
    "latitude >": "this is not a SQL expression",
    "channel = 'pos": "line 1, column 11: a quote or comment is not closed",
    "": "line 1, column 1: this is not a SQL expression",
    "latitude > 1e999": "line 1, column 12: the number is too large",
    "latitude = ?": "PLACEHOLDER has no place in a rule",
    "(" * 300 + "latitude > 1" + ")" * 300: "nested",
    "NOT " * 900 + "TRUE": "nested",
    " OR ".join(["latitude > 1"] * 300): "characters; 4,000 are allowed",
    " OR ".join(["hour_utc=1"] * 250): "The rule has 751 parts; 400 are allowed",
    "+".join(["hour_utc"] * 100) + " > 1": "the sum or product has more than 40 parts",
    "channel = '\0'": "a character that no keyboard writes",
    f"latitude IN ({','.join(['1'] * 201)})": "IN has more than 200 literals",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_in_the_language_is_refused_with_its_place(text):
    with pytest.raises(RuleRefused) as refused:
        parsed(text)
    assert REFUSED[text] in str(refused.value)


def test_a_text_of_any_length_is_refused_before_it_is_read():
    with pytest.raises(RuleRefused, match="5,000 characters"):
        parsed("(" * (MAX_CHARACTERS + 1000))


def fires(text, **row):
    machine = program([parsed(text, COLUMNS)])
    numbers = [[np.nan if row.get(name) is None else float(row[name])] for name in machine.numbers]
    texts = [[None if row.get(name) is None else row[name].encode()] for name in machine.texts]
    return bool(machine.fired(np.array(numbers).reshape(-1, 1), texts, 1)[0, 0])


def test_a_rule_fires_only_where_it_is_true():
    assert fires("a > 1", a=2)
    assert not fires("a > 1", a=None)
    assert not fires("NOT (a > 1)", a=None)
    assert fires("a > 1 OR b = 1", a=None, b=1)
    assert not fires("a > 1 AND b = 1", a=None, b=1)
    assert fires("NOT (a > 1 AND b = 1)", a=None, b=0)
    assert fires("a IS NULL", a=float("nan"))
    assert not fires("a NOT IN (1, 2)", a=None)
    assert not fires("s <> 'x'", s=None)


def test_operators_bind_as_in_sql():
    assert fires("f OR f AND g", f=True, g=False)
    assert fires("NOT f AND g", f=False, g=True)
    assert not fires("NOT (f AND NOT g)", f=True, g=False)
    assert fires("a + b * c = 7", a=1, b=2, c=3)
    assert fires("a - b - c = -4", a=1, b=2, c=3)
    assert fires("a / b / c = 2", a=12, b=2, c=3)
    assert fires("- a * b = -6", a=2, b=3)
    assert fires("a BETWEEN 1 AND 2 AND f", a=2, f=True)
    assert fires("NOT a = 1", a=2)


def test_nothing_is_divided_by_zero_and_what_is_no_number_is_unknown():
    assert fires("a / b IS NULL", a=1, b=0)
    assert fires("a % b IS NULL", a=1, b=-0.0)
    assert fires("a - b IS NULL", a=float("inf"), b=float("inf"))
    assert fires("LEAST(a, b) = 1 AND GREATEST(a, b) = 1", a=None, b=1)
    assert fires("-5.5 % a = -1.5", a=2)


def test_texts_are_compared_by_their_bytes():
    assert fires("LENGTH(s) = 3", s="e\u0301🙂")
    assert not fires("s = 'é'", s="e\u0301")
    assert fires("s LIKE '%b_'", s="a\nb🙂")
    assert fires("s LIKE 'it''s'", s="it's")


def test_a_pattern_takes_a_text_of_any_length_at_once():
    long = "ab" * 50_000
    assert not fires("s LIKE '%a%b%a%b%c%'", s=long), "a regular expression would take years"
    assert fires("s LIKE 'a%a%_%b'", s=long)
    assert not fires("s LIKE 'ab%b'", s="ab")


def test_another_engine_is_told_what_its_own_words_mean():
    node = parsed("LEAST(a, 1) / b > 0.5 AND s = 'it''s'", COLUMNS)
    nan = "CAST('NaN' AS DOUBLE)"
    a, b = f"NULLIF(CAST(`a` AS DOUBLE), {nan})", f"NULLIF(CAST(`b` AS DOUBLE), {nan})"
    divided = f"NULLIF(LEAST({a}, CAST('1.0' AS DOUBLE)) / NULLIF({b}, CAST(0 AS DOUBLE)), {nan})"
    assert sql(node, SPARK) == f"(({divided} > CAST('0.5' AS DOUBLE)) AND (`s` = 'it\\'s'))"
    assert "LEAST_IGNORE_NULLS(" in sql(node, SNOWFLAKE)
    assert "\"s\" = 'it''s'" in sql(node, DUCKDB)
    assert "CAST(p.s2 AS DOUBLE)" in sql(parsed("a > 1", COLUMNS), DUCKDB, lambda name: "p.s2")
