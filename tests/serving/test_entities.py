"""GET /v1/entities of a running API: decisions on the topic in, profiles out, with Redis there, away and back."""

import http.client
import json
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from deploy.local.apart import free_ports
from deploy.local.process import port_answers
from lakehouse import broker as log_broker
from lakehouse import settings as conf
from lakehouse import topics
from lakehouse.errors import StoreUnavailable
from lakehouse.passwords import make_password
from serving.entities import profile
from tests.calling import call, payment
from tests.lakehouse.records import raw
from tests.serving.profiled import CARD, fields, own_redis, variables


def until(condition, timeout_s=30):
    """What the condition gives, once it gives something."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def decided(settings, *decisions):
    """Put decisions on the topic, as an engine would."""
    log = log_broker.producer(settings)
    for one in decisions:
        log.produce(topics.topic_name(settings, topics.DECISIONS), raw("decision", **one), partition=0)
    assert log.flush(10) == 0


@contextmanager
def serving(settings, log):
    """An API over the world of these settings, and its process; ready at the end of the topic."""
    environment = {
        **variables(settings),
        "FRAUDLAKE__KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "FRAUDLAKE__PROFILES__STALE_AFTER_S": "2",
        "FRAUDLAKE__API__PORT": str(settings.api.port),
        "FRAUDLAKE__LOG__LEVEL": "info",
    }
    with (
        log.open("ab") as out,
        subprocess.Popen(
            [sys.executable, "-m", "serving.job"], cwd=conf.home(), env=environment, stderr=out
        ) as process,
    ):
        try:
            until(lambda: process.poll() is not None or port_answers(settings.api.port), 60)
            until(lambda: call(settings, "GET", "/health/ready", key=None)[0] == 200)
            yield process
        finally:
            process.terminate()


@pytest.fixture
def world(settings, broker):
    """A fresh world with topics and a free port for its API."""
    (port,) = free_ports(1)
    topics.ensure(settings)
    return settings.model_copy(update={"api": settings.api.model_copy(update={"port": port})})


def card(settings, token=CARD):
    return call(settings, "GET", f"/v1/entities/card/{token}")


def test_profiles_in_the_memory_of_an_api(world, tmp_path):
    decided(world, fields(7, ago_s=1, merchant_id="shop/M 1"), fields(8, ago_s=301, card_token="v1:long-ago"))
    with serving(world, tmp_path / "api.log"):
        status, found = until(lambda: (answer := card(world))[1].get("status") == "fresh" and answer)
        assert status == 200
        assert {
            "kind",
            "status",
            "reason",
            "age_s",
            "as_of",
            "transaction_id",
            "position",
            "feature_set",
            "values",
        } == (set(found))
        assert (found["kind"], found["transaction_id"], found["as_of"]) == ("card", "t7", "2025-01-06T07:59:59Z")
        assert found["position"] == {"topic_id": "T", "partition": 0, "offset": 7}
        assert (found["values"]["card_tx_count_1h"], found["values"]["card_tx_count_5m"]) == (3.0, None)
        assert 1 <= found["age_s"] < 60
        status, shop = call(world, "GET", "/v1/entities/merchant/shop%2FM%201")
        assert (status, shop["values"]["merchant_tx_count_1h"]) == (200, 40.0)

        status, problem = card(world, "v1:long-ago")
        assert (status, problem["title"]) == (404, "No profile")
        assert problem["detail"] == "No payment of this card was decided in the last 300 s; profiles are kept so long."
        status, problem = call(world, "GET", "/v1/entities/terminal/4000000000000002")
        assert (status, problem["detail"]) == (404, "There are card, customer, merchant, device, ip.")
        assert "4000000000000002" not in json.dumps([problem, card(world, "4000000000000002")])
        assert call(world, "GET", f"/v1/entities/card/{CARD}", key=None)[0] == 401

        path = call(world, "GET", "/openapi.json")[1]["paths"]["/v1/entities/{kind}/{token}"]["get"]
        assert set(path["responses"]) >= {"200", "401", "403", "404", "503"}
        assert path["parameters"][0]["schema"]["enum"] == ["card", "customer", "merchant", "device", "ip"]


def metric(settings, name):
    """The value of a metric of the API."""
    connection = http.client.HTTPConnection("127.0.0.1", settings.api.port, timeout=5)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return float(next(line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(name)))


def test_redis_is_away_at_the_start_comes_dies_and_comes_back(world, tmp_path):
    log = tmp_path / "api.log"
    with own_redis(world, tmp_path) as (settings, server):
        make_password(settings.redis.password_file)
        decided(settings, fields(7))
        with serving(settings, log) as api:
            status, problem = card(settings)
            assert (status, problem["title"]) == (503, "Profiles cannot be read")
            assert f"Redis at 127.0.0.1:{settings.redis.port} does not answer" in problem["detail"]
            assert "make up WITH=redis" in problem["detail"]
            until(lambda: "profiles are not written" in log.read_text())
            server.start()
            until(lambda: card(settings)[1]["status"] == "fresh" and "profiles are written again" in log.read_text())

            server.stop()
            decided(settings, fields(8))
            until(lambda: call(settings, "GET", "/v1/decisions/t8")[0] == 200)
            status, answer = call(settings, "POST", "/v1/decisions", payment("while-redis-is-away"))
            assert (status, answer["outcome"]) == (200, "review")
            assert card(settings)[0] == 503
            assert call(settings, "GET", "/health/ready", key=None)[0] == 200
            until(lambda: "profiles are not written" in log.read_text().split("profiles are written again")[1])
            assert metric(settings, 'fraudlake_profile_store_failures_total{call="write"}') >= 2
            assert metric(settings, 'fraudlake_profile_store_failures_total{call="read"}') >= 2

            server.start()
            until(lambda: card(settings)[1].get("transaction_id") == "t8")
            assert profile(settings, "card", CARD).transaction_id == "t8"
            until(lambda: log.read_text().count("profiles are written again") == 2)
            decided(settings, fields(9))
            until(lambda: profile(settings, "card", CARD).status == "fresh")

            # Nobody writes any more: what is there does not pass for the last payment.
            api.kill()
            api.wait()
            stale = until(lambda: (one := profile(settings, "card", CARD)).status == "stale" and one)
            assert "profiles have not been complete for" in stale.reason
        server.stop()
        with pytest.raises(StoreUnavailable):
            profile(settings, "card", CARD)
        said = log.read_text()
        assert said.count("profiles are not written, decisions go on") == 2
        assert settings.redis.password_file.read_text() not in said
        assert "Traceback" not in said
