"""Decisions go on counting when bronze no longer keeps the start record of the engine that makes them."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lakehouse import delta, keys, storage
from lakehouse.contracts import bronze, silver
from lakehouse.errors import ContractBroken
from lakehouse.jobs import Context
from lakehouse.settings import Settings
from lakehouse.storage import Span
from silver.emitted import EMITTED, Emitted, EmittedBatch
from tests.conftest import NewContext
from tests.lakehouse.records import raw
from tests.silver.sealed import in_bronze

NOW = datetime(2026, 3, 1, tzinfo=UTC)
Lake = Callable[..., Context]


def _decision(source: int, epoch: int) -> bytes:
    return raw("decision", offset=source, epoch=epoch, transaction_id=f"t{source}")


START = raw("engine_start")


@pytest.fixture
def lake(settings: Settings, context: NewContext) -> Lake:
    """Makes a lake whose bronze.decisions holds some records, from offset 0 on, and whose silver has its tables."""

    def made(*values: bytes) -> Context:
        now = context(settings)
        for table in (bronze.DECISIONS, silver.DECISIONS):
            storage.ensure(now.root, table)
        rows = pa.Table.from_batches([in_bronze(keys.source(settings), list(values), NOW, NOW)])
        storage.append_once(rows, now.root, bronze.DECISIONS, [Span("T", 0, 0, len(values))])
        return now

    return made


def _take(context: Context, *bounds: int) -> list[tuple[int, int]]:
    """One job takes ranges that follow each other; what silver then holds, as (decision's own offset, payment's)."""
    batch = EmittedBatch(context, EMITTED[0])
    for start, end in pairwise(bounds):
        batch.take(Span("T", 0, start, end))
    rows = delta.rows(context.root, silver.DECISIONS, ["decision_offset", "offset"]).to_pylist()
    return sorted((row["decision_offset"], row["offset"]) for row in rows)


def _expire(context: Context, offset: int) -> None:
    DeltaTable(bronze.DECISIONS.path(context.root)).delete(f"offset < {offset}")
    delta.followed(context.root, bronze.DECISIONS)


def test_an_engine_whose_start_record_expired_goes_on_deciding(lake: Lake) -> None:
    now = lake(START, *(_decision(source, 0) for source in range(4)))
    assert _take(now, 0, 3) == [(1, 0), (2, 1)]
    _expire(now, 2)
    assert _take(now, 3, 5) == [(1, 0), (2, 1), (3, 2), (4, 3)]
    assert storage.written_ends(now.root, silver.DECISIONS) == {"T/0": 5}


def test_decisions_before_the_first_start_that_is_left_count(lake: Lake) -> None:
    now = lake(START, _decision(0, 0), _decision(1, 0), START, _decision(2, 3))
    _expire(now, 1)
    assert _take(now, 1, 5) == [(1, 0), (2, 1), (4, 2)]


@pytest.mark.parametrize("bounds", [(2, 7), (2, 4, 7)])
def test_an_engine_that_was_taken_over_from_stays_out_of_office_without_any_start_record(
    lake: Lake, bounds: tuple[int, ...]
) -> None:
    now = lake(START, START, _decision(0, 1), _decision(1, 1), _decision(2, 0), _decision(3, 0), _decision(2, 1))
    _expire(now, 2)
    assert _take(now, *bounds) == [(2, 0), (3, 1), (6, 2)]


def test_silver_passes_over_a_range_that_bronze_lacks_for_good_and_the_engine_that_began_in_it_counts(
    lake: Lake,
) -> None:
    now = lake(
        *(START, _decision(0, 0), _decision(1, 0)),
        *(START, _decision(1, 3)),
        *(_decision(2, 3), _decision(2, 0), _decision(3, 3)),
    )
    DeltaTable(bronze.DECISIONS.path(now.root)).delete("offset >= 3 AND offset < 5")
    delta.followed(now.root, bronze.DECISIONS)
    assert _take(now, 0, 3, 5, 8) == [(1, 0), (2, 1), (5, 2), (7, 3)]
    assert storage.written_ends(now.root, silver.DECISIONS) == {"T/0": 8}


def test_an_epoch_at_which_bronze_has_another_record_proves_nothing(lake: Lake) -> None:
    now = lake(START, _decision(0, 0), _decision(1, 1), _decision(1, 7), _decision(1, 0))
    _expire(now, 1)
    assert _take(now, 1, 5) == [(1, 0), (4, 1)]


UNKNOWN = b"\0\0\0\x03\xe7a later release's"


@pytest.mark.parametrize("emitted", EMITTED, ids=["decisions", "shadow"])
def test_a_record_of_a_schema_that_this_release_does_not_know_stops_the_job(lake: Lake, emitted: Emitted) -> None:
    now = lake(START, UNKNOWN, b"of nobody", _decision(0, 0))
    rows = delta.rows(now.root, bronze.DECISIONS, list(bronze.DECISIONS.column_names))
    storage.ensure(now.root, emitted.target)
    if emitted.source != bronze.DECISIONS:
        storage.ensure(now.root, emitted.source)
        storage.append_once(rows, now.root, emitted.source, [Span("T", 0, 0, 4)])
    said = rf"offset 1 of {emitted.source.name} has schema id 999, which .* nothing was written.* run silver\.job again"
    with pytest.raises(ContractBroken, match=said):
        EmittedBatch(now, emitted).take(Span("T", 0, 0, 4))
    assert storage.written_ends(now.root, emitted.target) == {}
    EmittedBatch(now, emitted).take(Span("T", 0, 2, 4))
    assert storage.written_ends(now.root, emitted.target) == {"T/0": 4}
