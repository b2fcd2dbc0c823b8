"""An API whose engine or broker is away: it says what it knows and never approves by accident."""

import json
import os
import subprocess
import sys
import time

import pytest

from deploy.local import job as services
from deploy.local import kafka
from deploy.local.apart import free_ports
from deploy.local.process import Service, port_answers
from lakehouse import broker, topics
from lakehouse import settings as conf
from lakehouse.registry import registry
from tests.calling import call, payment


@pytest.fixture(scope="module")
def alone(state_folder, tmp_path_factory):
    """Settings of an API with a broker of its own and no engine."""
    ports = dict(zip(("kafka", "controller", "api"), free_ports(3), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAUDLAKE__STATE_DIR", str(tmp_path_factory.mktemp("alone")))
        patch.setenv("FRAUDLAKE__SERVICES__KAFKA_PORT", str(ports["kafka"]))
        patch.setenv("FRAUDLAKE__SERVICES__KAFKA_CONTROLLER_PORT", str(ports["controller"]))
        patch.setenv("FRAUDLAKE__KAFKA__BOOTSTRAP_SERVERS", f"127.0.0.1:{ports['kafka']}")
        patch.setenv("FRAUDLAKE__API__PORT", str(ports["api"]))
        settings = conf.load()
        services.up(settings, (kafka,))
        topics.ensure(settings)
        with subprocess.Popen([sys.executable, "-m", "serving.job"], cwd=conf.home(), env=os.environ.copy()) as process:
            deadline = time.monotonic() + 60
            while not port_answers(settings.api.port):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield settings
            process.terminate()
        Service(kafka.NAME, services.services_folder(settings)).stop()


def test_without_a_decision_in_time_somebody_looks_at_it_and_the_answer_is_on_the_log(alone):
    began = time.monotonic()
    status, answer = call(alone, "POST", "/v1/decisions", payment("nobody-decides"))
    assert (status, answer["outcome"], answer["degraded"]) == (200, "review", True)
    assert time.monotonic() - began < 5
    name = topics.topic_name(alone, topics.EVENTS)
    deadline = time.monotonic() + 10
    while broker.watermarks(alone, name, 0)[1] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    values = [m.value() for m in broker.read_range(alone, name, 0, 0, 2)]
    kinds = {s.id: s.kind for s in registry().schemas}
    assert [kinds[int.from_bytes(value[1:5], "big")] for value in values] == ["payment", "answer"]


def test_without_a_broker_nothing_is_decided_and_the_caller_is_told(alone):
    Service(kafka.NAME, services.services_folder(alone)).stop()
    status, problem = call(alone, "POST", "/v1/decisions", payment("no-broker"))
    assert status == 503
    assert "4000000000000002" not in json.dumps(problem)


def test_an_api_that_finds_no_broker_at_its_start_says_so_in_one_sentence(alone):
    (port,) = free_ports(1)
    env = {**os.environ, "FRAUDLAKE__API__PORT": str(port), "FRAUDLAKE__KAFKA__REQUEST_TIMEOUT_S": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "serving.job"], cwd=conf.home(), env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 1
    assert "BrokerUnavailable" in done.stderr
    assert "Traceback" not in done.stderr
