"""What was left sealed of an erased customer is purged: a small world before, killed in between, after, done again."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from audit.__main__ import main as audit
from lakehouse import broker as log
from lakehouse import keys, purging, state_files, storage, topics, trail
from lakehouse.contracts import bronze, silver
from lakehouse.data_keys import DataKeys
from lakehouse.envelope import open_values
from lakehouse.errors import RangeMissing
from lakehouse.jobs import Context, Interval
from lakehouse.settings import Settings
from silver import erasure, resubmit, shortening
from tests.audit.little_lake import arguments
from tests.conftest import NewContext, NewSettings
from tests.lakehouse.records import SECOND, T0, raw, raw_control, signed
from tests.silver.conftest import PERSON, Rows, Sent, land, produce, rows
from tests.silver.test_erasure import _apart

GONE, OTHER, ERASURE = PERSON["customer_id"], "Another-Customer-4", "erasure-1"
TABLES = (*bronze.TABLES, *silver.TABLES)
CANARY = [value.encode() for value in PERSON.values() if len(value) > 9]
OF_GONE, REFUSED, LATER = (1, 3, 4, 5, 6, 7, 8, 9, 13, 14), (4, 7, 9), 15
"""Offsets of the erased customer's records, of those that were refused, and of one that came after the erasure."""
LAND_AGAIN = {"personal", "run", "ingested_at", "sealed", "ingest_date", "sealing_key"}


def _paid(number: int, **more: Any) -> bytes:
    return raw("payment", **{"transaction_id": f"t{number}", **more})


def _sent(folder: Path) -> list[bytes]:
    return [
        raw_control(signed(folder)),
        _paid(1, **PERSON),
        _paid(2, customer_id=OTHER),
        _paid(3, **PERSON, received_at=T0 + SECOND),
        _paid(4, **{**PERSON, "amount_minor": -1}),
        raw("authorisation", customer_id=GONE, device_id=PERSON["device_id"]),
        raw("label", customer_id=GONE),
        _paid(7, **PERSON)[:-2],
        _paid(1, **PERSON, received_at=T0 + 2 * SECOND),
        _paid(1, **{**PERSON, "amount_minor": 77}),
        _paid(10, customer_id=OTHER, amount_minor=-1),
        _paid(11, customer_id=OTHER)[:-2],
        _paid(2, customer_id=OTHER, received_at=T0 + 3 * SECOND),
    ]


def _later() -> list[bytes]:
    return [_paid(15, customer_id=GONE), _paid(16, customer_id=OTHER)]


@dataclass(frozen=True)
class World:
    """What its tables held before the purge, after it, and after the whole log was landed and admitted again."""

    settings: Settings
    context: Context
    before: Mapping[str, Rows]
    killed: Mapping[str, tuple[int, int]]
    """By the place at which a purge was killed: its exit code, and what the audit found afterwards."""
    after: Mapping[str, Rows]
    again: Mapping[str, Rows]
    environment: Mapping[str, str]
    version: int
    """Of bronze.events, before the purge."""


def _held(root: str) -> dict[str, Rows]:
    return {table.name: rows(root, table) for table in TABLES}


def _environment(settings: Settings) -> dict[str, str]:
    told = {
        "KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "LAKE__ROOT": settings.lake.root,
        "KEYS__FOLDER": settings.keys.folder,
        "TRAIL__FOLDER": settings.trail.folder,
        "TRAIL__HEADS_FOLDER": settings.trail.heads_folder,
        "ENGINE__STATE_FOLDER": settings.engine.state_folder,
        "FEATURES__SNAPSHOT_FOLDER": settings.features.snapshot_folder,
    }
    return {f"FRAUDLAKE__{name}": str(value) for name, value in told.items()}


def _killed_at(place: str, environment: Mapping[str, str]) -> int:
    asked = [sys.executable, "-m", "silver.erasure", "purge", "--erasure-id", ERASURE]
    env = {**os.environ, **environment, "FRAUDLAKE_CRASH_AT": place}
    return subprocess.run(asked, env=env, start_new_session=True, check=False, capture_output=True).returncode


def _findings(settings: Settings, out: Path) -> list[dict[str, Any]]:
    assert audit([*arguments(settings), "--out", str(out)]) in (0, 1)
    found: list[dict[str, Any]] = json.loads(out.read_text())["findings"]
    return found


@pytest.fixture(scope="module")
def world(
    broker: str, new_settings: NewSettings, context: NewContext, tmp_path_factory: pytest.TempPathFactory
) -> World:
    folder = tmp_path_factory.mktemp("purge")
    settings = _apart(new_settings(folder), folder)
    engine = settings.engine.model_copy(update={"state_folder": folder / "state"})
    features = settings.features.model_copy(update={"snapshot_folder": folder / "snapshots"})
    settings = settings.model_copy(update={"engine": engine, "features": features})
    now = context(settings)
    topics.ensure(settings)
    produce(settings, topics.EVENTS, [Sent(value) for value in _sent(settings.keys.folder)])
    land(now)
    assert [erasure.request(settings, GONE, ERASURE) for _ in range(2)] == [[13], [14]]
    produce(settings, topics.EVENTS, [Sent(value) for value in _later()])
    land(now)
    for table in purging.TABLES:  # files that are in no version any more, and wait for vacuum
        DeltaTable(table.path(now.root)).optimize.compact()
    before, environment = _held(now.root), _environment(settings)
    version = storage.version(now.root, bronze.EVENTS)
    killed = {
        place: (_killed_at(place, environment), len(_findings(settings, folder / "found.json")))
        for place in ("purge-named", "purge-emptied", "purge-file-removed")
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        assert erasure.main(["purge", "--erasure-id", ERASURE]) == 0
    after = _held(now.root)
    land(context(settings, Interval(0, 17)))
    return World(settings, now, before, killed, after, _held(now.root), environment, version)


@pytest.fixture
def command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment in which a command sees the world."""
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)


def test_no_file_of_the_lake_gives_a_record_of_the_customer_to_whoever_has_every_key(world: World) -> None:
    data_keys, read = DataKeys(keys.source(world.settings)), []
    for path in Path(world.context.root).rglob("*"):
        if not path.is_file():
            continue
        assert [value for value in CANARY if value in path.read_bytes()] == [], path
        if path.suffix != ".parquet" or "sealed" not in pq.read_schema(path).names:
            continue
        for batch in pq.read_table(path, partitioning=None).to_batches():
            values = open_values(batch, data_keys, {})
            read += values
            mine = [v for v, offset in zip(values, batch.column("offset").to_pylist(), strict=True) if offset != LATER]
            assert [value for value in CANARY for record in mine if value in record] == [], path
    assert sum(OTHER.encode() in value for value in read) >= 6


def test_the_customers_rows_stay_at_their_places_and_everybody_elses_are_what_they_were(world: World) -> None:
    gone = set(OF_GONE)
    for name, found in world.before.items():
        for old, new in zip(found, world.after[name], strict=True):
            purged = name in ("bronze.events", "silver.quarantine") and old["offset"] in gone
            assert new == ({**old, "sealed": b""} if purged else old), (name, old["offset"])
    sealed = {row["offset"]: row["sealed"] for row in world.after["bronze.events"]}
    assert sorted(offset for offset, value in sealed.items() if not value) == sorted(gone)
    assert sorted(sealed) == list(range(17))
    assert [row["offset"] for row in world.after["silver.quarantine"] if not row["sealed"]] == list(REFUSED)


def test_landed_and_admitted_again_they_stay_purged_and_silver_is_what_it_was(world: World) -> None:
    for name, found in world.after.items():
        kept = [
            [{n: v for n, v in row.items() if n not in LAND_AGAIN} for row in of] for of in (found, world.again[name])
        ]
        if name != "silver.balance":
            assert kept[0] == kept[1], name
    for name in ("bronze.events", "silver.quarantine"):
        purged = [[row["offset"] for row in of[name] if not row["sealed"]] for of in (world.after, world.again)]
        assert purged[0] == purged[1], name
    (balance,) = world.again["silver.balance"]
    assert [balance[name] for name in ("received", "accepted", "quarantined", "duplicates")] == [17, 9, 5, 3]


def test_a_purge_killed_at_any_step_goes_on_when_it_is_given_again(world: World) -> None:
    assert {place: code for place, (code, _) in world.killed.items()} == dict.fromkeys(world.killed, -9)
    assert world.killed["purge-named"][1] > 0
    names = [t.action for t in trail.entries(trail.place_of(world.settings)) if t.action == "personal.purged"]
    assert names == ["personal.purged"]


def test_the_auditor_finds_nothing(world: World, tmp_path: Path) -> None:
    assert _findings(world.settings, tmp_path / "found.json") == []


def test_a_version_from_before_the_purge_is_refused_by_name(world: World) -> None:
    with pytest.raises(RangeMissing, match=f"bronze.events cannot be read at version {world.version}: records were"):
        storage.read(world.context.spark, world.context.root, bronze.EVENTS, world.version)
    latest = storage.version(world.context.root, bronze.EVENTS)
    assert storage.read(world.context.spark, world.context.root, bronze.EVENTS, latest).count() == 17


def test_a_purged_refusal_cannot_enter_again_as_it_was(
    world: World, command: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resubmit.main(["send", "--offset", "4", "--same"]) == 1
    assert "The record at offset 4 was purged with a customer's erasure" in capsys.readouterr().err


def _places(capsys: pytest.CaptureFixture[str], *asked: str) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert erasure.main([*asked, "--erasure-id", ERASURE, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["places"]
    return {place["place"]: place for place in found}


def test_the_report_tells_what_is_purged_since_when_and_what_the_log_still_keeps(
    world: World, command: None, capsys: pytest.CaptureFixture[str]
) -> None:
    places = _places(capsys, "purge")
    assert places == _places(capsys, "report")
    purged = {name: (place["rows"], place["until"]) for name, place in places.items() if place["state"] == "purged"}
    assert purged == {"bronze.events": (10, None), "silver.quarantine": (3, None)}
    assert places["bronze.events"]["purged_at"].startswith("20")
    topic = places[f"topic {topics.topic_name(world.settings, topics.EVENTS)}"]
    assert (topic["state"], topic["purged_at"]) == ("expires", None)
    assert topic["until"] is not None


def test_an_erasure_that_silver_has_not_done_is_not_purged(
    world: World, command: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert erasure.main(["purge", "--erasure-id", "nobody"]) == 1
    assert "Silver has no erasure nobody" in capsys.readouterr().err


def test_the_log_is_not_shortened_below_what_bronze_has_lost(world: World, tmp_path: Path) -> None:
    root = shutil.copytree(world.settings.lake.root, tmp_path / "lake")
    DeltaTable(bronze.EVENTS.path(str(root))).delete("`offset` = 2")
    lake = world.settings.lake.model_copy(update={"root": str(root)})
    topic_id = topics.identify(world.settings, topics.EVENTS).topic_id
    with pytest.raises(
        RangeMissing, match=r"lacks 1 of the offsets 0 to 15 of partition 0, from 2 to 3; .*to-position 3"
    ):
        shortening.shortened(world.settings.model_copy(update={"lake": lake}), topic_id, 0, 15, "a token")


def test_the_log_is_shortened_on_request_once_everybody_is_past_it(
    world: World, command: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last test of this world."""
    asked = ["purge", "--erasure-id", ERASURE, "--shorten-log"]
    name = topics.topic_name(world.settings, topics.EVENTS)
    assert erasure.main(asked) == 1
    assert "ends at offset 0: an engine that starts again needs offsets 0 to 15" in capsys.readouterr().err
    folder = world.settings.engine.state_folder
    folder.mkdir()
    (folder / state_files.file_name(14)).touch()
    assert erasure.main(asked) == 1
    assert "ends at offset 14: an engine that starts again needs offsets 14 to 15" in capsys.readouterr().err
    assert log.watermarks(world.settings, name, 0) == (0, 17)
    (folder / state_files.file_name(15)).touch()
    assert erasure.main(asked) == 0
    assert log.watermarks(world.settings, name, 0) == (15, 17)
    topic = _places(capsys, "report")[f"topic {name}"]
    assert (topic["state"], topic["rows"]) == ("purged", 10)
    entries = [e for e in trail.entries(trail.place_of(world.settings)) if e.action == "log.shortened"]
    assert [dict(e.details) for e in entries] == [{"topic": name, "from_offset": 0, "to_offset": 15}]
    assert erasure.main(asked) == 0
    land(world.context)
    assert [row["offset"] for row in rows(world.context.root, bronze.EVENTS)] == list(range(17))
