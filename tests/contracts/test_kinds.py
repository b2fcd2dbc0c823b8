"""Schemas, topics, tables, rules and identities of the kinds of records are in step."""

from typing import Any

import pytest

from expectations.control import SCOPES
from expectations.decoded import DERIVED, IDENTITY_FIELDS
from expectations.suites import predicates
from lakehouse import errors
from lakehouse.contracts.silver import BY_KIND, CONTROL, TOKEN_COLUMNS
from lakehouse.crypto import TOKEN_KINDS
from lakehouse.iso import COUNTRIES, CURRENCIES
from lakehouse.registry import registry
from lakehouse.tables import Length, OneOf, Required
from lakehouse.topics import DECISION_KINDS, EVENT_KINDS, SHADOW_KINDS
from silver.masking import BY_ADMISSION

KINDS = pytest.mark.parametrize("kind", EVENT_KINDS)


def _fields(kind: str) -> list[dict[str, Any]]:
    return list(registry().latest(kind).parsed["fields"])


def test_every_registered_kind_travels_on_one_topic() -> None:
    assert sorted((*EVENT_KINDS, *DECISION_KINDS, *SHADOW_KINDS)) == sorted(
        {schema.kind for schema in registry().schemas}
    )


def test_every_kind_of_event_has_a_table_and_an_identity() -> None:
    assert set(BY_KIND) == set(IDENTITY_FIELDS) == set(EVENT_KINDS)


@KINDS
def test_every_kind_says_when_it_was_received(kind: str) -> None:
    (received,) = [field for field in _fields(kind) if field["name"] == "received_at"]
    assert received["type"] == {"type": "long", "logicalType": "timestamp-millis"}


@KINDS
def test_an_identity_is_text_that_is_never_null_and_that_silver_keeps(kind: str) -> None:
    types = {field["name"]: field["type"] for field in _fields(kind)}
    columns = {column.name: column for column in BY_KIND[kind].columns}
    for name in IDENTITY_FIELDS[kind]:
        assert types[name] == "string"
        assert not columns[name].nullable


@KINDS
def test_the_first_part_of_an_identity_is_there_and_not_endless(kind: str) -> None:
    first = IDENTITY_FIELDS[kind][0]
    rules = [rule for rule in BY_KIND[kind].rules if rule.column == first]
    assert rules == [Required(f"{first}_required", first), Length(f"{first}_length", first, 1, 64)]


@KINDS
def test_personal_fields_are_columns_of_no_table(kind: str) -> None:
    personal = {field["name"] for field in _fields(kind) if field.get("pd")}
    columns = {column.name: column for column in BY_KIND[kind].columns}
    assert personal <= set(TOKEN_COLUMNS)
    assert not personal & set(columns)
    for name in personal:
        assert columns[TOKEN_COLUMNS[name][0]].personal == "token"
    assert ("personal" in columns) == bool(personal)
    assert {c.name for c in columns.values() if c.personal == "sealed"} == ({"personal"} if personal else set())


def test_every_token_is_of_a_kind_that_has_a_key() -> None:
    assert {kind for _, kind in TOKEN_COLUMNS.values()} == set(TOKEN_KINDS)


@KINDS
def test_every_column_comes_from_somewhere(kind: str) -> None:
    fields = {field["name"] for field in _fields(kind)}
    tokens = {TOKEN_COLUMNS[name][0] for name in fields & set(TOKEN_COLUMNS)}
    place = {"topic_id", "partition", "offset", "payload_digest", "ingested_at", "content_digest"}
    made = {"personal", "personal_key", "former_tokens"}
    known = fields | tokens | place | made | set(DERIVED) | set(BY_ADMISSION)
    assert set(BY_KIND[kind].column_names) <= known


@KINDS
def test_every_rule_has_a_predicate(kind: str) -> None:
    table = BY_KIND[kind]
    assert list(predicates(table.name)) == [rule.name for rule in table.rules]


def test_the_rule_of_scopes_is_the_list_that_control_knows() -> None:
    (rule,) = [rule for rule in CONTROL.rules if isinstance(rule, OneOf)]
    assert set(rule.values) == set(SCOPES)


def test_code_lists_are_those_of_iso() -> None:
    assert (len(COUNTRIES), len(CURRENCIES)) == (249, 155)
    assert {code for code in COUNTRIES if len(code) != 2 or not code.isupper()} == set()
    assert {code for code in CURRENCIES if len(code) != 3 or not code.isupper()} == set()
    assert {"FR", "NG", "XK"} & COUNTRIES == {"FR", "NG"}
    assert {"EUR", "USD", "XXX", "XTS"} & CURRENCIES == {"EUR", "USD"}


def test_the_drawing_of_the_errors_shows_every_error() -> None:
    drawn = {line.strip(" |-`").split(" ")[0] for line in (errors.__doc__ or "").splitlines() if "--" in line}
    every = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert drawn | {"FraudlakeError"} == every
    assert not any(
        issubclass(e, errors.Terminal) and issubclass(e, errors.Transient) for e in map(errors.__dict__.get, every)
    )
