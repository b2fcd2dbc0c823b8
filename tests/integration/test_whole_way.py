"""One payment through every layer to its decision, one bad record to quarantine, one label to a feature."""

import http.client
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import deciding
import numpy as np
import pytest
from conftest import send, wait_until
from deltalake import DeltaTable

from features.catalogue import FEATURES, NAMES
from lakehouse import settings as conf
from lakehouse.codec import Batch, slices
from lakehouse.contracts import bronze, gold, silver
from lakehouse.registry import registry
from lakehouse.texts import Texts
from tests.calling import call, payment


def rows(world, table, **where):
    found = DeltaTable(table.path(world.settings.lake.root)).to_pyarrow_table().to_pylist()
    return [row for row in found if all(row[name] == value for name, value in where.items())]


@pytest.fixture(scope="module")
def decided(history, engine, api):
    """The API's answer to one payment, then a bad record on the log, both taken into the lake."""
    status, answer = call(history.settings, "POST", "/v1/decisions", payment("whole-way-1"))
    assert status == 200, answer
    offset = send(history.settings, [b"\x00\x00\x00\x00\x63no such schema"]) - 1
    time.sleep(0.5)
    history.run_lake()
    return answer, offset


def test_a_payment_is_in_every_layer_under_its_position(history, decided):
    answer, _ = decided
    at = answer["position"]["offset"]
    assert not answer["degraded"]
    assert len(rows(history, bronze.EVENTS, offset=at)) == 1
    (in_silver,) = rows(history, silver.PAYMENTS, offset=at)
    assert in_silver["transaction_id"] == "whole-way-1"
    assert in_silver["card_token"].startswith("v1:")
    assert in_silver["amount_base_minor"] == 1999
    (vector,) = rows(history, gold.VECTORS, offset=at)
    (named,) = rows(history, gold.FEATURES, offset=at)
    assert named["amount_minor"] == 1999.0
    (score,) = rows(history, gold.SCORES, offset=at)
    (decision,) = rows(history, silver.DECISIONS, offset=at)
    assert decision["decision_id"] == answer["decision_id"]
    assert decision["outcome"] == answer["outcome"]
    assert score["score"] == decision["score"] == answer["score"]
    assert np.array(vector["vector"], np.float32).tobytes() == decision["vector"]
    (final,) = rows(history, gold.DECISIONS, offset=at)
    assert final["effective_outcome"] == answer["outcome"]


def test_a_bad_record_is_in_quarantine_with_its_reason_and_place(history, decided):
    _, offset = decided
    (refused,) = rows(history, silver.QUARANTINE, offset=offset)
    assert refused["reasons"] == ["unknown_schema_id"]
    assert refused["kind"] is None


def test_every_layer_of_the_history_adds_up(history, decided):
    for balance in rows(history, silver.BALANCE):
        assert balance["received"] == balance["accepted"] + balance["quarantined"] + balance["duplicates"]
    accepted = {row["transaction_id"] for row in rows(history, silver.PAYMENTS)}
    assert set(history.truth) <= accepted
    assert len(rows(history, gold.VECTORS)) == len(accepted) == len(rows(history, gold.FEATURES))


def test_the_engines_vectors_equal_the_lakes_to_the_bit(history, decided):
    lake = {row["offset"]: np.array(row["vector"], np.float32).tobytes() for row in rows(history, gold.VECTORS)}
    engine = {o: d["vector"] for o, d in deciding.counted(history.settings).items() if d["vector"] is not None}
    assert engine
    assert {o: lake[o] for o in engine} == engine


def test_a_label_becomes_a_feature_only_when_it_is_available(history, engine, api):
    fraud_count = NAMES.index("card_fraud_count_7d")

    def pay(number):
        status, answer = call(history.settings, "POST", "/v1/decisions", payment(f"whole-way-{number}"))
        assert status == 200
        vector = deciding.counted(history.settings)[answer["position"]["offset"]]["vector"]
        return float(np.frombuffer(vector, np.float32)[fraud_count])

    assert pay(10) == 0
    now = int(time.time() * 1000)
    schema = registry().latest("label")
    texts = {
        "label_id": "a-label",
        "transaction_id": "whole-way-10",
        "card_number": "4000000000000002",
        "customer_id": "somebody",
        "merchant_id": "a-shop",
        "currency": "EUR",
        "source": "analyst",
        "device_id": "",
        "ip_address": "",
        "reverses": "",
    }
    columns = {name: Texts.of([value]) for name, value in texts.items()}
    columns |= {name: np.array([now]) for name in ("event_time", "received_at")}
    columns |= {"label_available_at": np.array([now + 1500]), "amount_minor": np.array([1999])}
    columns |= {"is_fraud": np.array([True]), "confidence": np.array([1.0])}
    missing = {name: np.array([False]) for name in ("device_id", "ip_address", "reverses")}
    send(history.settings, slices(*schema.codec.encode(Batch(1, columns, missing), schema.prefix)))
    assert pay(11) == 0
    time.sleep(1.6)
    assert pay(12) == 1


def test_the_same_request_gets_the_first_answer_and_other_content_is_refused(history, api):
    def answered(method, path, body=None):
        status, answer = call(history.settings, method, path, body)
        # Reasons of what was not approved follow the answer, and are told as soon as they are there.
        return status, {name: value for name, value in answer.items() if name != "model_reasons"}

    body = payment("whole-way-20")
    status, first = answered("POST", "/v1/decisions", body)
    assert (status, answered("POST", "/v1/decisions", body)) == (200, (200, first))
    status, problem = call(history.settings, "POST", "/v1/decisions", {**body, "amount_minor": 2000})
    assert (status, problem["title"]) == (409, "Another payment has this transaction_id")
    assert answered("GET", "/v1/decisions/whole-way-20") == (200, first)


@pytest.mark.parametrize("kind", ["card", "customer", "merchant", "device"])
def test_a_profile_is_what_the_last_payment_saw_of_its_entity(history, api, kind):
    status, answer = call(history.settings, "POST", "/v1/decisions", payment(f"whole-way-{kind}"))
    assert status == 200
    decision = deciding.counted(history.settings)[answer["position"]["offset"]]
    token = decision["merchant_id" if kind == "merchant" else f"{kind}_token"]

    def fresh():
        found = call(history.settings, "GET", f"/v1/entities/{kind}/{token}")[1]
        return found if (found["status"], found.get("transaction_id")) == ("fresh", f"whole-way-{kind}") else None

    wait_until(fresh, 20)
    found = fresh()
    values = dict(zip(NAMES, np.frombuffer(decision["vector"], "<f4").tolist(), strict=True))
    wanted = {one.name: values[one.name] for one in FEATURES if one.entity == kind}
    assert found["values"] == {name: None if np.isnan(value) else value for name, value in wanted.items()}
    assert found["position"] == answer["position"]
    assert sum(value is not None for value in found["values"].values()) > 5


def test_a_wrong_request_is_told_the_field_and_never_the_card_number(history, api):
    body = payment("whole-way-30", amount_minor="many")
    del body["merchant_id"]
    status, problem = call(history.settings, "POST", "/v1/decisions", body)
    assert status == 422
    assert {e["field"] for e in problem["errors"]} == {"merchant_id", "amount_minor"}
    assert "4000000000000002" not in json.dumps(problem)
    status, problem = call(
        history.settings, "POST", "/v1/decisions", payment("whole-way-31", card_number="4000000000000003")
    )
    assert (status, problem["rejected_by"]) == (422, ["card_well_formed"])
    assert "4000000000000003" not in json.dumps(problem)


@pytest.mark.parametrize(("key", "status"), [(None, 401), ("local", 403)])
def test_only_known_keys_may_decide_and_only_replay_keys_may_set_the_time(history, api, key, status):
    body = payment("whole-way-40", received_at=datetime.now(UTC).isoformat())
    assert call(history.settings, "POST", "/v1/decisions", body, key=key)[0] == status


def test_metrics_and_health_answer_without_a_key(history, api):
    assert call(history.settings, "GET", "/health/live", key=None)[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", api, timeout=5)
    connection.request("GET", "/metrics")
    assert b"fraudlake_api_decisions" in connection.getresponse().read()
    connection.close()


def test_running_every_job_again_changes_nothing(history, decided):
    def counts():
        return {t.name: DeltaTable(t.path(history.settings.lake.root)).to_pyarrow_table().num_rows for t in _TABLES}

    history.run_lake()
    before = counts()
    history.run_lake()
    assert counts() == before


def test_a_job_under_spark_submit_makes_an_interval_again_as_it_was(history, decided):
    def vectors():
        found = {row["offset"]: row["vector"] for row in rows(history, gold.VECTORS)}
        return {offset: np.array(vector, np.float32).tobytes() for offset, vector in found.items()}

    before = vectors()
    jars = sorted(str(path) for path in conf.resolve(history.settings.spark.jars_folder).glob("*.jar"))
    done = subprocess.run(
        [
            *("spark-submit", "--driver-memory", "1g", "--driver-class-path", ":".join(jars)),
            *("deploy/submit.py", "features.job", "--env", history.settings.env),
            *("--from-position", "1000", "--to-position", "2000"),
        ],
        env={**history.environment(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        cwd=conf.home(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert len(before) > 10_000
    assert vectors() == before


_TABLES = (bronze.EVENTS, bronze.DECISIONS, *silver.TABLES, *gold.TABLES)


def test_the_notebook_shows_a_fraud_with_its_features_and_reasons(history, decided):
    done = subprocess.run(
        [sys.executable, "notebooks/01_one_fraud.py"],
        env=history.environment(),
        cwd=conf.home(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "of all payments" in done.stdout
    assert "most:" in done.stdout
