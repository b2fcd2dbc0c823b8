"""GET /v1/entities of a running API: decisions on the topic in, profiles out, with Redis there, away and back."""

import json

import pytest

from deploy.local.apart import free_ports
from lakehouse import topics
from lakehouse.errors import StoreUnavailable
from lakehouse.passwords import make_password
from serving.entities import profile
from tests.calling import call, payment
from tests.serving.profiled import CARD, fields, own_redis, variables
from tests.serving.running import decided, metric, serving, until


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
    with serving(world, tmp_path / "api.log", variables(world)):
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


def test_redis_is_away_at_the_start_comes_dies_and_comes_back(world, tmp_path):
    log = tmp_path / "api.log"
    with own_redis(world, tmp_path) as (settings, server):
        make_password(settings.redis.password_file)
        decided(settings, fields(7))
        with serving(settings, log, variables(settings)) as api:
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
