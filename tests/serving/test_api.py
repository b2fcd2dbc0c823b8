"""What the API says to whom, with two replicas and an engine."""

import json
import threading

from websockets.sync.client import connect

from lakehouse import broker as log_broker
from lakehouse import keys, topics, trail
from lakehouse import settings as conf
from lakehouse.crypto import Tokens
from lakehouse.registry import registry
from lakehouse.single import read
from tests.calling import payment
from tests.lakehouse.records import CARD, every_form
from tests.serving.replicas import engine, world
from tests.serving.running import until

__all__ = ["engine", "world"]


def events(settings, kind):
    """(offset, record, fields) of everything of a kind on topic events."""
    name, schema = topics.topic_name(settings, topics.EVENTS), registry().latest(kind)
    _, end = log_broker.watermarks(settings, name, 0)
    found = [(m.offset(), m.value()) for m in log_broker.read_range(settings, name, 0, 0, end)]
    return [(offset, value, read(schema, value)) for offset, value in found if value.startswith(schema.prefix)]


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
