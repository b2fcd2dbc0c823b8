"""What a table that was not made, or was made by an earlier release, is to readers and writers."""

from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse import storage
from lakehouse.errors import ContractBroken
from lakehouse.storage import Span
from lakehouse.tables import Column, Table
from tests.lakehouse.things import THINGS, TOPIC, things


def test_a_table_that_was_not_made_is_empty(spark: SparkSession, tmp_path: Path) -> None:
    assert not storage.exists(str(tmp_path), THINGS)
    assert storage.version(str(tmp_path), THINGS) == -1
    assert storage.written_ends(str(tmp_path), THINGS) == {}
    frame = storage.read(spark, str(tmp_path), THINGS)
    assert (frame.columns, frame.count()) == (["topic_id", "partition", "offset", "value"], 0)


def _with(column: Column) -> Table:
    return replace(THINGS, columns=(*THINGS.columns, column))


def test_a_table_that_was_made_before_gets_the_nullable_columns_that_are_new(
    spark: SparkSession, tmp_path: Path
) -> None:
    root = str(tmp_path)
    storage.ensure(root, THINGS)
    storage.append_once(things(spark, 0, 2), root, THINGS, [Span(TOPIC, 0, 0, 2)])
    wider = _with(Column("note", "string", "a note", nullable=True))
    storage.ensure(root, wider)
    storage.ensure(root, wider)
    assert storage.written_ends(root, wider) == {"T/0": 2}
    storage.append_once(things(spark, 2, 3).withColumn("note", F.lit("new")), root, wider, [Span(TOPIC, 0, 2, 3)])
    found = DeltaTable(wider.path(root)).to_pyarrow_table().sort_by("offset")
    assert found.column("note").to_pylist() == [None, None, "new"]


def test_a_table_that_was_made_without_a_required_column_is_refused(tmp_path: Path) -> None:
    root = str(tmp_path)
    storage.ensure(root, THINGS)
    with pytest.raises(ContractBroken, match=r"test\.things was made without size, which may not be null"):
        storage.ensure(root, _with(Column("size", "int", "a size")))
