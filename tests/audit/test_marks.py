"""A table that was set back does not read like one that has not come further: its high-water record tells."""

import shutil
from pathlib import Path

import pytest

from audit.__main__ import main
from lakehouse import high_water
from tests.audit.little_lake import TABLES, arguments

LAST = "_delta_log/00000000000000000001.json"
"""The commit with the rows."""


@pytest.fixture
def copied(lake, tmp_path):
    """A copy of the tables, each with the record that its last writer left."""
    root = Path(shutil.copytree(lake.root, tmp_path / "lake"))
    for table in TABLES.values():
        high_water.keep_up(str(root), table)
    return root


@pytest.mark.parametrize("name", ["gold.decisions", "silver.shadow", "lake.purges"])
def test_a_table_at_the_end_of_the_line_that_is_gone_is_no_table_that_is_behind(lake, copied, capsys, name):
    if name in TABLES:
        shutil.rmtree(TABLES[name].path(str(copied)))
    else:
        shutil.copy(copied / "_high_water" / "silver.staged.json", copied / "_high_water" / f"{name}.json")
    assert main(arguments(lake.settings, copied)) == 2
    said = capsys.readouterr().err
    assert f"{name} is not there, its high-water record tells of version 1: commits are lost." in said
    assert f"python -m lakehouse.repair --table {name}" in said


def test_a_table_without_its_last_commits_or_with_an_emptied_one_is_set_back(lake, copied, capsys):
    assert main(arguments(lake.settings, copied)) == 0
    last = Path(TABLES["gold.scores"].path(str(copied))) / LAST
    last.write_bytes(b"")
    assert main(arguments(lake.settings, copied)) == 2
    assert "Commit 1 of gold.scores is not the one that its high-water record tells of." in capsys.readouterr().err
    last.unlink()
    assert main(arguments(lake.settings, copied)) == 2
    assert "gold.scores is at version 0, its high-water record tells of version 1" in capsys.readouterr().err


def test_a_record_that_cannot_be_read_is_a_reason_not_to_look(lake, copied, capsys):
    (copied / "_high_water" / "bronze.events.json").write_text('{"version": 1}')
    assert main(arguments(lake.settings, copied)) == 2
    assert "The high-water record of bronze.events is none." in capsys.readouterr().err
