"""What Kafka deleted before bronze had it is accepted as lost by a named range, on record, and the stream goes on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from bronze import write_offs
from bronze.job import TABLES
from bronze.missing import missing, runs
from lakehouse import broker as log
from lakehouse import delta, jobs, storage, topics, trail
from lakehouse.contracts import silver
from lakehouse.contracts.lake import RUNS, WRITE_OFFS
from lakehouse.crash import VARIABLE
from lakehouse.settings import Settings, home
from lakehouse.spans import holes
from lakehouse.tables import Table
from tests.filled import row

HELD, LOW, SENT = 10, 14, 20
"""Offsets that the table ends at, that the topic begins at, and that it ends at."""
ASKED = ("--from-position", str(HELD), "--to-position", str(LOW), "--reason", "the disk was full")


@dataclass(frozen=True)
class World:
    """A world whose tables of bronze end at HELD, and whose topics begin at LOW."""

    settings: Settings
    environment: dict[str, str]

    @property
    def root(self) -> str:
        return self.settings.lake.root

    def topic_id(self, topic: str) -> str:
        return topics.identify(self.settings, topic).topic_id

    def name(self, topic: str) -> str:
        return topics.topic_name(self.settings, topic)

    def ends(self, topic: str) -> list[int]:
        return list(storage.written_ends(self.root, TABLES[topic]).values())

    def ranges(self, topic: str) -> list[tuple[int, int, bool]]:
        return [(one.span.start, one.span.end, one.at_end) for one in missing(self.settings, topic)]

    def write(self, topic: str, table: Table, rows: list[dict[str, Any]], end: int) -> None:
        """Append rows, as of a topic that the table holds up to an end."""
        delta.ensure(self.root, table)
        schema = pa.schema(DeltaTable(table.path(self.root)).schema())
        told = orjson.dumps({"fraudlake_positions": {f"{self.topic_id(topic)}/0": end}}).decode()
        made = pa.Table.from_pylist([{**one, "topic_id": self.topic_id(topic)} for one in rows], schema)
        properties = CommitProperties({"userMetadata": told})
        write_deltalake(table.path(self.root), made, mode="append", commit_properties=properties)
        delta.followed(self.root, table)

    def checkpoint(self, topic: str) -> Path:
        return Path(jobs.checkpoint(self.root, TABLES[topic].name))


NewWorld = Callable[..., World]


@pytest.fixture
def world(broker: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewWorld:
    """Makes a world in which retention was faster than the job; in force through the environment."""
    own = settings.trail.model_copy(update={"folder": tmp_path / "trail", "heads_folder": tmp_path / "heads"})
    settings = settings.model_copy(update={"trail": own})
    told = {
        "KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "LAKE__ROOT": settings.lake.root,
        "TRAIL__FOLDER": own.folder,
        "TRAIL__HEADS_FOLDER": own.heads_folder,
    }
    environment = {f"FRAUDLAKE__{name}": str(value) for name, value in told.items()}

    def made(*lost: str, low: int = LOW) -> World:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        topics.ensure(settings)
        now = World(settings, environment)
        for topic in lost:
            writer = log.producer(settings)
            for value in range(SENT):
                writer.produce(now.name(topic), str(value).encode(), partition=0)
            assert writer.flush(10) == 0
            now.write(topic, TABLES[topic], [row(TABLES[topic], offset) for offset in range(HELD)], HELD)
            (now.checkpoint(topic) / "commits").mkdir(parents=True)
            assert log.delete_below(settings, now.name(topic), 0, low) == low
        return now

    return made


def _told(settings: Settings) -> list[tuple[str, str]]:
    return [(entry.action, entry.subject) for entry in trail.entries(trail.place_of(settings))]


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ranges_and_what_lies_between_them() -> None:
    assert runs(np.array([7, 3, 4, 3, 9])) == [(3, 5), (7, 8), (9, 10)]
    assert runs(np.array([], np.int64)) == []
    assert holes([(3, 5), (7, 9)], 0, 12) == [(0, 3), (5, 7), (9, 12)]
    assert holes([(3, 9), (4, 5)], 4, 8) == []


@given(st.sets(st.integers(0, 30)), st.integers(0, 30), st.integers(0, 30))
def test_holes_are_what_runs_leave_out(offsets: set[int], start: int, end: int) -> None:
    found = holes(runs(np.array(sorted(offsets), np.int64)), start, end)
    lacking = [offset for a, b in found for offset in range(a, b)]
    assert lacking == [offset for offset in range(start, end) if offset not in offsets]
    assert all(a < b for a, b in found)


def test_without_do_it_says_what_is_missing_and_changes_nothing(
    world: NewWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = world(topics.DECISIONS)
    before = _files(tmp_path)
    command = "python -m bronze.write_offs --topic decisions --from-position 10 --to-position 14 --reason WHY --do"
    said = (
        "bronze.decisions, partition 0: offsets 10 to 14 (4 records; it ends before them) are on topic "
        f"{now.name(topics.DECISIONS)} no more\n"
    )
    assert write_offs.main([]) == 1
    assert capsys.readouterr().out == f"{said}  accept the loss: {command}\n1 ranges are missing\n"
    assert write_offs.main(["--topic", "decisions", *ASKED]) == 0
    assert capsys.readouterr().out == f"{said}would be written off: {command}\n"
    assert write_offs.main(["--topic", "shadow"]) == 0
    assert _files(tmp_path) == before


@pytest.mark.parametrize("topic", [topics.DECISIONS, topics.SHADOW])
def test_a_range_is_written_off_on_record_and_once(
    world: NewWorld, topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    now, table = world(topic), TABLES[topic]
    assert write_offs.main(["--topic", topic, *ASKED, "--do"]) == 0
    assert (now.ends(topic), now.ranges(topic), now.checkpoint(topic).exists()) == ([LOW], [], False)
    (found,) = delta.rows(now.root, WRITE_OFFS, WRITE_OFFS.column_names).to_pylist()
    assert found.pop("written_off_at") is not None
    assert found == {
        "topic_id": now.topic_id(topic),
        "partition": 0,
        "start_offset": HELD,
        "end_offset": LOW,
        "place": table.name,
        "reason": "the disk was full",
        "actor": trail.actor(),
    }
    assert _told(now.settings) == [
        ("write_off.began", "bronze.write_offs"),
        ("range.written_off", table.name),
        ("write_off.ended", "bronze.write_offs"),
    ]
    run = delta.rows(now.root, RUNS, ["job", "outcome", "from_position", "to_position"]).to_pylist()
    assert run == [{"job": "bronze.write_offs", "outcome": "done", "from_position": HELD, "to_position": LOW}]
    capsys.readouterr()
    assert write_offs.main(["--topic", topic, *ASKED, "--do"]) == 0
    assert capsys.readouterr().out == f"{table.name}: offsets 10 to 14 are written off already\n"
    assert (delta.count(now.root, WRITE_OFFS), len(_told(now.settings))) == (1, 3)


def test_a_range_that_is_not_exactly_what_is_missing_is_refused(
    world: NewWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    now = world(topics.SHADOW)
    for start, end, said in (
        (HELD, SENT, "not to be written off: the topic still holds 14 to 20"),
        (12, 16, "not to be written off: the topic still holds 14 to 16"),
        (HELD, LOW - 1, "not what is missing: 10 to 14"),
        (HELD - 1, LOW, "not what is missing: 10 to 14"),
        (0, 5, "not what is missing: 10 to 14"),
        (5, 5, "--to-position must be above --from-position"),
    ):
        where = ("--from-position", str(start), "--to-position", str(end))
        assert write_offs.main(["--topic", "shadow", *where, "--reason", "x", "--do"]) == 1
        assert said in capsys.readouterr().err
    assert (now.ends(topics.SHADOW), delta.count(now.root, WRITE_OFFS)) == ([HELD], 0)


@pytest.mark.parametrize("reason", [(), ("--reason", " ")])
def test_nobody_accepts_a_loss_without_a_reason(reason: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        write_offs.main(["--topic", "shadow", *ASKED[:4], *reason, "--do"])


def test_events_that_silver_has_not_taken_are_refused_with_what_to_do(
    world: NewWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    now = world(topics.EVENTS)
    assert write_offs.main(["--topic", "events", *ASKED, "--do"]) == 1
    said = f"Offsets 10 to 14 of topic {now.name(topics.EVENTS)} cannot be written off: silver has not taken them"
    assert said in capsys.readouterr().err
    assert write_offs.main([]) == 1
    assert said in capsys.readouterr().out
    assert (now.ends(topics.EVENTS), delta.count(now.root, WRITE_OFFS)) == ([HELD], 0)
    assert now.checkpoint(topics.EVENTS).exists()


def test_events_that_bronze_lost_after_silver_had_taken_them_can_be_written_off(world: NewWorld) -> None:
    now = world(topics.EVENTS, low=8)
    table, usual = TABLES[topics.EVENTS], {"received": 0, "accepted": 0, "quarantined": 0, "duplicates": 0}
    now.write(topics.EVENTS, silver.BALANCE, [row(silver.BALANCE, HELD - 1, start_offset=0, **usual)], HELD)
    DeltaTable(table.path(now.root)).delete("offset < 2 or offset = 5 or offset = 9")
    delta.followed(now.root, table)
    # Kafka still has the last one.
    assert now.ranges(topics.EVENTS) == [(0, 2, False), (5, 6, False)]
    range_ = ("--from-position", "5", "--to-position", "6", "--reason", "a disk died")
    assert write_offs.main(["--topic", "events", *range_, "--do"]) == 0
    assert now.ranges(topics.EVENTS) == [(0, 2, False)]
    assert (now.ends(topics.EVENTS), now.checkpoint(topics.EVENTS).exists()) == ([HELD], True)


def test_what_the_retention_of_bronze_took_is_not_missing(world: NewWorld) -> None:
    now, table = world(topics.SHADOW), TABLES[topics.SHADOW]
    told = orjson.dumps({"fraudlake_expired": {f"{now.topic_id(topics.SHADOW)}/0": 4}}).decode()
    expired = CommitProperties({"userMetadata": told})
    DeltaTable(table.path(now.root)).delete("offset < 4", commit_properties=expired)
    delta.followed(now.root, table)
    assert now.ranges(topics.SHADOW) == [(HELD, LOW, True)]


def test_behind_a_transactional_engine_only_what_was_not_read_is_missing(world: NewWorld) -> None:
    now, table = world(topics.DECISIONS), TABLES[topics.DECISIONS]
    engine = now.settings.engine.model_copy(update={"delivery": "transactional"})
    settings = now.settings.model_copy(update={"engine": engine})
    DeltaTable(table.path(now.root)).delete("offset = 5")
    delta.followed(now.root, table)

    def ranges() -> list[str]:
        return [one.text() for one in missing(settings, topics.DECISIONS)]

    (said,) = ranges()
    assert "offsets 10 to 14 (at most 4 records; it ends before them)" in said
    checkpoint = now.checkpoint(topics.DECISIONS)
    (checkpoint / "offsets").mkdir()
    for number, offset in enumerate((8, 12)):
        (checkpoint / "commits" / str(number)).write_text("v1\n{}")
        place = orjson.dumps({now.name(topics.DECISIONS): {"0": offset}}).decode()
        (checkpoint / "offsets" / str(number)).write_text(f"v1\n{{}}\n{place}")
    (said,) = ranges()
    assert "offsets 12 to 14 (at most 2 records" in said
    (checkpoint / "offsets" / "1").write_text(f'v1\n{{}}\n{{"{now.name(topics.DECISIONS)}":{{"0":14}}}}')
    assert ranges() == []


def test_a_write_off_killed_at_any_step_goes_on_when_it_is_given_again(world: NewWorld) -> None:
    now, topic = world(topics.DECISIONS), topics.DECISIONS
    asked = ["--topic", topic, *ASKED, "--do"]
    command = [sys.executable, "-m", "bronze.write_offs", *asked]
    states = []
    for place in ("write-off-named", "write-off-checkpoint-gone", "after-table-commit"):
        environment = {**os.environ, VARIABLE: place, "PYTHONPATH": str(home())}
        done = subprocess.run(command, env=environment, start_new_session=True, cwd=home(), capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        states.append((now.ends(topic), now.checkpoint(topic).exists(), now.ranges(topic)))
    still = [(HELD, LOW, True)]
    assert states == [([HELD], True, still), ([HELD], False, still), ([LOW], False, [])]
    assert write_offs.main(asked) == 0
    assert (now.ends(topic), delta.count(now.root, WRITE_OFFS)) == ([LOW], 1)


def test_a_range_that_has_grown_since_it_was_named_is_written_off_with_the_rest_named_too(world: NewWorld) -> None:
    now, topic = world(topics.SHADOW), topics.SHADOW
    place = {"topic_id": now.topic_id(topic), "start_offset": HELD, "end_offset": LOW, "place": TABLES[topic].name}
    delta.append(now.root, WRITE_OFFS, [row(WRITE_OFFS, 0) | place])
    log.delete_below(now.settings, now.name(topic), 0, 17)
    assert write_offs.main(["--topic", topic, *ASKED, "--do"]) == 1
    grown = ("--from-position", "10", "--to-position", "17", "--reason", "more of it")
    assert write_offs.main(["--topic", topic, *grown, "--do"]) == 0
    named = delta.rows(now.root, WRITE_OFFS, ["start_offset", "end_offset", "reason"]).to_pylist()
    assert sorted(tuple(one.values()) for one in named) == [(10, 14, "x"), (14, 17, "more of it")]
    assert now.ends(topic) == [17]
