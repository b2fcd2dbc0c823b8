"""An API whose engine or broker is away: it answers by its ladder, keeps every payment, approves none by accident."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from deploy.local import job as services
from deploy.local import kafka
from deploy.local.apart import free_ports
from deploy.local.process import Service, port_answers
from lakehouse import broker, topics
from lakehouse import settings as conf
from lakehouse.registry import registry
from lakehouse.single import read
from tests.calling import call, payment
from tests.lakehouse.records import REFERENCE, raw_control, signed
from tests.serving.running import decided, metric, until

NOW_MS = int(time.time() * 1000)
AGAIN = {"amount_minor": 40_000, "event_time": datetime.now(UTC).isoformat()}
"""A payment that is sent more than once."""


@contextmanager
def serving(settings):
    """An API over the broker of these settings."""
    with subprocess.Popen([sys.executable, "-m", "serving.job"], cwd=conf.home(), env=os.environ.copy()) as process:
        until(lambda: process.poll() is not None or port_answers(settings.api.port), 60)
        assert process.poll() is None
        try:
            yield process
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def alone(state_folder, tmp_path_factory):
    """Settings of a broker of its own with a reference table on the log and no engine."""
    ports = dict(zip(("kafka", "controller", "api"), free_ports(3), strict=True))
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAUDLAKE__STATE_DIR", str(folder))
        patch.setenv("FRAUDLAKE__SERVICES__KAFKA_PORT", str(ports["kafka"]))
        patch.setenv("FRAUDLAKE__SERVICES__KAFKA_CONTROLLER_PORT", str(ports["controller"]))
        patch.setenv("FRAUDLAKE__KAFKA__BOOTSTRAP_SERVERS", f"127.0.0.1:{ports['kafka']}")
        patch.setenv("FRAUDLAKE__API__PORT", str(ports["api"]))
        patch.setenv("FRAUDLAKE__SPOOL__FOLDER", str(folder / "spool"))
        patch.setenv("FRAUDLAKE__SPOOL__SIZE_MB", "1")
        patch.setenv("FRAUDLAKE__LAKE__ROOT", str(folder / "lake"))
        patch.setenv("FRAUDLAKE__DECISION_STORE__FILE", str(folder / "decisions.sqlite"))
        settings = conf.load()
        services.up(settings, (kafka,))
        topics.ensure(settings)
        log = broker.producer(settings)
        reference = raw_control(signed(conf.resolve(settings.keys.folder), payload=REFERENCE), NOW_MS)
        log.produce(topics.topic_name(settings, topics.EVENTS), reference, partition=0)
        assert log.flush(10) == 0
        yield settings
        Service(kafka.NAME, services.services_folder(settings)).stop()


def events(settings):
    """(kind, fields) of everything on topic events but control."""
    name = topics.topic_name(settings, topics.EVENTS)
    _, end = broker.watermarks(settings, name, 0)
    by_id = registry().by_id()
    values = [message.value() for message in broker.read_range(settings, name, 0, 0, end)]
    found = [(by_id[int.from_bytes(value[1:5], "big")], value) for value in values]
    return [(schema.kind, read(schema, value)) for schema, value in found if schema.kind != "control"]


def answered(settings, name, **changes):
    status, answer = call(settings, "POST", "/v1/decisions", payment(name, **changes))
    assert (status, answer["degraded"], answer["decision_id"]) == (200, True, None)
    return answer["outcome"], answer["rung"]


def spooled(settings):
    return metric(settings, "fraudlake_spool_records")


def test_engine_and_broker_go_and_every_payment_keeps_the_one_answer_that_it_was_given(alone):
    with serving(alone) as api:
        # The engine is late: by amount and channel.
        until(lambda: answered(alone, f"late-{time.monotonic()}") == ("approve", "static_policy"))
        assert answered(alone, "late-much", amount_minor=3001) == ("challenge", "static_policy")
        assert answered(alone, "late-more", amount_minor=50_001) == ("review", "static_policy")
        assert answered(alone, "late-dollars", currency="CHF") == ("review", "static_policy")
        assert answered(alone, "late-bad-card", card_number="4000000000000003") == ("review", "static_policy")
        before = events(alone)
        assert [kind for kind, _ in before] == ["payment", "answer"] * (len(before) // 2)
        assert before[-1][1]["reason"] == "decision_late:static_policy"

        Service(kafka.NAME, services.services_folder(alone)).stop()
        first = answered(alone, "away-0")
        assert first == ("approve", "static_policy")
        began = time.monotonic()
        assert answered(alone, "away-1", **AGAIN) == ("challenge", "static_policy")
        assert time.monotonic() - began < 1
        assert answered(alone, "away-1", **AGAIN) == ("challenge", "static_policy")
        status, problem = call(alone, "POST", "/v1/decisions", payment("away-1", **{**AGAIN, "amount_minor": 1}))
        assert (status, problem["title"]) == (409, "Another payment has this transaction_id")
        assert spooled(alone) == 2
        assert metric(alone, "fraudlake_spool_bytes") > 0
        assert metric(alone, "fraudlake_spool_age_seconds") > 0
        sealed = b"".join(path.read_bytes() for path in alone.spool.folder.rglob("*.spool"))
        assert b"4000000000000002" not in sealed
        assert b"away-1" not in sealed
        api.kill()
        api.wait()

    services.up(alone, (kafka,))
    with serving(alone):
        assert answered(alone, "away-1", **AGAIN) == ("challenge", "static_policy")
        until(lambda: spooled(alone) == 0)
        after = events(alone)[len(before) :]
        answers = {one["transaction_id"]: one["outcome"] for kind, one in reversed(after) if kind == "answer"}
        assert answers == {"away-0": "approve", "away-1": "challenge"}
        payments = Counter(one["transaction_id"] for kind, one in after if kind == "payment")
        assert set(payments) == {"away-0", "away-1"}
        assert not list(alone.spool.folder.rglob("*.spool"))


def test_a_full_spool_decides_nothing_and_the_caller_is_told(alone):
    with serving(alone):
        Service(kafka.NAME, services.services_folder(alone)).stop()
        much = {"billing_address": "x" * 250, "shipping_address": "y" * 250, "customer_email": "z" * 250}
        status = 200
        for number in range(2000):
            status, problem = call(alone, "POST", "/v1/decisions", payment(f"full-{number}", **much))
            if status != 200:
                break
        assert (status, problem["title"]) == (503, "The payment could not be written")
        assert "4000000000000002" not in json.dumps(problem)
        kept = spooled(alone)
        assert kept == number
        assert metric(alone, "fraudlake_spool_refused_total") == 1
        assert metric(alone, "fraudlake_spool_bytes") <= 1 << 20
        services.up(alone, (kafka,))
        until(lambda: spooled(alone) == 0)
        assert answered(alone, "full-and-back")[1] == "static_policy"
        assert metric(alone, "fraudlake_spool_drained_total") == kept


def test_a_repeat_while_the_broker_is_away_keeps_the_decision_that_only_the_store_still_knows(alone, monkeypatch):
    services.up(alone, (kafka,))
    monkeypatch.setenv("FRAUDLAKE__API__INDEX_RECORDS", "2")
    decided(alone, *({"offset": n, "transaction_id": f"old-{n}", "outcome": "decline"} for n in range(5)))
    with serving(alone):
        until(lambda: call(alone, "GET", "/v1/decisions/old-0")[0] == 200)
        until(lambda: spooled(alone) == 0)
        Service(kafka.NAME, services.services_folder(alone)).stop()
        assert answered(alone, "new-0")[1] == "static_policy"
        status, answer = call(alone, "POST", "/v1/decisions", payment("old-0"))
        assert (status, answer["outcome"], answer["degraded"]) == (200, "decline", False)
        assert spooled(alone) == 1


def test_an_api_that_finds_no_broker_at_its_start_says_so_in_one_sentence(alone):
    Service(kafka.NAME, services.services_folder(alone)).stop()
    (port,) = free_ports(1)
    env = {**os.environ, "FRAUDLAKE__API__PORT": str(port), "FRAUDLAKE__KAFKA__REQUEST_TIMEOUT_S": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "serving.job"], cwd=conf.home(), env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 1
    assert "BrokerUnavailable" in done.stderr
    assert "Traceback" not in done.stderr
