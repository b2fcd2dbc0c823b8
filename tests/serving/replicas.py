"""Two replicas of the API in one process over one broker, and the engine in a thread beside them: fixtures."""

import http.client
import json
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from decisions.job import Process
from decisions.staging import BY_HAND, staged_record
from lakehouse import broker as log_broker
from lakehouse import settings as conf
from lakehouse import topics
from serving.app import create_app
from tests.calling import payment
from tests.decisions.models import stored
from tests.decisions.ruled import rule
from tests.lakehouse.records import HOUR, REFERENCE, raw_control, signed
from tests.serving.running import listening, until

NEVER_CUTS = {"challenge": 0.999998, "review": 0.999999, "decline": 1.0}


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
def world(new_settings, broker, tmp_path_factory, request):
    """Settings of a world with control events on the log, and two replicas over it.

    A module may say how often a card may be looked up: REVEALS_PER_MIN.
    """
    folder = tmp_path_factory.mktemp("api")
    now_ms = int(time.time() * 1000)
    base = new_settings(folder)
    settings = base.model_copy(
        update={
            "api": base.api.model_copy(update={"decision_timeout_ms": 2000}),
            "trail": base.trail.model_copy(update={"folder": folder / "trail", "heads_folder": folder / "heads"}),
            "engine": base.engine.model_copy(update={"snapshot_interval_s": 3600}),
            "limits": base.limits.model_copy(update={"reveals_per_min": getattr(request.module, "REVEALS_PER_MIN", 2)}),
        }
    )
    topics.ensure(settings)
    keyring = conf.resolve(settings.keys.folder)
    model = stored(settings.models.store, folder / "scratch", keyring, cuts=NEVER_CUTS)
    tokens = [f"v1:{'A' * 22}{n:02}" for n in range(5)]
    lists = [
        {"list": "block", "kind": "card", "token": one, "reason": "a name", "expires_at": now_ms + n * HOUR - HOUR // 2}
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
    ready = staged_record(model, now_ms, BY_HAND, None)
    before, after = ([raw_control(event, now_ms) for event in some] for some in (events, behind))
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


def send(settings, *records):
    log = log_broker.producer(settings)
    for one in records:
        log.produce(topics.topic_name(settings, topics.EVENTS), one, partition=0)
    assert log.flush(10) == 0


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
