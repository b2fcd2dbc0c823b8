"""Runs of real jobs leave a row in lake.runs and their begin and end in the audit trail."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from lakehouse import delta, jobs, signing, storage, topics, trail
from lakehouse import settings as conf
from lakehouse.contracts import bronze, gold, quality, silver
from lakehouse.contracts.lake import RUNS
from lakehouse.runs import recorded
from lakehouse.settings import Settings
from lakehouse.version import VERSION
from tests.conftest import NewSettings
from tests.lakehouse.records import raw, raw_control, signed
from tests.silver.conftest import Sent, produce

PAYMENTS = 5


def rows(settings: Settings) -> list[dict[str, Any]]:
    """The runs, oldest first."""
    found: list[dict[str, Any]] = DeltaTable(RUNS.path(conf.lake_root(settings))).to_pyarrow_table().to_pylist()
    return sorted(found, key=lambda row: row["started_at"])


def told(settings: Settings) -> list[tuple[str, str, dict[str, Any]]]:
    """The trail: action, subject, details."""
    return [(e.action, e.subject, dict(e.details)) for e in trail.entries(trail.place_of(settings))]


@pytest.fixture(scope="module")
def world(
    broker: str, spark: SparkSession, new_settings: NewSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """A world that processes and `main` of jobs see through the environment; one payment of it comes twice."""
    folder = tmp_path_factory.mktemp("runs")
    made = new_settings(folder)
    values = {
        "KAFKA__TOPIC_PREFIX": made.kafka.topic_prefix,
        "LAKE__ROOT": made.lake.root,
        "FEATURES__SNAPSHOT_FOLDER": made.features.snapshot_folder,
        "TRAIL__FOLDER": folder / "trail",
        "TRAIL__HEADS_FOLDER": folder / "heads",
        "BRONZE__TRIGGER_S": 1,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(f"FRAUDLAKE__{name}", str(value))
        settings = conf.load()
        topics.ensure(settings)
        payments = [raw("payment", transaction_id=f"t{number}") for number in range(PAYMENTS)]
        records = [raw_control(signed(settings.keys.folder)), *payments, payments[0], b"no record"]
        produce(settings, topics.EVENTS, [Sent(value) for value in records])
        yield settings


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code, the rows of its runs, its entries of the trail."""

    code: int
    rows: list[dict[str, Any]]
    told: list[tuple[str, str, dict[str, Any]]]


def _done(settings: Settings, name: str, *arguments: str) -> Done:
    def held() -> tuple[int, int]:
        return (len(rows(settings)) if delta.exists(conf.lake_root(settings), RUNS) else 0), len(told(settings))

    row, entry = held()
    if name == "lakehouse.jobs":
        code = jobs._main(arguments)
    else:
        module = sys.modules[f"{name}.job"]
        code = jobs.main(name, module.run, None, arguments)
    return Done(code, rows(settings)[row:], told(settings)[entry:])


@pytest.fixture(scope="module")
def first(world: Settings) -> Done:
    """The lake's first pass."""
    return _done(world, "lakehouse.jobs", "bronze.job", "silver.job", "features.job", "--available-now")


def test_every_job_of_a_pass_leaves_a_row(world: Settings, first: Done) -> None:
    assert first.code == 0
    assert [(row["job"], row["outcome"], row["exit_code"], row["error"]) for row in first.rows] == [
        (f"{name}.job", "done", 0, None) for name in ("bronze", "silver", "features")
    ]
    for row in first.rows:
        assert isinstance(row["started_at"], datetime)
        assert row["started_at"] < row["ended_at"]
        assert (row["code_version"], row["from_position"], row["to_position"]) == (VERSION, None, None)


def test_rows_are_counted_from_positions_and_commits(world: Settings, first: Done) -> None:
    root = conf.lake_root(world)
    sent = 1 + PAYMENTS + 2
    landed, admitted, vectors = first.rows
    assert (landed["rows_in"], landed["rows_out"]) == (sent, sent)
    assert admitted["rows_in"] == sent
    held = sum(delta.count(root, table) for table in silver.TABLES)
    assert held == sent + 1  # and a balance
    assert admitted["rows_out"] == held + delta.count(root, quality.SCORES)
    assert (vectors["rows_in"], vectors["rows_out"]) == (sent, PAYMENTS)


def test_versions_are_those_that_were_read_and_written(world: Settings, first: Done) -> None:
    landed, admitted, vectors = first.rows
    assert landed["versions_written"] == ["bronze.events@1"]
    assert "bronze.events@1" in admitted["versions_read"]
    written = {name.split("@")[0]: name for name in admitted["versions_written"]}
    assert {"silver.payments", "silver.duplicates", "silver.quarantine", "silver.balance"} <= set(written)
    assert written["silver.payments"] in vectors["versions_read"]
    assert vectors["versions_written"] == ["features.vectors@1"]
    root = conf.lake_root(world)
    for table in (bronze.EVENTS, silver.PAYMENTS, gold.VECTORS):
        assert storage.version(root, table) == 1


def test_a_run_begins_and_ends_in_the_trail(world: Settings, first: Done) -> None:
    ids = [row["run_id"] for row in first.rows]
    assert [(action, subject, details["run_id"]) for action, subject, details in first.told] == [
        (f"job.{what}", f"{name}.job", run_id)
        for name, run_id in zip(("bronze", "silver", "features"), ids, strict=True)
        for what in ("began", "ended")
    ]
    assert first.told[0][2] == {"run_id": ids[0], "env": "test", "available_now": True}
    assert first.told[1][2] == {"run_id": ids[0], "outcome": "done", "exit_code": 0, "error": None}


def test_a_pass_with_nothing_to_do_writes_nothing_but_its_row(world: Settings, first: Done) -> None:
    again = _done(world, "silver", "--available-now")
    assert [(row["rows_in"], row["rows_out"], row["versions_written"]) for row in again.rows] == [(None, 0, [])]


def test_an_interval_that_is_done_again_is_a_rerun_with_its_positions(world: Settings, first: Done) -> None:
    again = _done(world, "silver", "--from-position", "1", "--to-position", "4")
    (row,) = again.rows
    # Its scores are counted again over the whole batch.
    assert (row["from_position"], row["to_position"], row["rows_in"], row["outcome"]) == (
        1,
        4,
        1 + PAYMENTS + 2,
        "done",
    )
    assert [action for action, _, _ in again.told] == ["rerun.began", "rerun.ended"]
    assert {name: again.told[0][2][name] for name in ("from_position", "to_position")} == {
        "from_position": 1,
        "to_position": 4,
    }


def test_a_run_that_fails_says_so(world: Settings, first: Done) -> None:
    failed = _done(world, "silver", "--from-position", "1", "--to-position", "400")
    assert failed.code == 1
    assert [(row["outcome"], row["exit_code"], row["error"]) for row in failed.rows] == [("failed", 1, "RangeMissing")]
    assert failed.told[-1][2]["error"] == "RangeMissing"


def test_a_job_that_is_asked_to_end_is_on_record_as_stopped(world: Settings, first: Done, tmp_path: Path) -> None:
    held = len(rows(world))
    with (tmp_path / "bronze.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bronze.job"], cwd=conf.home(), stdout=log, stderr=log, start_new_session=True
        )
    root, deadline = conf.lake_root(world), time.monotonic() + 120
    for version, name in ((2, "later"), (3, "later still")):
        produce(world, topics.EVENTS, [Sent(raw("payment", transaction_id=name))])
        while storage.version(root, bronze.EVENTS) < version:
            assert process.poll() is None, (tmp_path / "bronze.log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)
    process.terminate()
    assert process.wait(60) == -signal.SIGTERM
    (row,) = rows(world)[held:]
    assert (row["job"], row["outcome"], row["exit_code"]) == ("bronze.job", "stopped", 143)
    assert row["rows_out"] in (1, 2)  # the second commit may be the last thing it did


def test_the_trail_of_all_this_is_as_it_was_written(world: Settings, first: Done) -> None:
    report = trail.verified(trail.place_of(world), world.keys.folder / signing.TRUSTED)
    assert (report.problems, report.notes) == ([], [])


def test_a_table_that_cannot_be_written_is_not_in_the_way(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "lake").write_text("a file where the table's folder should be")
    with recorded(settings, "some.job"):
        pass
    assert "the run is not in the table of runs" in "".join(capfd.readouterr())
    assert told(settings)[-1][:2] == ("job.ended", "some.job")


def test_without_its_entry_a_run_does_not_begin(settings: Settings, tmp_path: Path) -> None:
    blocked = settings.model_copy(
        update={"trail": settings.trail.model_copy(update={"folder": Path(os.devnull) / "trail"})}
    )
    with pytest.raises(trail.TrailBroken), recorded(blocked, "some.job"):
        pytest.fail("it began")
