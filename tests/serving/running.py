"""An API that runs over a test's world, and what an engine would have put on its topics."""

import http.client
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import uvicorn

from deploy.local.process import port_answers
from lakehouse import broker as log_broker
from lakehouse import settings as conf
from lakehouse import topics
from serving.feed import Cut
from tests.calling import call
from tests.lakehouse.records import raw


def until(condition, timeout_s=120):
    """What the condition gives, once it gives something."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


@contextmanager
def listening(app, lifespan="off"):
    """The server of an app, in a thread of this process, with its `port`; without lifespan nothing runs behind it."""
    config = uvicorn.Config(app, port=0, lifespan=lifespan, log_level="warning", ws=Cut, ws_max_size=1024)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive(), 60)
        server.port = server.servers[0].sockets[0].getsockname()[1]
        yield server
    finally:
        server.should_exit = True
        thread.join(20)


def decided(settings, *decisions):
    """Put decisions on the topic, as an engine would."""
    log = log_broker.producer(settings)
    for one in decisions:
        log.produce(topics.topic_name(settings, topics.DECISIONS), raw("decision", **one), partition=0)
    assert log.flush(10) == 0


@contextmanager
def serving(settings, log, variables):
    """An API over the world of these settings, and its process; ready at the end of the topic."""
    environment = {
        **variables,
        "FRAUDLAKE__KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "FRAUDLAKE__DECISION_STORE__FILE": str(settings.decision_store.file),
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


def metric(settings, name):
    """The value of a metric of the API."""
    connection = http.client.HTTPConnection("127.0.0.1", settings.api.port, timeout=5)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return float(next(line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(name)))
