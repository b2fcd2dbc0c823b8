"""The parity audit: the engine's vectors are the lake's to the bit, and whoever touches silver is found out."""

import json
import shutil
import subprocess
import sys
from datetime import timedelta

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from features import parity
from lakehouse import settings as conf
from lakehouse import trail
from lakehouse.contracts import silver
from lakehouse.storage import Span, written_ends
from tests.calling import call, payment


@pytest.fixture(scope="module")
def span(history):
    """The history, in silver."""
    (key,) = written_ends(history.settings.lake.root, silver.BALANCE)
    topic_id, partition = key.rsplit("/", 1)
    return Span(topic_id, int(partition), 0, history.history_end)


@pytest.fixture(scope="module")
def replayed(history, span):
    """What the engine's driver makes of the history."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in history.environment().items():
            patch.setenv(name, value)
        return parity.replayed(history.settings, span, None)


def test_both_drivers_make_the_same_vectors_of_the_whole_history(history, span, replayed):
    report = parity.compared(replayed, parity.recomputed(history.context, span, None))
    assert report.described() == [f"{len(replayed.offset):,} payments x 226 features: 0 mismatches"]
    assert report.payments > 15_000


@pytest.fixture
def copied(history, context, tmp_path):
    """The context of a copy of the lake."""
    root = tmp_path / "lake"
    shutil.copytree(history.settings.lake.root, root)
    lake = history.settings.lake.model_copy(update={"root": str(root)})
    return context(history.settings.model_copy(update={"lake": lake}))


def a_telling_label(root, end):
    """(offset, first payment that sees it) of a label of the history that stands and whose merchant was paid soon."""
    history = pc.field("offset") < end
    labels = DeltaTable(silver.LABELS.path(root)).to_pyarrow_table().filter(history).sort_by("offset").to_pylist()
    payments = DeltaTable(silver.PAYMENTS.path(root)).to_pyarrow_table().filter(history).sort_by("offset").to_pylist()
    taken_back = {label["reverses"] for label in labels}
    for label in labels:
        if not label["is_fraud"] or label["label_id"] in taken_back:
            continue
        for paid in payments:
            age = paid["engine_clock"] - label["effective_at"]
            sees = paid["offset"] > label["offset"] and timedelta() < age < timedelta(days=6)
            if sees and paid["merchant_id"] == label["merchant_id"]:
                return label["offset"], paid["offset"]
    raise AssertionError("no label is ever seen")


def report_of(copied, span, replayed):
    return parity.compared(replayed, parity.recomputed(copied, span, None))


def test_an_altered_amount_is_found(copied, span, replayed):
    at = int(replayed.offset[len(replayed.offset) // 2])
    table = DeltaTable(silver.PAYMENTS.path(copied.root))
    table.update({"amount_base_minor": "amount_base_minor + 1"}, predicate=f"offset = {at}")
    found = report_of(copied, span, replayed)
    assert found.differing["amount_minor"] == (1, at)
    assert found.only_engine == found.only_lake == []


def test_a_dropped_label_is_found(copied, span, replayed):
    dropped, seen_by = a_telling_label(copied.root, span.end)
    DeltaTable(silver.LABELS.path(copied.root)).delete(f"offset = {dropped}")
    found = report_of(copied, span, replayed)
    assert "merchant_fraud_count_7d" in found.differing
    assert dropped < found.differing["merchant_fraud_count_7d"][1] <= seen_by


def test_two_swapped_payments_are_found(copied, span, replayed):
    one, other = (int(replayed.offset[len(replayed.offset) // 2 + k]) for k in (0, 1))
    table = DeltaTable(silver.PAYMENTS.path(copied.root))
    for before, after in ((one, -1), (other, one), (-1, other)):
        table.update({"offset": f"CAST({after} AS BIGINT)"}, predicate=f"offset = {before}")
    found = report_of(copied, span, replayed)
    assert found.differing["amount_minor"] == (2, one)


def test_a_dropped_payment_is_found(copied, span, replayed):
    at = int(replayed.offset[-1])
    DeltaTable(silver.PAYMENTS.path(copied.root)).delete(f"offset = {at}")
    assert report_of(copied, span, replayed).only_engine == [at]


def test_the_command_compares_what_the_engine_logged(history, engine, api):
    for number in range(3):
        status, _ = call(history.settings, "POST", "/v1/decisions", payment(f"equal-{number}"))
        assert status == 200
    history.run_lake()
    done = subprocess.run(
        [sys.executable, "-m", "features.parity"],
        env=history.environment(),
        cwd=conf.home(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["mismatches"] == 0
    assert found["payments"] >= 3
    told = [e for e in trail.entries(trail.place_of(history.settings)) if e.subject == "features.parity"][-2:]
    assert [(e.action, e.details.get("replay"), e.details.get("outcome")) for e in told] == [
        ("parity.began", False, None),
        ("parity.ended", None, "done"),
    ]


def test_a_replay_of_the_log_is_in_the_trail_with_its_positions(history, span, replayed):
    told = [e for e in trail.entries(trail.place_of(history.settings)) if e.subject == "decisions.vectors"]
    assert ("replay.began", span.start, span.end) in [
        (e.action, e.details.get("from_position"), e.details.get("to_position")) for e in told
    ]
    assert ("replay.ended", "done") in [(e.action, e.details.get("outcome")) for e in told]
