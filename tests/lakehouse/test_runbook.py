"""Runbook, error messages and commands speak of the same damages; every fault in the README has its test."""

import re
from pathlib import Path

import pytest

from lakehouse import damage, delta, high_water, maintenance, repair
from lakehouse.contracts.lake import RUNS
from lakehouse.contracts.register import TABLES
from lakehouse.errors import TableDamaged
from lakehouse.settings import home

RUNBOOK = (home() / "lakehouse" / "RUNBOOK.md").read_text()
README = (home() / "lakehouse" / "README.md").read_text()
SYMPTOMS = {
    *(high_water.EMPTY, high_water.TORN, high_water.MISSING, high_water.OTHER, high_water.GONE, high_water.ROWS),
    *(high_water.UNREADABLE, high_water.RECORD, high_water.FILE),
    *(damage.LOST_FILE, damage.DAMAGED_FILE, damage.CHECKPOINT, damage.WRONG_RECORD, high_water.UNFINISHED),
}


def test_the_runbook_has_the_words_of_every_error_and_no_others() -> None:
    rows = set(re.findall(r"^\| `([a-z][^`]* [^`]*)` \|", RUNBOOK, re.MULTILINE))
    named = {text for text in rows if not re.match(r"\w+\.", text)} | {high_water.UNFINISHED}
    assert f"`{high_water.UNFINISHED}`" in RUNBOOK
    assert named == SYMPTOMS


def test_every_text_for_a_damage_is_one_of_the_runbooks() -> None:
    texts = re.findall(r'^[A-Z_]+ = "(a .+|its .+)"$', Path(high_water.__file__).read_text(), re.MULTILINE)
    texts += re.findall(r'^[A-Z_]+ = "(a .+|its .+)"$', Path(damage.__file__).read_text(), re.MULTILINE)
    assert set(texts) == SYMPTOMS


def test_an_error_names_table_version_and_the_command_of_the_runbook() -> None:
    assert str(TableDamaged("silver.payments", 7, high_water.EMPTY)) == (
        "silver.payments is damaged at version 7: its last commit file is empty. "
        "Look: python -m lakehouse.repair --table silver.payments; mend: the same with --do."
    )
    assert "`python -m lakehouse.repair --table NAME --do`" in RUNBOOK


@pytest.mark.parametrize("name", TABLES)
def test_the_runbook_says_how_the_rows_of_a_table_come_back(name: str) -> None:
    way = repair.WAYS.get(name, repair.Way("never"))
    rows = [line for line in RUNBOOK.splitlines() if line.startswith("| ") and line.count("|") == 4]
    layer = name.partition(".")[0]
    mine = [r for r in rows if f"`{name}`" in r.partition(" | ")[0]]
    (row,) = mine or [r for r in rows if f"`{layer}.*`" in r]
    expected = {"landed": "Kafka", "recipe": "gold.as_of", "never": "nothing"}.get(way.again, way.job)
    assert expected in row.split(" | ")[1]


def test_every_fault_of_the_readme_has_its_test() -> None:
    named = re.findall(r"\| `(?:(\w+)/)?(test_\w+\.py)::(test_\w+)` \|", README)
    assert len(named) >= 15
    tests = home() / "tests"
    assert [(f, t) for r, f, t in named if f"def {t}(" not in (tests / (r or "lakehouse") / f).read_text()] == []


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake with one empty table, in force through the environment."""
    monkeypatch.setenv("FRAUDLAKE__LAKE__ROOT", str(tmp_path))
    delta.ensure(str(tmp_path), RUNS)
    return tmp_path


def test_the_command_looks_and_changes_nothing(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert repair._main([]) == 0
    assert capsys.readouterr().out == f"{len(TABLES)} tables, all sound\n"
    commit = Path(RUNS.path(str(lake))) / high_water.commit_name(0)
    commit.write_bytes(b"")
    before = {path: path.read_bytes() for path in lake.rglob("*") if path.is_file()}
    assert repair._main(["--table", "lake.runs"]) == 1
    assert capsys.readouterr().out == (
        "lake.runs, version 0: its last commit file is empty; no version is good\n1 tables, 1 damages\n"
    )
    assert {path: path.read_bytes() for path in lake.rglob("*") if path.is_file()} == before


def test_maintenance_says_what_it_would_do(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert maintenance._main([]) == 0
    assert capsys.readouterr().out == "lake.runs: keep the log from version 0\n"
