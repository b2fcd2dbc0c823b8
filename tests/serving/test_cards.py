"""GET /v1/cards/{token}/decisions of a running API, and single decisions that its memory no longer has."""

import os
import signal
import subprocess
import time
import uuid

import pytest

from deploy.local.apart import free_ports
from lakehouse import broker as log_broker
from lakehouse import topics
from tests.calling import call, payment
from tests.lakehouse.records import raw
from tests.serving.decided import Card, Server, variables, with_store
from tests.serving.running import decided, metric, serving, until


@pytest.fixture
def card():
    return Card(uuid.uuid4().hex)


@pytest.fixture
def world(settings, broker):
    """A fresh world with topics and a free port for its API."""
    (port,) = free_ports(1)
    topics.ensure(settings)
    return settings.model_copy(update={"api": settings.api.model_copy(update={"port": port})})


def environment(settings, **more):
    return {**variables(settings), **more}


def page(settings, card, query=""):
    return call(settings, "GET", f"/v1/cards/{card.token}/decisions{query}")


def answered(settings, transaction_id, outcome):
    log = log_broker.producer(settings)
    record = raw("answer", transaction_id=transaction_id, outcome=outcome)
    log.produce(topics.topic_name(settings, topics.EVENTS), record, partition=0)
    assert log.flush(10) == 0


def test_a_cards_decisions_page_by_page(world, card, tmp_path):
    decided(world, *(card.fields(n) for n in range(5)), card.fields(5, card_token="v1:another", event_time=2**62))
    answered(world, f"{card.token}/4", "decline")
    with serving(world, tmp_path / "api.log", environment(world)):
        status, found = until(lambda: (got := page(world, card, "?limit=2"))[1].get("behind") == 0 and got)
        assert status == 200
        first = found["decisions"][0]
        assert first == {
            "decision_id": f"{card.topic}/4",
            "transaction_id": f"{card.token}/4",
            "event_time": "2025-01-06T07:59:59Z",
            "decided_at": "2025-01-06T08:00:00.005000Z",
            "outcome": "decline",
            "decided_outcome": "approve",
            "challenge": None,
            "degraded": True,
            "risk": "low",
            "score": 0.25,
            "rung": "full",
            "rejected_by": [],
            "merchant_id": "M-1",
            "amount_base_minor": None,
            "model_digest": None,
            "control_digest": "cd" * 32,
            "position": {"topic_id": card.topic, "partition": 0, "offset": 4},
        }
        shown = [one["position"]["offset"] for one in found["decisions"]]
        while found["next"]:
            _, found = page(world, card, f"?limit=2&before={found['next']}")
            shown += [one["position"]["offset"] for one in found["decisions"]]
        assert shown == [4, 3, 2, 1, 0]

        status, found = call(world, "GET", "/v1/cards/v1:nobody/decisions")
        assert (status, found["decisions"], found["next"]) == (200, [], None)
        status, found = call(world, "GET", "/v1/cards/v1:another/decisions")
        assert (status, found["decisions"][0]["event_time"]) == (200, None)
        assert call(world, "GET", f"/v1/cards/{card.token}/decisions", key=None)[0] == 401

        refused = [
            page(world, card, query) for query in ("?limit=0", "?limit=101", "?limit=x", "?before=4000000000000002")
        ]
        assert [status for status, _ in refused] == [422] * 4
        assert [problem["title"] for _, problem in refused] == [
            *["A part of the address is wrong"] * 3,
            "before is not a cursor",
        ]
        assert "4000000000000002" not in str(refused)
        paths = call(world, "GET", "/openapi.json")[1]["paths"]
        assert set(paths["/v1/cards/{token}/decisions"]["get"]["responses"]) >= {"200", "401", "403", "422", "503"}
        assert set(paths["/v1/decisions/{id}"]["get"]["responses"]) >= {"200", "401", "403", "404", "503"}


def test_a_decision_that_memory_no_longer_has_is_found_in_the_store(world, card, tmp_path):
    decided(world, *(card.fields(n, transaction_id=f"t{n}", decision_id=f"d{n}") for n in range(20)))
    answered(world, "t3", "decline")
    with serving(world, tmp_path / "api.log", environment(world, FRAUDLAKE__API__INDEX_RECORDS="5")):
        until(lambda: page(world, card)[1].get("behind") == 0)
        status, old = call(world, "GET", "/v1/decisions/t3")
        assert (status, old["outcome"], old["decided_outcome"], old["degraded"]) == (200, "decline", "approve", True)
        assert old["position"] == {"topic_id": card.topic, "partition": 0, "offset": 3}
        assert call(world, "GET", "/v1/decisions/d3")[1] == old
        _, recent = call(world, "GET", "/v1/decisions/t19")
        assert set(recent) == set(old)
        for unknown in ("t20", "x" * 65, "a%00b"):
            status, problem = call(world, "GET", f"/v1/decisions/{unknown}")
            assert (status, problem["title"]) == (404, "No such decision")


def test_postgres_hangs_dies_and_comes_back_while_deciding_goes_on(world, card, postgres_server, tmp_path):
    server, log = Server("postgres"), tmp_path / "api.log"
    settings = with_store(world, kind="postgres")
    decided(settings, card.fields(0))
    with serving(settings, log, environment(settings, FRAUDLAKE__DECISION_STORE__READ_TIMEOUT_MS="500")):
        until(lambda: len(page(settings, card)[1].get("decisions", [])) == 1)

        found = subprocess.run(["pgrep", "-P", str(server.service.pid())], capture_output=True, text=True, check=True)
        family = [server.service.pid(), *map(int, found.stdout.split())]
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        try:
            # More questions than threads that read: nothing else waits behind them.
            for _ in range(10):
                status, problem = page(settings, card)
                assert (status, problem["title"]) == (503, "Stored decisions cannot be read")
            assert "did not answer within 0.5 s" in problem["detail"]
            began = time.monotonic()
            assert call(settings, "POST", "/v1/decisions", payment("while-it-hangs"))[0] == 200
            assert call(settings, "GET", f"/v1/entities/card/{card.token}")[0] == 404
            assert time.monotonic() - began < 2
        finally:
            for pid in family:
                os.kill(pid, signal.SIGCONT)
        until(lambda: page(settings, card)[0] == 200)

        server.stop()
        decided(settings, card.fields(1))
        status, made = call(settings, "POST", "/v1/decisions", payment("while-it-is-away"))
        assert (status, made["outcome"]) == (200, "review")
        decided(settings, card.fields(2, transaction_id="while-it-is-away"))
        status, problem = page(settings, card)
        assert (status, problem["title"]) == (503, "Stored decisions cannot be read")
        assert f"PostgreSQL at 127.0.0.1:{settings.postgres.port} does not answer" in problem["detail"]
        assert "make up WITH=postgres" in problem["detail"]
        assert call(settings, "GET", "/v1/decisions/unknown")[0] == 503
        assert call(settings, "GET", "/v1/decisions/while-it-is-away")[0] == 200
        assert call(settings, "GET", "/health/ready", key=None)[0] == 200
        until(lambda: "decisions are not stored, deciding goes on" in log.read_text())
        until(lambda: metric(settings, 'fraudlake_decision_store_lag{topic="decisions"}') == 2)
        assert metric(settings, 'fraudlake_decision_store_failures_total{call="read"}') >= 12

        server.start()
        until(lambda: len(page(settings, card)[1].get("decisions", [])) == 3)
        found = until(lambda: (got := page(settings, card)[1])["behind"] == 0 and got)
        assert [one["outcome"] for one in found["decisions"]] == ["review", "approve", "approve"]
        assert [one["degraded"] for one in found["decisions"]] == [True, False, False]
        until(lambda: "decisions are stored again" in log.read_text())
        until(lambda: metric(settings, 'fraudlake_decision_store_lag{topic="decisions"}') == 0)
    said = log.read_text()
    assert settings.postgres.password_file.read_text() not in said
    assert "Traceback" not in said
