"""From decisions on the log to people, and from a customer's answer back onto the log."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from urllib.request import urlopen

import pytest

from lakehouse import broker as log_broker
from lakehouse import keys, signing, topics
from lakehouse import settings as conf
from lakehouse.crypto import Digests, Tokens
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.single import read, written
from serving.alerts.answered import REQUESTED, WITHOUT_PAYMENT
from serving.alerts.database import opened as database_of
from serving.alerts.filling import STORED
from serving.alerts.outbox import Outbox
from serving.alerts.running import running
from serving.alerts.verifications import Verifications, code, signed_id
from serving.decision_writer import DecisionWriter
from serving.stores import opened
from tests.expectations.intake import admitted
from tests.expectations.worlds import fresh
from tests.lakehouse.records import CARD, raw, raw_control, record, signed
from tests.serving.alerting import SECRET, decision, receiving, with_alerts
from tests.serving.running import until

DECLINES = {"name": "declines", "outcomes": ["decline"], "channels": ["ops"]}
CHANNELS = [{"name": "ops", "kind": "webhook"}, {"name": "customer", "kind": "webhook"}]


@pytest.fixture
def receiver():
    with receiving() as server:
        yield server


@pytest.fixture
def world(settings, broker, receiver, monkeypatch):
    """A fresh world with topics, in which declines alert and customers are asked."""
    topics.ensure(settings)
    for name in ("OPS", "CUSTOMER"):
        monkeypatch.setenv(f"FRAUDLAKE_ALERT_{name}", f"{receiver.url}/{name.lower()} {SECRET}")
    asking = {"channel": "customer", "expiry_s": 600, "base_url": "https://bank.example/api"}
    return with_alerts(settings, rules=[DECLINES], channels=CHANNELS, verification=asking)


def put(settings, topic, *records):
    """Put records on a topic; the offset of the last one."""
    log, name = log_broker.producer(settings), topics.topic_name(settings, topic)
    for one in records:
        log.produce(name, one, partition=0)
    assert log.flush(10) == 0
    return log_broker.watermarks(settings, name, 0)[1] - 1


@contextmanager
def process(settings):
    """`python -m serving.alerts` over a world, until the end of the block."""
    given = {
        "FRAUDLAKE__KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "FRAUDLAKE__ALERTS__FILE": str(settings.alerts.file),
        "FRAUDLAKE__ALERTS__RULES": json.dumps([DECLINES]),
        "FRAUDLAKE__ALERTS__CHANNELS": json.dumps(CHANNELS),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "serving.alerts"], cwd=conf.home(), env={**os.environ, **given}
    ) as started:
        yield
        started.terminate()
    assert started.returncode == -signal.SIGTERM


def on_events(settings, count):
    """(kind, fields) of the records on topic `events`, once there are so many."""
    name = topics.topic_name(settings, topics.EVENTS)
    until(lambda: log_broker.watermarks(settings, name, 0)[1] == count, 20)
    by_prefix = {schema.prefix: schema for schema in registry().schemas}
    values = [message.value() for message in log_broker.read_range(settings, name, 0, 0, count)]
    return values, [(s.kind, read(s, v)) for v in values for s in [by_prefix[v[:PREFIX_BYTES]]]]


def test_a_decline_alerts_once_and_an_answered_challenge_is_outcome_and_label_of_its_payment(world, receiver, capfd):
    now = int(time.time() * 1000)
    folder = conf.resolve(world.keys.folder)
    control = raw_control(signed(folder), now - 2000)
    payments = [raw("payment", transaction_id=f"t{n}", event_time=now - 1500, received_at=now - 1000) for n in (1, 2)]
    put(world, topics.EVENTS, control, *payments)
    topic_id = topics.identify(world, topics.EVENTS).topic_id
    made = {"topic_id": topic_id, "received_at": now - 1000, "outcome": "challenge", "reason_codes": ["BUST_OUT"]}
    # Offset 0 is the control record. The second challenge was decided so long ago that it expires in a second.
    asked = decision(1, **made, decided_at=now)
    expiring = decision(2, **made, decided_at=now - 598_500)
    declined = decision(3, topic_id=topic_id, decided_at=now)
    records = [raw("decision", **one) for one in (asked, expiring, declined)]
    # An engine of an older release decided before them; its record has no reason codes.
    older = written(registry().versions("decision")[0], record("decision", offset=0))
    put(world, topics.DECISIONS, older, *records)
    before = STORED.labels("declines")._value.get()
    with running(world) as outbox:
        until(lambda: {one.path for one in receiver.got} == {"/ops", "/customer"}, 20)
        (told,) = [one for one in receiver.bodies() if one.get("transaction_id") == "t1"]
        ring = keys.source(world).keyring()
        assert told["link"].startswith("https://bank.example/api/v1/verify/")
        verification_id, version = signed_id(ring, told["link"].rsplit("/", 1)[1])
        assert told["code"] == code(ring, verification_id, version)
        requests = Verifications(outbox.database, 5)
        assert requests.answer(verification_id, True, "declined", int(time.time() * 1000)) == "taken"
        values, found = on_events(world, 6)
    ends = {fields["transaction_id"]: (kind, fields) for kind, fields in found[3:] if kind == "outcome"}
    assert {name: one["result"] for name, (_, one) in ends.items()} == {"t1": "declined", "t2": "expired"}
    (label,) = [fields for kind, fields in found if kind == "label"]
    told = [label[name] for name in ("card_number", "transaction_id", "is_fraud", "source")]
    assert told == [CARD, "t1", True, "customer"]
    # Admission takes it all, the same records again for duplicates.
    admission, ms = fresh(signing.trust(folder)), [int(time.time() * 1000)] * 9
    verdicts = admitted(admission, [*values, *values[3:]], ms, Digests(ring))
    assert [one.status for one in verdicts] == ["accepted"] * 6 + ["duplicate"] * 3

    # Another process goes on where the outbox stands: nobody is told twice.
    outbox = Outbox(database_of(world))
    with process(world):
        again = put(world, topics.DECISIONS, *records[2:])
        topic = topics.identify(world, topics.DECISIONS).topic_id
        until(lambda: outbox.progress(topic, 0).next == again + 1, 30)
        until(lambda: not outbox.messages("waiting"))
        with urlopen(f"http://127.0.0.1:{world.alerts.metrics_port}/metrics") as page:
            assert b'fraudlake_alert_messages{channel="ops",state="dead"} 0.0' in page.read()
    outbox.database.close()
    assert STORED.labels("declines")._value.get() - before == 1
    assert [one.path for one in receiver.got].count("/ops") == 1
    sent = b"".join(one.body for one in receiver.got).decode()
    stored = b"".join(path.read_bytes() for path in world.alerts.file.parent.glob("alerts.sqlite*"))
    assert CARD not in sent + "".join(capfd.readouterr())
    assert CARD.encode() not in stored
    assert SECRET.encode() not in stored

    # The store of decisions, and so the API, knows the end.
    store = opened(world)
    writer = DecisionWriter(world, store)
    writer.start()
    until(lambda: writer.behind == 0, 20)
    assert [store.by_transaction(name).effective for name in ("t1", "t2", "t3")] == ["decline", "decline", "decline"]
    assert [store.by_transaction(name).ended for name in ("t1", "t2", "t3")] == ["declined", "expired", None]
    writer.stop()
    store.close()


def test_a_challenge_of_the_api_alone_asks_the_customer_once_and_its_end_counts(world, receiver):
    now = int(time.time() * 1000)
    folder = conf.resolve(world.keys.folder)
    times = {"event_time": now - 1500, "received_at": now - 1000}
    dollars = {"currency": "USD", "amount_minor": 10_000}
    payments = [raw("payment", transaction_id=f"t{n}", **times, **dollars) for n in (1, 2, 3)]
    put(world, topics.EVENTS, raw_control(signed(folder), now - 2000), *payments)
    topic_id = topics.identify(world, topics.EVENTS).topic_id
    with running(world) as outbox:
        until(lambda: (at := outbox.progress(topic_id, 0)) and at.next == 4, 20)

    def answer(name, outcome):
        return raw("answer", answer_id=f"{name} {outcome}", transaction_id=name, received_at=now, outcome=outcome)

    # Behind what was read: who answered t1 had sent it again, as whoever spools does; `nobody` has no payment.
    challenged = [answer(name, "challenge") for name in ("t1", "t2", "nobody")]
    put(world, topics.EVENTS, payments[0], *challenged, answer("t3", "review"))
    # The engine comes too late, and challenges t2 too.
    decided = {"topic_id": topic_id, "received_at": now - 1000, "decided_at": now}
    late = [decision(1, **decided, outcome="approve"), decision(2, **decided, outcome="challenge")]
    put(world, topics.DECISIONS, *(raw("decision", **one) for one in late))
    before = REQUESTED._value.get(), WITHOUT_PAYMENT._value.get()
    with running(world) as outbox:
        requests, ring = Verifications(outbox.database, 5), keys.source(world).keyring()
        until(lambda: len(receiver.got) == 2, 30)
        until(lambda: outbox.progress(topic_id, 0).next == 9 and not outbox.messages("waiting"), 20)
        told = {one["transaction_id"]: one for one in receiver.bodies()}
        (t1, t2) = (requests.find(told[name]["verification_id"]) for name in ("t1", "t2"))
        assert (told["t1"]["amount_base_minor"], told["t1"]["customer_token"]) == (
            8621,
            Tokens(ring).texts("customer", [b"C-1"])[0],
        )
        # No rule has looked for a taken account, and the payment is in its own time.
        assert (t1.suspected, t1.received_at, t1.expires_at - t1.decided_at) == (1, now - 1000, 600_000)
        for one, result in ((t1, "declined"), (t2, "approved")):
            assert requests.answer(one.verification_id, True, result, int(time.time() * 1000)) == "taken"
        _, found = on_events(world, 13)
    assert (REQUESTED._value.get() - before[0], WITHOUT_PAYMENT._value.get() - before[1]) == (2, 1)
    labels = {fields["transaction_id"]: fields for kind, fields in found if kind == "label"}
    assert {name: (one["is_fraud"], one["card_number"]) for name, one in labels.items()} == {
        "t1": (True, CARD),
        "t2": (False, CARD),
    }
    with closing(opened(world)) as store:
        writer = DecisionWriter(world, store)
        writer.start()
        until(lambda: writer.behind == 0, 20)
        known = [store.by_transaction(name) for name in ("t1", "t2")]
        assert [(one.outcome, one.answered, one.effective) for one in known] == [
            ("approve", "challenge", "decline"),
            ("challenge", "challenge", "approve"),
        ]
        writer.stop()


def test_the_outbox_can_be_lost_and_the_alerts_have_the_same_ids_again(world, receiver):
    put(world, topics.DECISIONS, raw("decision", **decision(1, decided_at=int(time.time() * 1000))))
    for _ in range(2):
        with running(world) as outbox:
            until(lambda: outbox.messages("sent"), 20)
        for path in world.alerts.file.parent.glob("alerts.sqlite*"):
            path.unlink()
    first, second = receiver.got
    assert (first.headers["X-Fraudlake-Id"], first.body) == (second.headers["X-Fraudlake-Id"], second.body)
