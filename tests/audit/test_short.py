"""Nothing is shorter than what follows from it: topics, bronze, silver, features, at their ends and beginnings."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from lakehouse import topics
from tests.audit.little_lake import TABLES

WITH_AND_WITHOUT = pytest.mark.parametrize("more", [(), ("--without-topics",)], ids=["with topics", "without"])


@pytest.fixture
def copied(lake, tmp_path):
    """A copy of the tables, without the records that would tell of what is gone."""
    return Path(shutil.copytree(lake.root, tmp_path / "lake", ignore=shutil.ignore_patterns("_high_water")))


def lost(found):
    """(table, fact, number of rows) of what was lost."""
    return {(f["tables"][0], f["fact"], f["rows"]) for f in found["findings"] if f["what"] == "lost"}


@pytest.mark.parametrize("name", ["bronze.events", "bronze.decisions", "bronze.shadow", "features.vectors"])
@WITH_AND_WITHOUT
def test_a_table_that_is_gone_is_lost_and_not_behind_where_others_were_made_of_it(lake, copied, look, name, more):
    shutil.rmtree(TABLES[name].path(str(copied)))
    _, found = look(copied, *more)
    ((table, fact, rows),) = lost(found)
    # Nobody but bronze and the topic has the first record of a topic of the engine.
    assert (table, fact) == (name, "rows")
    assert rows == len(lake.rows[name]) - (bool(more) and name == "bronze.decisions")


def test_without_the_balance_of_silver_its_rows_are_expected_all_the_same(lake, copied, look):
    shutil.rmtree(TABLES["silver.balance"].path(str(copied)))
    DeltaTable(TABLES["silver.labels"].path(str(copied))).delete(f"offset = {lake.rows['silver.labels'][0]['offset']}")
    _, found = look(copied)
    assert lost(found) == {("silver.balance", "ranges", 1), ("silver.labels", "rows", 1)}
    assert [f["repair"] for f in found["findings"] if f["fact"] == "ranges"] == [
        f"python -m silver.job --from-position 0 --to-position {len(lake.events)}"
    ]


@WITH_AND_WITHOUT
def test_what_silver_lacks_of_the_beginning_of_bronze_is_lost(lake, copied, look, more):
    """The first range of the log, in every table that was made of it."""
    for name in TABLES:
        if not name.startswith("bronze") and "decision" not in name and "shadow" not in name:
            DeltaTable(TABLES[name].path(str(copied))).delete("`offset` < 30")
    _, found = look(copied, *more)
    first = {offset for offset, (_, _, fate, _) in enumerate(lake.events[:30]) if fate != "duplicate"}
    rows = [f for f in found["findings"] if f["what"] == "lost" and f["fact"] == "rows"]
    assert sum(f["rows"] for f in rows) >= len(first)
    assert {f["from_offset"] for f in rows if f["tables"] == ["silver.control"]} == {0}
    assert ("silver.balance", "ranges", 1) in lost(found)


def test_a_topic_that_ends_before_bronze_has_lost_what_bronze_still_has(lake, copied, look):
    bronze, end = TABLES["bronze.events"].path(str(copied)), len(lake.events)
    row = DeltaTable(bronze).to_pyarrow_table().slice(0, 1)
    place = row.schema.get_field_index("offset")
    told = json.dumps({"fraudlake_positions": {f"{lake.id[topics.EVENTS]}/0": end + 1}})
    write_deltalake(
        bronze,
        row.set_column(place, row.schema.field(place), pa.array([end], pa.int64())),
        mode="append",
        commit_properties=CommitProperties({"userMetadata": told}),
    )
    code, found = look(copied)
    told = [(f["what"], f["tables"], f["against"], f["examples"], f["repair"]) for f in found["findings"]]
    expected = ("lost", ["topic events"], "bronze.events", [{"offset": end}], "restore the broker's data")
    assert (code, told) == (1, [expected])
    assert look(copied, "--without-topics")[0] == 0
