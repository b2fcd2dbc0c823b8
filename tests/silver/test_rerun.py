"""Whatever is done again, the tables hold every record once."""

from typing import Any

import pytest

from lakehouse import keys
from lakehouse.contracts import silver
from lakehouse.data_keys import DataKeys
from lakehouse.tables import Table
from silver.erasure_report import PERSONAL
from silver.personal import opened
from tests.silver.conftest import TABLES, Rows, Snapshot, World

CHANGING = {"sealed", "ingested_at", "ingest_date", "personal", "run"}
"""Sealed anew, with new nonces, landed at another time and judged by another run."""


def _same(rows: Rows) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in CHANGING} for row in rows]


def _positions(found: Snapshot) -> list[int]:
    tables: tuple[Table, ...] = (*silver.BY_KIND.values(), silver.QUARANTINE, silver.DUPLICATES)
    return sorted(row["offset"] for table in tables for row in found[table.name])


def test_running_again_commits_nothing(world: World) -> None:
    before, after = world.versions
    assert after == before
    assert world.again == world.first


def test_without_its_checkpoints_bronze_loses_and_doubles_nothing(world: World) -> None:
    assert [row["offset"] for row in world.lost["bronze.events"]] == list(range(len(world.sent)))
    assert world.lost["bronze.events"][:29] == world.first["bronze.events"]
    assert world.lost["bronze.decisions"] == world.first["bronze.decisions"]


def test_silver_goes_on_where_it_was(world: World) -> None:
    assert _positions(world.lost) == list(range(len(world.sent)))
    for table in TABLES:
        before, after = world.first[table.name], world.lost[table.name]
        assert after[: len(before)] == before


def test_a_restarted_silver_remembers_ids_clock_and_tables(world: World) -> None:
    assert [(r["offset"], r["first_offset"]) for r in world.lost["silver.duplicates"]][1:] == [
        (world.offset("repeated later"), world.offset("good"))
    ]
    later = {row["offset"]: row for row in world.lost["silver.payments"]}
    again = later[world.offset("dollars again")]
    assert (again["amount_base_minor"], again["reference_version"]) == (900, 2)
    assert again["engine_clock"] == later[world.offset("late")]["engine_clock"] + (
        again["engine_clock"] - world.first["silver.balance"][0]["engine_clock"]
    )
    assert world.offset("after the horizon") in later


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_an_interval_that_is_done_again_gives_the_same_rows(world: World, table: Table) -> None:
    if table is not silver.BALANCE:
        assert _same(world.repaired[table.name]) == _same(world.lost[table.name])


def test_personal_data_that_is_sealed_again_is_the_same(world: World) -> None:
    data_keys = DataKeys(keys.source(world.settings))
    erased = {row["customer_token"] for row in world.lost["silver.erasures"]}

    def readable(found: Snapshot, table: Table) -> list[Any]:
        rows = [row for row in found[table.name] if row["customer_token"] not in erased]
        return [opened(data_keys, table.name, row) for row in rows]

    for table in PERSONAL:
        assert readable(world.repaired, table) == readable(world.lost, table)
    assert readable(world.lost, silver.PAYMENTS) != []
