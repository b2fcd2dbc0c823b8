"""Sealed records are emptied by position: nothing else of a table changes, and no file keeps them."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse import delta, high_water, purged, purging
from lakehouse.contracts import bronze
from lakehouse.errors import RangeMissing
from lakehouse.spans import Span

SOURCE, WHEN = ("T", 0), datetime(2026, 3, 1, tzinfo=UTC)
TABLE = bronze.EVENTS


def _row(offset: int, partition: int = 0) -> dict[str, Any]:
    return {
        "topic_id": "T",
        "partition": partition,
        "offset": offset,
        "broker_time": WHEN,
        "schema_id": None,
        "record_bytes": 6,
        "payload_digest": b"d",
        "sealed": b"secret-%d-%d" % (partition, offset),
        "sealing_key": "k",
        "ingested_at": WHEN,
        "ingest_date": date(2026, 3, 1 + offset % 2),
        "repairs": None,
    }


def _rows(root: str) -> list[dict[str, Any]]:
    found = DeltaTable(TABLE.path(root)).to_pyarrow_table().to_pylist()
    return sorted(found, key=lambda row: (row["partition"], row["offset"]))


def _made(root: str, *parts: range) -> None:
    for part in parts:
        delta.append(root, TABLE, [_row(offset, partition) for offset in part for partition in (0, 1)])


@settings(max_examples=6)
@given(gone=st.sets(st.integers(0, 11), min_size=1), joined=st.booleans())
def test_only_what_was_sealed_of_the_named_records_is_gone(
    tmp_path_factory: pytest.TempPathFactory, gone: set[int], joined: bool
) -> None:
    root = str(tmp_path_factory.mktemp("lake"))
    _made(root, range(4), range(4, 8), range(8, 12))
    if joined:
        DeltaTable(TABLE.path(root)).optimize.compact()
    before, offsets = _rows(root), sorted(gone)
    assert purging.emptied(root, TABLE, SOURCE, offsets, "e") == len(gone)
    purging.removed(root, TABLE, SOURCE, offsets)
    assert _rows(root) == [
        {**row, "sealed": b""} if row["partition"] == 0 and row["offset"] in gone else row for row in before
    ]
    assert purging.emptied(root, TABLE, SOURCE, offsets, "e") == purging.left(root, TABLE, SOURCE, offsets) == 0
    mark = high_water.held(root, TABLE)
    assert mark is not None
    assert (mark.version, mark.rows) == (DeltaTable(TABLE.path(root)).version(), 24)
    held = {value for path in Path(root).rglob("*.parquet") for value in pq.read_table(path)["sealed"].to_pylist()}
    assert held & {b"secret-0-%d" % offset for offset in gone} == set()


def test_versions_from_before_are_refused_and_those_from_behind_are_not(tmp_path: Path) -> None:
    root = str(tmp_path)
    _made(root, range(4))
    purging.emptied(root, TABLE, SOURCE, [1], "e")
    _made(root, range(4, 6))
    reader = delta.opened(root, TABLE)
    with pytest.raises(RangeMissing, match=r"version 1: .* in version 2, .* Read version 2 or a later one"):
        purged.refuse_before(reader, TABLE, 1)
    for version in (2, 3):
        purged.refuse_before(reader, TABLE, version)


def test_files_that_nobody_can_look_into_are_named(tmp_path: Path) -> None:
    root = str(tmp_path)
    _made(root, range(4))
    assert list(purging.out_of_reach(root, TABLE)) == []
    Path(TABLE.path(root), "part-torn.parquet").write_bytes(b"PAR1 and no end")
    aside = Path(root, "_damaged", TABLE.name, "20260301T000000.000000Z")
    aside.mkdir(parents=True)
    (aside / "part-old.parquet").write_bytes(b"")
    assert [place for place, _ in purging.out_of_reach(root, TABLE)] == [
        "bronze.events, unfinished files",
        "_damaged/bronze.events",
    ]
    assert purging.removed(root, TABLE, SOURCE, [0]) == 0


def test_what_is_empty_without_being_named_is_not_taken_for_purged(tmp_path: Path) -> None:
    root, span = str(tmp_path), Span("T", 0, 0, 4)
    _made(root, range(4))
    assert purging.empty(root, span) == []
    purging.emptied(root, TABLE, SOURCE, [1, 2], "e")
    assert purging.empty(root, span) == []
    purging.entered(root, "T", 0, "e", {TABLE.name: [2, 3]}, WHEN)
    assert purging.empty(root, span) == [2]
    assert purging.everywhere(root, "T", TABLE.name) == {(0, 2), (0, 3)}
