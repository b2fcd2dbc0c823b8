"""Both ways to deliver decisions under SIGKILL: none is lost, none is seen twice, holes on the topic stop no reader."""

import os
import subprocess
import sys
import time
from collections import Counter

import orjson
import pytest

import bronze.job
from decisions import control
from decisions.job import Process
from decisions.reasons import as_text, found, why
from lakehouse import broker as log
from lakehouse import settings as conf
from lakehouse import topics
from lakehouse.contracts import bronze as tables
from lakehouse.crash import VARIABLE
from lakehouse.errors import EngineFenced
from simulator.options import Options
from simulator.world import days, world
from tests.crash.conftest import DAY_MS, activate_reference, positions
from tests.decisions import models
from tests.integration import deciding
from tests.silver.conftest import Sent, produce

PAYMENTS = 2_000
BATCH = 100
KILLS = ("after-produce:3", "after-produce:6")
"""Right after a batch was handed to the broker: in a transaction, before its commit."""


def _values(payments):
    options = Options(int(time.time() * 1000) - 3_600_000, days=2, payments_per_day=payments // 2, seed=7)
    return [value for day in days(world(options)) for value in day.records.payload.to_list()]


@pytest.fixture(params=["idempotent", "transactional"])
def delivered(request, broker, new_settings, tmp_path):
    """(settings, offsets that were to be decided): two engines were killed at their work, a third one finished it."""
    base = new_settings(tmp_path)
    engine = {"delivery": request.param, "batch_records": BATCH}
    settings = base.model_copy(update={"engine": base.engine.model_copy(update=engine)})
    topics.ensure(settings)
    folder = conf.resolve(settings.keys.folder)
    digest = models.stored(conf.resolve(settings.models.store), tmp_path / "scratch", folder)
    activate_reference(settings)
    long_ago = int(time.time() * 1000) - 10 * DAY_MS
    cuts = {"challenge": 0.02, "review": 0.1, "decline": 0.9}
    signers = folder / "author.pem", folder / "approver.pem"
    control.put_model(settings, digest, *signers, long_ago, here=True)
    control.activate(settings, "thresholds", orjson.dumps({"cuts": cuts}).decode(), *signers, long_ago)
    produce(settings, topics.EVENTS, [Sent(value) for value in _values(PAYMENTS)])
    for place in KILLS:
        assert _killed(settings, place) < 0
    _finish(settings)
    paid = [offset for offset, kind, _ in deciding.read(settings, topics.EVENTS) if kind == "payment"]
    assert len(paid) > 10 * BATCH, "work enough to be killed at"
    return settings, paid


def _killed(settings, place):
    """How an engine ended that a power cut meets at a place."""
    variables = {
        **os.environ,
        VARIABLE: place,
        "FRAUDLAKE__KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "FRAUDLAKE__MODELS__STORE": str(settings.models.store),
        "FRAUDLAKE__ENGINE__STATE_FOLDER": str(settings.engine.state_folder),
        "FRAUDLAKE__ENGINE__DELIVERY": settings.engine.delivery,
        "FRAUDLAKE__ENGINE__BATCH_RECORDS": str(BATCH),
    }
    return subprocess.run(
        [sys.executable, "-m", "decisions.job"],
        env=variables,
        cwd=conf.home(),
        timeout=120,
        start_new_session=True,
        check=False,
    ).returncode


def _finish(settings):
    """An engine decides what is left, and tells the reasons."""
    process = Process(settings)
    _, end = log.watermarks(settings, topics.topic_name(settings, topics.EVENTS), 0)
    try:
        process.take_office()
        while process.engine.state.place.next_offset < end or process.beside.busy:
            process.once()
        process.office.writer.flush()
    finally:
        process.close()
    return process


def test_no_decision_is_lost_and_none_is_seen_twice(delivered, context):
    settings, paid = delivered
    records = deciding.read(settings, topics.DECISIONS)
    kinds = Counter(kind for _, kind, _ in records)
    _, end = log.watermarks(settings, topics.topic_name(settings, topics.DECISIONS), 0)
    transactional = settings.engine.delivery == "transactional"
    assert (len(records) < end) == transactional, "transactions leave marks"
    assert kinds["engine_start"] == 3
    assert sorted(deciding.counted(settings)) == paid
    seen = [record["offset"] for _, kind, record in records if kind == "decision"]
    if transactional:
        assert len(seen) == len(set(seen)), "without any fence: what was not committed nobody reads"
    decided = {record["decision_id"]: record for record in deciding.counted(settings).values()}
    explained = {record["decision_id"]: record for _, kind, record in records if kind == "reasons"}
    assert len(explained) > 10
    assert all(decided[one]["outcome"] not in ("approve", "rejected") for one in explained)
    one, told = next(iter(explained.items()))
    said = why(settings, found(settings, "decision_id", one))
    assert (said["model_codes"], said["outcome"]) == (told["codes"], decided[one]["outcome"])
    assert said["families"]["velocity"]["score"] == pytest.approx(told["added_velocity"], abs=1e-6)
    assert as_text(said).startswith(f"{told['transaction_id']}: {said['outcome']}, score 0.")
    if transactional:
        _lands_whole(settings, context, [offset for offset, _, _ in records])


def _lands_whole(settings, context, offsets):
    """Bronze holds every record of the topic, and goes on behind holes."""
    lake = context(settings)
    bronze.job.run(lake)
    assert sorted(positions(lake.root, tables.DECISIONS)) == offsets
    first = len(offsets)
    produce(settings, topics.EVENTS, [Sent(value) for value in _values(300)])
    _finish(settings)
    bronze.job.run(lake)
    landed = sorted(positions(lake.root, tables.DECISIONS))
    assert landed == [offset for offset, _, _ in deciding.read(settings, topics.DECISIONS)]
    assert len(landed) > first


def test_an_engine_that_wakes_up_after_a_takeover_commits_nothing(broker, new_settings, tmp_path):
    base = new_settings(tmp_path)
    settings = base.model_copy(update={"engine": base.engine.model_copy(update={"delivery": "transactional"})})
    topics.ensure(settings)
    first, second = Process(settings), Process(settings)
    first.take_office()
    second.take_office()
    with pytest.raises(EngineFenced, match="Another engine writes this partition's transactions"):
        first.office.tell([(b"too late", b"key")])
    kinds = [kind for _, kind, _ in deciding.read(settings, topics.DECISIONS)]
    assert kinds == ["engine_start", "engine_start"]
    for process in (first, second):
        process.close()
