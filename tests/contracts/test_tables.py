"""What every declared table keeps to, whoever declares it."""

import re

import pytest
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from lakehouse.contracts.register import TABLES
from lakehouse.tables import Between, Column, Digits, Holds, Length, OneOf, Required, Rule, Table, named

ALL = pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)

FITS: dict[type[Rule], set[str]] = {  # type: ignore[valid-type]
    Required: {"string", "bigint", "int", "double", "boolean"},
    Between: {"bigint", "int", "double"},
    OneOf: {"string"},
    Digits: {"string"},
    Length: {"string"},
    Holds: {"boolean"},
}


@ALL
def test_a_table_is_named_by_its_layer_and_says_what_a_row_is(table: Table) -> None:
    assert re.fullmatch(r"(bronze|silver|features|gold|quality|lake)\.[a-z_]+", table.name)
    assert table.meaning.endswith(".")
    assert table.grain
    assert all(column.meaning for column in table.columns)


@ALL
def test_what_identifies_and_places_a_row_is_never_null(table: Table) -> None:
    columns = {column.name: column for column in table.columns}
    for name in {
        *table.key,
        *table.partition_by,
        *(table.position or ()),
        *([table.event_time] if table.event_time else []),
    }:
        assert not columns[name].nullable, name


@ALL
def test_rules_have_one_name_each_and_fit_their_column(table: Table) -> None:
    types = {column.name: column.type for column in table.columns}
    names = [rule.name for rule in table.rules]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z_]+", name) for name in names)
    for rule in table.rules:
        assert types[rule.column] in FITS[type(rule)], rule


@ALL
def test_the_schema_of_spark_is_the_one_of_the_contract(spark: SparkSession, table: Table) -> None:
    parsed = StructType.fromDDL(table.ddl)
    assert [(f.name, f.dataType.simpleString(), f.nullable) for f in parsed.fields] == [
        (c.name, c.type, c.nullable) for c in table.columns
    ]


def test_every_table_has_a_place_of_its_own() -> None:
    places = {table.path("lake/") for table in TABLES.values()}
    assert len(places) == len(TABLES)
    assert "lake/silver/payments" in places


def _declared(**changes: object) -> Table:
    position = (Column("topic_id", "string", ""), Column("partition", "int", ""), Column("offset", "bigint", ""))
    usual = {"name": "silver.x", "meaning": "X.", "grain": "one x", "key": ("offset",), "columns": position}
    return Table(**{**usual, **changes})  # type: ignore[arg-type]


def test_a_table_that_contradicts_itself_cannot_be_declared() -> None:
    twice = (*_declared().columns, Column("offset", "bigint", ""))
    for wrong, why in (
        ({"columns": twice}, "a column twice"),
        ({"key": ("id",)}, "unknown columns {'id'}"),
        ({"partition_by": ("day",)}, "unknown columns {'day'}"),
        ({"rules": (Required("r", "name"),)}, "unknown columns {'name'}"),
        ({"position": ("topic_id", "partition", "place")}, "unknown columns {'place'}"),
    ):
        with pytest.raises(AssertionError, match=why):
            _declared(**wrong)
    with pytest.raises(AssertionError, match=r"silver\.x is declared twice"):
        named([_declared(), _declared()])
