"""The same rule on the same rows is TRUE for the same ones: in the engine, in DuckDB and in Spark."""

import duckdb
import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from expectations.rules.dialects import DUCKDB, SPARK, sql
from expectations.rules.parsing import parsed
from expectations.rules.programs import program
from expectations.rules.tree import Type
from tests.expectations.rule_texts import COLUMNS, drawn

_ARROW = {Type.NUMBER: pa.float64(), Type.TEXT: pa.string(), Type.CONDITION: pa.bool_()}
SCHEMA = pa.schema([("id", pa.int64()), *((name, _ARROW[type_]) for name, type_ in COLUMNS.items())])
seeds = st.integers(0, 2**32 - 1)


def table(found):
    """The rows as Arrow, with their number."""
    return pa.Table.from_pylist([{"id": at, **row} for at, row in enumerate(found)], SCHEMA)


def fired(nodes, found):
    """What the engine's machine says, a tuple a row."""
    machine = program(nodes)
    numbers = [[np.nan if row[name] is None else float(row[name]) for row in found] for name in machine.numbers]
    texts = [[None if row[name] is None else row[name].encode() for row in found] for name in machine.texts]
    shaped = np.array(numbers, np.float64).reshape(len(machine.numbers), len(found))
    return [tuple(column) for column in machine.fired(shaped, texts, len(found)).T.tolist()]


def agree(texts, mine, theirs):
    for at, (one, other) in enumerate(zip(mine, theirs, strict=True)):
        different = [texts[i] for i in range(len(texts)) if one[i] != (other[i] is True)]
        assert not different, f"row {at}: {different}"


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_duckdb_fires_for_the_same_rows(seed):
    texts, found = drawn(seed, rules=40, rows=15)
    nodes = [parsed(text, COLUMNS) for text in texts]
    rows_ = table(found)  # noqa: F841 - DuckDB finds it by its name
    selected = ", ".join(sql(node, DUCKDB) for node in nodes)
    with duckdb.connect() as connection:
        theirs = connection.sql(f"SELECT {selected} FROM rows_ ORDER BY id").fetchall()
    agree(texts, fired(nodes, found), theirs)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=seeds)
def test_spark_fires_for_the_same_rows(spark, seed):
    texts, found = drawn(seed, rules=25, rows=60)
    nodes = [parsed(text, COLUMNS) for text in texts]
    frame = spark.createDataFrame(
        [tuple(row[name] for name in ("id", *COLUMNS)) for row in table(found).to_pylist()],
        "id bigint, a double, b double, c double, s string, t string, f boolean, g boolean",
    ).coalesce(1)
    theirs = [tuple(row) for row in frame.sort("id").selectExpr(*(sql(node, SPARK) for node in nodes)).collect()]
    agree(texts, fired(nodes, found), theirs)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_a_row_alone_fires_the_same_rules_as_in_a_batch(seed):
    texts, found = drawn(seed, rules=40, rows=300)
    nodes = [parsed(text, COLUMNS) for text in texts]
    assert fired(nodes, found) == [fired(nodes, [row])[0] for row in found]
