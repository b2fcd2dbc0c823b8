"""A batch that failed and an interval that is judged anew leave nothing of the first attempt behind."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable

import bronze.job
import silver.job
from features.bases import refuse_holes
from lakehouse import delta, storage, topics
from lakehouse.contracts import bronze as bronze_tables
from lakehouse.contracts import silver as tables
from lakehouse.errors import BalanceBroken, RangeMissing
from lakehouse.jobs import Interval
from lakehouse.settings import Settings
from lakehouse.storage import Span
from silver.balance import reconciled
from silver.batch import EventBatch
from tests.conftest import NewContext
from tests.lakehouse.records import raw, raw_control, signed
from tests.silver.conftest import Sent, produce, rows


@pytest.fixture
def own_keys(settings: Settings, tmp_path: Path) -> Settings:
    """A world with a copy of the keys, so that whom it trusts can be changed."""
    folder = Path(shutil.copytree(settings.keys.folder, tmp_path / "keys"))
    return settings.model_copy(update={"keys": settings.keys.model_copy(update={"folder": folder})})


def test_a_failed_batch_and_a_changed_mind_leave_nothing_behind(
    broker: str, own_keys: Settings, context: NewContext
) -> None:
    settings = own_keys
    topics.ensure(settings)
    payments = [raw("payment", transaction_id=f"t{number}") for number in range(5)]
    reference = raw_control(signed(settings.keys.folder))
    produce(settings, topics.EVENTS, [Sent(value) for value in (reference, *payments, payments[0])])
    now = context(settings)
    bronze.job.run(now)
    for table in tables.TABLES:
        storage.ensure(now.root, table)

    # A record is lacking in bronze: nothing is written, and the next attempt of the same process judges from the start.
    span = Span(topics.identify(settings, topics.EVENTS).topic_id, 0, 0, 7)
    DeltaTable(bronze_tables.EVENTS.path(now.root)).delete("offset = 3")
    events = EventBatch(now)
    with pytest.raises(RangeMissing, match=r"bronze\.events holds 6 of the 7 .*--from-position 0 --to-position 7"):
        events.take(span)
    assert rows(now.root, tables.BALANCE) == rows(now.root, tables.PAYMENTS) == []
    bronze.job.run(context(settings, Interval(3, 4)))

    # Nobody is trusted: the reference tables are refused, and with them every payment.
    trusted = settings.keys.folder / "trusted.json"
    everybody = trusted.read_bytes()
    trusted.write_bytes(b"{}")
    events.take(span)
    assert [row["offset"] for row in rows(now.root, tables.QUARANTINE)] == list(range(7))
    with pytest.raises(RangeMissing, match=r"silver\.balance ends at offset 7"):
        silver.job.run(context(settings, Interval(0, 8)))

    # The interval judged anew: what was refused is accepted, and quarantine no longer holds it.
    trusted.write_bytes(everybody)
    silver.job.run(context(settings, Interval(0, 7)))
    assert [row["offset"] for row in rows(now.root, tables.CONTROL)] == [0]
    assert [row["offset"] for row in rows(now.root, tables.PAYMENTS)] == [1, 2, 3, 4, 5]
    assert [(row["offset"], row["first_offset"]) for row in rows(now.root, tables.DUPLICATES)] == [(6, 1)]
    assert rows(now.root, tables.QUARANTINE) == []
    (balance,) = rows(now.root, tables.BALANCE)
    assert (balance["received"], balance["accepted"], balance["quarantined"], balance["duplicates"]) == (7, 6, 0, 1)

    # An interval across the end of a batch: what it cuts off of that batch keeps a range of its own.
    produce(settings, topics.EVENTS, [Sent(raw("payment", transaction_id="t5"))])
    bronze.job.run(now)
    EventBatch(now).take(replace(span, start=7, end=8))
    EventBatch(context(settings, Interval(5, 8))).take(replace(span, start=5, end=8))
    names = ("start_offset", "offset", "received", "accepted", "quarantined", "duplicates")
    ranges = rows(now.root, tables.BALANCE)
    assert [tuple(row[name] for name in names) for row in ranges] == [(0, 4, 5, 5, 0, 0), (5, 7, 3, 2, 0, 1)]
    assert ranges[0]["run"] == balance["run"]
    assert ranges[0]["engine_clock"] == balance["engine_clock"]
    refuse_holes(now.root, replace(span, end=8))

    # A row that lies where no record is of its kind goes with the interval.
    (control,) = rows(now.root, tables.CONTROL)
    delta.append(now.root, tables.CONTROL, [{**control, "offset": 3}])
    with pytest.raises(
        BalanceBroken, match=r"1 offsets from 3 on lie in two places.*--from-position 3 --to-position 4"
    ):
        reconciled(now.root, replace(span, end=8))
    EventBatch(context(settings, Interval(3, 4))).take(replace(span, start=3, end=4))
    assert [row["offset"] for row in rows(now.root, tables.CONTROL)] == [0]
    reconciled(now.root, replace(span, end=8))
