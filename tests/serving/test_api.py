"""Two replicas of the API in one process over one broker, and the engine in a thread beside them."""

import http.client
import json
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from websockets.sync.client import connect

from decisions.job import Process
from decisions.staging import BY_HAND, staged_record
from lakehouse import broker as log_broker
from lakehouse import keys, topics, trail
from lakehouse import settings as conf
from lakehouse.crypto import Tokens
from lakehouse.registry import registry
from lakehouse.single import read
from serving.app import create_app
from tests.calling import payment
from tests.decisions.models import stored
from tests.lakehouse.records import CARD, HOUR, REFERENCE, every_form, raw_control, signed
from tests.serving.running import listening, until

NEVER_CUTS = {"challenge": 0.999998, "review": 0.999999, "decline": 1.0}
NOW_MS = int(time.time() * 1000)


@dataclass
class Replica:
    settings: object
    port: int

    def call(self, method, path, body=None, key="local"):
        text = (conf.resolve(self.settings.keys.folder) / f"api-{key}.key").read_text()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        headers = {"Content-Type": "application/json", "X-API-Key": text}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        got = answer.status, json.loads(answer.read()), answer.getheader("Retry-After")
        connection.close()
        return got[:2] if got[2] is None else got

    @property
    def ready(self):
        return self.call("GET", "/health/ready")[0] == 200


@pytest.fixture(scope="module")
def world(new_settings, broker, tmp_path_factory):
    """Settings of a world with control events on the log, and two replicas over it."""
    folder = tmp_path_factory.mktemp("api")
    base = new_settings(folder)
    settings = base.model_copy(
        update={
            "api": base.api.model_copy(update={"decision_timeout_ms": 2000}),
            "trail": base.trail.model_copy(update={"folder": folder / "trail", "heads_folder": folder / "heads"}),
            "engine": base.engine.model_copy(update={"snapshot_interval_s": 3600}),
            "limits": base.limits.model_copy(update={"reveals_per_min": 2}),
        }
    )
    topics.ensure(settings)
    keyring = conf.resolve(settings.keys.folder)
    model = stored(settings.models.store, folder / "scratch", keyring, cuts=NEVER_CUTS)
    tokens = [f"v1:{'A' * 22}{n:02}" for n in range(5)]
    lists = [
        {"list": "block", "kind": "card", "token": one, "reason": "a name", "expires_at": NOW_MS + n * HOUR - HOUR // 2}
        for n, one in enumerate(tokens)
    ]
    shop = {"list": "watch", "kind": "merchant", "token": "M-9", "reason": "r", "expires_at": None}
    events = [
        signed(keyring, "reference", REFERENCE, control_id="r"),
        signed(keyring, "rules", {"rules": [rule("burst", action={"outcome": "challenge"})]}, control_id="u"),
        signed(keyring, "lists", {"add": [*lists, shop], "remove": []}, control_id="l"),
        signed(keyring, "staging", {"digest": model}, control_id="s"),
    ]
    behind = [
        signed(keyring, "model", {"digest": model}, control_id="m"),
        signed(keyring, "lists", {"add": [shop], "remove": []}, control_id="bad"),
    ]
    ready = staged_record(model, NOW_MS, BY_HAND, None)
    before, after = ([raw_control(event, NOW_MS) for event in some] for some in (events, behind))
    send(settings, *before, ready, *after)
    replicas = []
    for number in range(2):
        spool = settings.spool.model_copy(update={"folder": folder / f"spool{number}"})
        store = settings.decision_store.model_copy(update={"file": folder / f"decisions{number}.sqlite"})
        replicas.append(settings.model_copy(update={"spool": spool, "decision_store": store}))
    with (
        listening(create_app(replicas[0]), "on") as first,
        listening(create_app(replicas[1]), "on") as second,
    ):
        both = [Replica(settings, server.port) for server in (first, second)]
        until(lambda: all(one.ready for one in both))
        yield SimpleNamespace(settings=settings, replicas=both, tokens=tokens, folder=folder, model=model)


def rule(name, **changes):
    """A rule over rows with an amount, which all payments have."""
    matching = {"amount_base_minor": 5000, "channel": "ecom", "merchant_country": "FR"}
    return {
        "id": name,
        "version": 1,
        "state": "active",
        "sql": "amount_base_minor >= 0",
        "reason_code": name.upper(),
        "sentence": "A test.",
        "owner": "tests",
        "pattern": None,
        "valid_from": None,
        "valid_to": None,
        "tests": {"matching": [matching], "not_matching": [{}]},
        **changes,
    }


def send(settings, *records):
    log = log_broker.producer(settings)
    for one in records:
        log.produce(topics.topic_name(settings, topics.EVENTS), one, partition=0)
    assert log.flush(10) == 0


def events(settings, kind):
    """(offset, record, fields) of everything of a kind on topic events."""
    name, schema = topics.topic_name(settings, topics.EVENTS), registry().latest(kind)
    _, end = log_broker.watermarks(settings, name, 0)
    found = [(m.offset(), m.value()) for m in log_broker.read_range(settings, name, 0, 0, end)]
    return [(offset, value, read(schema, value)) for offset, value in found if value.startswith(schema.prefix)]


@pytest.fixture(scope="module")
def engine(world):
    """The engine in office, in a thread."""
    process, ended = Process(world.settings), threading.Event()
    process.take_office()

    def run():
        while not ended.is_set():
            process.once()
        process.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    until(
        lambda: world.replicas[0].call("POST", "/v1/decisions", payment(f"w-{time.monotonic()}"))[1].get("decision_id")
    )
    yield process
    ended.set()
    thread.join(20)


def at_once(*calls):
    """The answers of calls that are made at the same moment."""
    out, gate = [None] * len(calls), threading.Barrier(len(calls))

    def asked(place, call):
        gate.wait()
        out[place] = call()

    threads = [threading.Thread(target=asked, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return out


def test_one_transaction_sent_to_two_replicas_at_once_has_one_answer(world, engine):
    first, second = world.replicas

    def decided(replica, body):
        status, answer = replica.call("POST", "/v1/decisions", body)
        # Reasons of models come moments later, to each replica in its own time.
        return status, {name: value for name, value in answer.items() if name != "model_reasons"}

    for number in range(5):
        body = payment(f"at-once-{number}")
        (status, answer), again = at_once(
            lambda body=body: decided(first, body), lambda body=body: decided(second, body)
        )
        assert (status, answer["outcome"], answer["degraded"]) == (200, "challenge", False)
        assert again == decided(second, body) == decided(first, body) == (200, answer)


def test_other_content_under_the_same_id_is_refused_by_both_also_at_once(world, engine):
    first, second = world.replicas
    body = payment("conflict-0")
    assert first.call("POST", "/v1/decisions", body)[0] == 200
    for replica in world.replicas:
        until(lambda one=replica: one.call("GET", "/v1/decisions/conflict-0")[0] == 200)
        status, problem = replica.call("POST", "/v1/decisions", {**body, "amount_minor": 1})
        assert (status, problem["title"]) == (409, "Another payment has this transaction_id")
    for number in range(1, 6):
        body = payment(f"conflict-{number}")
        found = at_once(
            lambda body=body: first.call("POST", "/v1/decisions", body)[0],
            lambda body=body: second.call("POST", "/v1/decisions", {**body, "amount_minor": 1})[0],
        )
        assert sorted(found) == [200, 409]


def test_the_figures_say_what_they_cover_and_both_replicas_say_the_same(world, engine):
    first, second = world.replicas
    first.call("POST", "/v1/decisions", payment("figures"))
    until(lambda: second.call("GET", "/v1/decisions/figures")[0] == 200)
    figures = [one.call("GET", "/v1/stats", key="analyst")[1] for one in world.replicas]
    hour = figures[0]["last_hour"]
    paid = {fields["transaction_id"] for _, _, fields in events(world.settings, "payment")}
    assert hour["outcomes"]["challenge"] == len(paid)
    assert hour["decided"] == sum(hour["outcomes"].values())
    # Those of the engine's start, until its kernels were there.
    assert (hour["covered_s"], hour["degraded"]) == (3600.0, len(events(world.settings, "answer")))
    assert hour["per_s"] == round(hour["decided"] / 3600, 3)
    assert figures[1]["last_hour"]["outcomes"] == hour["outcomes"]
    assert (figures[0]["caught_up"], figures[0]["in_spool"]) == (True, 0)


def test_each_replica_feeds_its_own_clients_from_the_topic(world, engine):
    headers = {"X-API-Key": (conf.resolve(world.settings.keys.folder) / "api-analyst.key").read_text()}
    first, second = (
        connect(f"ws://127.0.0.1:{one.port}/v1/feed?outcome=challenge", additional_headers=headers)
        for one in world.replicas
    )
    with first, second:
        _, answer = world.replicas[0].call("POST", "/v1/decisions", payment("fed"))
        for client in (first, second):
            (fed,) = json.loads(client.recv(timeout=60))["decisions"]
            assert (fed["transaction_id"], fed["decision_id"]) == ("fed", answer["decision_id"])
            assert CARD not in json.dumps(fed)


def test_what_is_in_force_is_shown_with_what_the_engine_decides_by(world, engine):
    one = world.replicas[1]
    until(lambda: one.call("GET", "/v1/rules")[0] == 200)
    one.call("POST", "/v1/decisions", payment("in-force"))
    _, rules = one.call("GET", "/v1/rules", key="analyst")
    (shown,) = rules["rules"]
    assert (shown["id"], shown["sql"], shown["state"]) == ("burst", "amount_base_minor >= 0", "active")
    assert (rules["version"], rules["engine_agrees"]) == (1, True)
    _, model = one.call("GET", "/v1/models", key="analyst")
    assert (model["model_digest"], model["engine_model_digest"], model["thresholds"]) == (
        world.model,
        world.model,
        None,
    )


def test_lists_are_shown_by_token_page_by_page_without_what_has_expired(world, engine):
    one = world.replicas[0]
    one.call("POST", "/v1/decisions", payment("clock"))  # on the engine's clock the first has expired
    shown, query = [], "?limit=2"
    while query:
        status, page = one.call("GET", f"/v1/lists{query}", key="analyst")
        assert (status, page["version"]) == (200, 1)
        shown += page["entries"]
        query = page["next"] and f"?limit=2&after={page['next']}"
    assert [(entry["kind"], entry["token"]) for entry in shown] == [
        *(("card", token) for token in world.tokens[1:]),
        ("merchant", "M-9"),
    ]
    assert shown[-1] == {"list": "watch", "kind": "merchant", "token": "M-9", "expires_at": None}
    assert "a name" not in json.dumps(shown)
    assert len(one.call("GET", "/v1/lists?list=watch")[1]["entries"]) == 1
    assert one.call("GET", "/v1/lists?list=grey")[0] == 422
    assert one.call("GET", "/v1/lists?after=4000000000000002")[1]["title"] == "after is not a cursor"


LABEL = {
    "label_id": "finding-1",
    "transaction_id": "t1",
    "card_number": CARD,
    "customer_id": "C-1",
    "merchant_id": "M-1",
    "event_time": "2025-01-06T08:00:00Z",
    "amount_minor": 1250,
    "currency": "EUR",
    "is_fraud": True,
}


def test_a_label_is_an_event_on_the_log_and_a_bad_one_is_not(world):
    one = world.replicas[0]
    status, taken = one.call("POST", "/v1/labels", LABEL, key="analyst")
    assert status == 202
    ((offset, _, fields),) = events(world.settings, "label")
    assert (taken["offset"], taken["label_id"], fields["source"], fields["confidence"]) == (
        *(offset, "finding-1"),
        *("analyst", 1.0),
    )
    assert fields["received_at"] == fields["label_available_at"]
    for wrong in ({"source": "gossip"}, {"card_number": "4000000000000003"}, {"confidence": 2}, {"cvv": "1"}):
        status, problem = one.call("POST", "/v1/labels", {**LABEL, **wrong}, key="analyst")
        assert status == 422, wrong
        assert "4000000000000003" not in json.dumps(problem)
    assert len(events(world.settings, "label")) == 1


def test_the_look_up_of_a_card_is_in_the_audit_trail_before_its_answer_and_the_number_is_nowhere(world, capfd):
    one, place = world.replicas[0], trail.place_of(world.settings)
    body = {"card_number": "4539 1488 0343 6467", "purpose": "case"}
    status, found = one.call("POST", "/v1/tokens/card", body, key="officer")
    tokens = Tokens(keys.source(world.settings).keyring())
    assert (status, found["token"]) == (200, tokens.text(tokens.digests("card", [CARD.encode()])[0]))
    entry = list(trail.entries(place))[-1]
    assert (entry.sequence, entry.action, entry.subject) == (found["audit_sequence"], "card.looked_up", found["token"])
    assert dict(entry.details) == {"key": "officer", "purpose": "case"}
    assert one.call("POST", "/v1/tokens/card", {**body, "card_number": "4539148803436468"}, key="officer")[0] == 422
    status, _, retry = one.call("POST", "/v1/tokens/card", body, key="officer")
    assert (status, int(retry) > 0) == (429, True)
    written = [path.read_bytes() for path in world.folder.rglob("*") if path.is_file()]
    said = "".join(capfd.readouterr()).encode()
    for form in every_form(CARD.encode()):
        assert all(form not in text for text in (*written, said))


def test_without_the_audit_trail_no_card_is_looked_up(world):
    one, folder = world.replicas[1], trail.place_of(world.settings).folder
    aside = folder.rename(folder.with_suffix(".aside"))
    folder.write_text("in the way")
    try:
        body = {"card_number": CARD, "purpose": "dispute"}
        status, problem = one.call("POST", "/v1/tokens/card", body, key="officer")
    finally:
        folder.unlink()
        aside.rename(folder)
    assert (status, problem["title"]) == (503, "The look-up cannot be recorded")
    assert "token" not in problem
