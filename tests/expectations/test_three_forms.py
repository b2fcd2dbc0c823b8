"""A rule is evaluated in three forms: by numpy in the engine, by Spark in silver, by Great Expectations itself.

On hundreds of rows of every table with nulls, NaN, empty texts, foreign digits and every boundary they agree, row by
row and rule by rule.
"""

import json
import math
import os
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from expectations.decoded import DERIVED, Decoded, decode
from expectations.rows import broken
from expectations.suites import FOLDER, compile_predicates, predicates, suite
from lakehouse.contracts.silver import BY_KIND, TOKEN_COLUMNS
from lakehouse.crypto import Digests
from lakehouse.keys import Keyring
from lakehouse.registry import registry
from lakehouse.tables import Between, Digits, Holds, Length, OneOf, Required, Rule, Table
from lakehouse.texts import Texts
from lakehouse.topics import EVENT_KINDS
from silver.typed import arrow_column
from tests.lakehouse.avro import plain
from tests.lakehouse.records import CARD, DAY, OTHER_CARD, T0, raw

ROWS = 300
TEXTS = (
    "",
    " ",
    "\x00",
    "5411",
    "5411\n",
    "\n5411",
    "٥٤١١",
    "5411",
    "541a",
    "EUR",
    "EUR ",
    "eur",
    "ä" * 64,
    "😀" * 65,
    "x" * 64,
    "x" * 65,
)
NUMBERS = (0, 1, -1, 2**31 - 1, -(2**31))
LONGS = (*NUMBERS, 100_000_000_000, 100_000_000_001, 2**53, 2**63 - 1, -(2**63))
DOUBLES = (
    0.0,
    -0.0,
    1.0,
    math.nextafter(1, 2),
    90.0,
    -180.0,
    math.nextafter(180, 999),
    math.nan,
    math.inf,
    -math.inf,
    5e-324,
)
CARDS = (CARD, OTHER_CARD, "4539148803436468", "0" * 16, "", "4539 1488 0343 6467", CARD + "\n")
TIMES = (
    T0,
    T0 + 300_000,
    T0 + 300_001,
    T0 - 300_000,
    T0 - 366 * DAY,
    T0 - 366 * DAY - 1,
    T0 + 400 * DAY + 1,
    0,
    2**62,
    -(2**62),
)


def _edges(rule: Rule) -> tuple[Any, ...]:
    match rule:
        case Between(low=low, high=high):
            near = (low, high, low - 1, high + 1, math.nextafter(low, -math.inf), math.nextafter(high, math.inf))
            return (*near, math.nan)
        case OneOf(values=values):
            return (values[0], values[-1], values[0] + " ", values[0].lower(), values[0][:-1])
        case Digits(length=length):
            return ("7" * length, "7" * (length + 1), "7" * (length - 1), "\u0667" * length, "7" * length + "\n")
        case Length(low=low, high=high):
            return ("é" * low, "é" * high, "é" * (high + 1), "😀" * high)
    return ()


def _fuzzed(kind: str, draw: random.Random) -> bytes:
    """A record of which some fields, or none, hold something from the edge of what is allowed."""
    edges = {rule.column: _edges(rule) for rule in BY_KIND[kind].rules}
    changes: dict[str, Any] = {}
    fields = registry().latest(kind).parsed["fields"]
    for field in draw.sample(fields, min(len(fields), draw.choice((0, 1, 1, 2, 5, 99)))):
        name, declared = field["name"], plain(field["type"])
        if isinstance(declared, list):
            if draw.randrange(4) == 0:
                changes[name] = None
                continue
            declared = declared[1]
        pool: tuple[Any, ...] = {
            "string": (*TEXTS, *(CARDS if name == "card_number" else ())),
            "boolean": (True, False),
            "int": NUMBERS,
            "long": TIMES if isinstance(field["type"], dict) else LONGS,
            "double": DOUBLES,
            "bytes": (b"", b"x" * 64),
        }[declared]
        kinds = {"string": str, "int": int, "long": int, "double": float}
        wanted = kinds.get(declared, object)
        own = [
            wanted(v) for v in edges.get(name, ()) if isinstance(v, int | float) == (declared != "string") and v == v
        ]
        low, high = (-(2**31), 2**31 - 1) if declared == "int" else (-(2**63), 2**63 - 1)
        own = [v for v in own if declared not in ("int", "long") or low <= v <= high]
        value = draw.choice((*pool, *own))
        changes[name] = CARD if name == "card_number" and draw.randrange(2) else value
    return raw(kind, **changes)


def _decoded(kind: str, seed: int) -> Decoded:
    draw = random.Random(f"{seed} {kind}")
    # One of few values of one of many fields: not every seed draws it.
    rare = [raw(kind, confidence=math.nan)] if kind == "label" else []
    records = rare + [_fuzzed(kind, draw) for _ in range(ROWS - len(rare))]
    texts = Texts.of(records)
    broker_ms = np.array(
        [T0 + draw.choice((0, -300_000, -300_001, 1, 3_200_000_000_000, 3_200_000_001_000)) for _ in records]
    )
    digests = Digests(Keyring({1: bytes(32)}))
    found = decode(
        registry().latest(kind), texts.buffer.tobytes(), texts.start, texts.start + texts.length, broker_ms, digests
    )
    assert not found.fault.any()
    return found


def _broken_expression(table_name: str) -> str:
    """One Spark expression: the names of the rules a row breaks, joined by commas; null for a good row."""
    parts = [f"if({predicate}, '{name}', null)" for name, predicate in predicates(table_name).items()]
    return f"nullif(concat_ws(',', {', '.join(parts)}), '')"


def _arrow(table: Table, found: Decoded) -> pa.Table:
    """The columns that rules look at, as silver's masking pass makes them, and the number of each row."""
    declared = {f["name"]: f["type"] for f in registry().latest(found.kind).parsed["fields"]}
    columns = {"row": pa.array(range(found.batch.rows))}
    for name in {rule.column for rule in table.rules} - {"row"}:
        if name in DERIVED:
            columns[name] = pa.array(found.batch.numbers(name))
        else:
            assert name not in TOKEN_COLUMNS
            columns[name] = arrow_column(declared[name], found.batch, name, found.batch.has(name))
    return pa.table(columns)


@pytest.fixture(scope="module")
def decoded(seed: int) -> Mapping[str, Decoded]:
    return {kind: _decoded(kind, seed) for kind in EVENT_KINDS}


@pytest.fixture(scope="module")
def frames(spark: SparkSession, decoded: Mapping[str, Decoded]) -> Mapping[str, DataFrame]:
    return {kind: spark.createDataFrame(_arrow(BY_KIND[kind], found)) for kind, found in decoded.items()}


def _by_numpy(table: Table, found: Decoded) -> dict[str, set[int]]:
    """Rows that break each rule."""
    names = broken(table.rules, found.batch)
    return {rule.name: {row for row, text in enumerate(names) if rule.name in text.split(",")} for rule in table.rules}


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_numpy_and_spark_break_the_same_rules(
    decoded: Mapping[str, Decoded], frames: Mapping[str, DataFrame], kind: str
) -> None:
    table = BY_KIND[kind]
    names = broken(table.rules, decoded[kind].batch)
    rows = frames[kind].select("row", F.expr(_broken_expression(table.name)).alias("broken")).collect()
    assert {row["row"]: row["broken"] or "" for row in rows} == dict(enumerate(names))
    assert min(len(set(names)), 2) == 2, "the fuzz holds good and bad rows"


def test_the_fuzz_breaks_every_rule_and_keeps_it(decoded: Mapping[str, Decoded]) -> None:
    for kind, found in decoded.items():
        for name, rows in _by_numpy(BY_KIND[kind], found).items():
            required_text = name.endswith("_required") and name != "confidence_required"
            assert 0 < len(rows) < ROWS or required_text, f"{kind}: {name} is broken by {len(rows)} rows"


@pytest.fixture(scope="module")
def validations(spark: SparkSession, frames: Mapping[str, DataFrame]) -> Mapping[str, Any]:
    """What Great Expectations itself finds, by kind."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.core.expectation_suite import ExpectationSuite

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_spark("fuzz", persist=False)
    batches = source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
    how = {"result_format": "COMPLETE", "unexpected_index_column_names": ["row"]}
    return {
        kind: batches.get_batch({"dataframe": frame}).validate(
            context.suites.add(ExpectationSuite(**suite(BY_KIND[kind]))), result_format=how
        )
        for kind, frame in frames.items()
    }


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_great_expectations_breaks_the_same_rules(
    decoded: Mapping[str, Decoded], validations: Mapping[str, Any], kind: str
) -> None:
    table = BY_KIND[kind]
    found: dict[str, set[int]] = {rule.name: set() for rule in table.rules}
    for one in validations[kind].results:
        assert one.exception_info.get("raised_exception") is not True
        rows = {place["row"] for place in one.result.get("unexpected_index_list") or ()}
        found[one.expectation_config.meta["rule"]] |= rows
    assert found == _by_numpy(table, decoded[kind])


def test_the_committed_suites_are_those_of_the_contracts() -> None:
    for table in BY_KIND.values():
        assert json.loads((FOLDER / "suites" / f"{table.name}.json").read_text()) == suite(table)


def test_the_committed_predicates_are_what_great_expectations_compiles_today(spark: SparkSession) -> None:
    tables = list(BY_KIND.values())
    assert compile_predicates(tables) == {table.name: dict(predicates(table.name)) for table in tables}


def test_every_rule_type_has_an_edge() -> None:
    types = {type(rule) for table in BY_KIND.values() for rule in table.rules}
    assert types == {Required, Between, OneOf, Digits, Length, Holds}
