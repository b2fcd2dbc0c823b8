"""Days whose retention has passed: rows and keys go, on record, and nothing that silver still needs."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from bronze import retention
from lakehouse import delta, keys, storage, trail
from lakehouse import settings as conf
from lakehouse.contracts import bronze, silver
from lakehouse.data_keys import DataKeys
from lakehouse.key_store import KeyName
from lakehouse.settings import Settings
from lakehouse.tables import Table

TODAY = date(2026, 3, 1)
OLD, LAST, KEPT = date(2026, 1, 28), date(2026, 1, 29), date(2026, 1, 30)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    base = conf.load()
    keys.create(tmp_path / "keys")
    return base.model_copy(
        update={
            "keys": base.keys.model_copy(update={"folder": tmp_path / "keys"}),
            "trail": base.trail.model_copy(update={"folder": tmp_path / "trail", "heads_folder": tmp_path / "heads"}),
            "lake": base.lake.model_copy(update={"root": str(tmp_path / "lake")}),
        }
    )


def _row(table: Table, offset: int, day: date) -> dict[str, Any]:
    usual = {"string": "x", "int": 1, "bigint": 1, "binary": b"sealed", "timestamp": datetime(2026, 1, 1, tzinfo=UTC)}
    at = {"topic_id": "T", "partition": 0, "offset": offset, "ingest_date": day}
    return {c.name: at.get(c.name, None if c.nullable else usual.get(c.type)) for c in table.columns}


def _written(settings: Settings, table: Table, rows: list[dict[str, Any]], end: int) -> None:
    root = conf.lake_root(settings)
    delta.ensure(root, table)
    schema = pa.schema(DeltaTable(table.path(root)).schema())
    properties = CommitProperties({"userMetadata": f'{{"fraudlake_positions":{{"T/0":{end}}}}}'})
    write_deltalake(table.path(root), pa.Table.from_pylist(rows, schema), mode="append", commit_properties=properties)
    delta.followed(root, table)


def _balance(settings: Settings, end: int) -> None:
    usual = {"received": end, "accepted": end, "quarantined": 0, "duplicates": 0}
    row = {"topic_id": "T", "partition": 0, "offset": end - 1, "start_offset": 0, **usual}
    _written(settings, silver.BALANCE, [{c.name: row.get(c.name) for c in silver.BALANCE.columns}], end)


@pytest.fixture
def lake(settings: Settings) -> Settings:
    """Three offsets a day; silver has taken all of the first and the third day, and not all of the second."""
    for day, first in ((OLD, 0), (LAST, 3), (KEPT, 6)):
        _written(settings, bronze.EVENTS, [_row(bronze.EVENTS, first + at, day) for at in range(3)], first + 3)
        data_keys = DataKeys(keys.source(settings))
        for place in ("bronze", "silver"):
            data_keys.of_today(f"{place}|{day.isoformat()}")
    _balance(settings, 5)
    return settings


def _held(settings: Settings) -> list[int]:
    rows = delta.rows(conf.lake_root(settings), bronze.EVENTS, ["offset"])
    return sorted(rows["offset"].to_pylist())


def _living(settings: Settings) -> list[str]:
    found = DataKeys(keys.source(settings)).store.all("day")
    return sorted(key.name.id for key in found if key.wrapped is not None)


def test_what_retention_has_passed_is_named_and_what_silver_has_not_taken_waits(lake: Settings) -> None:
    first, second = retention.expired(lake, TODAY)
    assert first.text() == "2026-01-28: 2 keys and 3 rows of bronze.events"
    assert second.text() == ("2026-01-29: waits, silver has not taken all of bronze.events: run silver.job first")
    _balance(lake, 6)
    assert [day.waits_for for day in retention.expired(lake, TODAY)] == [(), ()]
    assert [day.day for day in retention.expired(lake, TODAY + timedelta(days=1))] == [OLD, LAST, KEPT]


def test_rows_and_keys_of_a_day_go_on_record_and_the_others_stay(lake: Settings) -> None:
    root, data_keys = conf.lake_root(lake), DataKeys(keys.source(lake))
    wrapped = [key.wrapped for key in data_keys.store.all("day") if OLD.isoformat() in key.name.id]
    retention.destroy(lake, retention.expired(lake, TODAY)[0])
    assert _held(lake) == [3, 4, 5, 6, 7, 8]
    assert _living(lake) == [f"{place}|{day}" for place in ("bronze", "silver") for day in (LAST, KEPT)]
    held = data_keys.store.path.read_bytes()
    assert [one for one in wrapped if one is None or one in held] == []
    assert storage.written_ends(root, bronze.EVENTS) == {"T/0": 9}
    assert [day.day for day in retention.expired(lake, TODAY)] == [LAST]
    entries = [(e.action, e.subject, dict(e.details)) for e in trail.entries(trail.place_of(lake))]
    assert entries == [("bronze.expired", "2026-01-28", {"keys": 2, "bronze.events": 3})]


def test_each_commit_says_below_which_offset_rows_may_be_lacking(lake: Settings) -> None:
    _balance(lake, 9)
    for day in retention.expired(lake, TODAY + timedelta(days=1)):
        retention.destroy(lake, day)
    told = [c.get("userMetadata") for c in DeltaTable(bronze.EVENTS.path(conf.lake_root(lake))).history()[:3]]
    assert told == [f'{{"fraudlake_expired":{{"T/0":{end}}}}}' for end in (9, 6, 3)]


def test_a_day_that_was_left_in_the_middle_is_finished_the_next_time(lake: Settings) -> None:
    (day, _) = retention.expired(lake, TODAY)
    DataKeys(keys.source(lake)).destroy([KeyName("day", f"bronze|{OLD}", 1)])
    again = retention.expired(lake, TODAY)[0]
    assert (len(day.keys), len(again.keys), again.rows) == (2, 1, {"bronze.events": 3})
    retention.destroy(lake, again)
    assert [day.day for day in retention.expired(lake, TODAY)] == [LAST]


def test_the_command_says_what_waits_and_ends_with_1(
    lake: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (
        ("KEYS__FOLDER", lake.keys.folder),
        ("LAKE__ROOT", lake.lake.root),
        ("TRAIL__FOLDER", lake.trail.folder),
        ("TRAIL__HEADS_FOLDER", lake.trail.heads_folder),
    ):
        monkeypatch.setenv(f"FRAUDLAKE__{name}", str(value))
    assert retention.main([]) == 1
    assert capsys.readouterr().out.endswith("1 days to be destroyed, 2 wait for silver\n")
    assert _held(lake) == list(range(9))
    assert retention.main(["--do"]) == 1
    assert capsys.readouterr().out.endswith("1 days destroyed, 2 wait for silver\n")
    assert _held(lake) == list(range(3, 9))
