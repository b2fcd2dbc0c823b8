"""One small world, taken once through the lake, training and the engine; the tests of this folder look at it."""

import http.client
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from decisions import control
from features import snapshot
from lakehouse import broker as log_broker
from lakehouse import settings as conf
from lakehouse import topics
from lakehouse.settings import Settings
from simulator.options import Options
from simulator.world import days, world

sys.path.insert(0, str(Path(__file__).parent))

END_MS = int(time.time() * 1000) - 3_600_000
DAY_MS = 86_400_000
SPAN_DAYS, PER_DAY, FRAUD_RATE = 40, 400, 0.02


@dataclass
class World:
    """A world after its history: settings, what was sent, the model in force."""

    settings: Settings
    context: object
    sent: list[bytes]
    truth: dict[str, bool]
    digest: str
    history_end: int
    """First offset after the history."""

    def environment(self):
        """Environment in which a process sees this world."""
        s = self.settings
        return {
            **os.environ,
            "FRAUDLAKE__KAFKA__TOPIC_PREFIX": s.kafka.topic_prefix,
            "FRAUDLAKE__LAKE__ROOT": s.lake.root,
            "FRAUDLAKE__FEATURES__SNAPSHOT_FOLDER": str(s.features.snapshot_folder),
            "FRAUDLAKE__MODELS__STORE": str(s.models.store),
            "FRAUDLAKE__MODELS__NAME": s.models.name,
            # Other tests run beside these: what a busy machine does to an answer is not their question.
            "FRAUDLAKE__API__DECISION_TIMEOUT_MS": "5000",
            "FRAUDLAKE__ENGINE__STATE_FOLDER": str(s.engine.state_folder),
            "FRAUDLAKE__DECISION_STORE__FILE": str(s.decision_store.file),
        }

    def run_lake(self):
        """Bring the lake up to the log."""
        import bronze.job
        import features.job
        import gold.job
        import silver.job

        for job in (bronze.job, silver.job, features.job, gold.job):
            job.run(self.context)


def send(settings, values):
    """Write records to topic events; the offset after the last one."""
    writer = log_broker.producer(settings, linger_ms=5)
    name = topics.topic_name(settings, topics.EVENTS)
    for value in values:
        writer.produce(name, value, partition=0)
        writer.poll(0)
    assert writer.flush(30) == 0
    return log_broker.watermarks(settings, name, 0)[1]


@pytest.fixture(scope="session")
def history(broker, mlflow_server, spark, context, new_settings, tmp_path_factory):
    """A world whose history is in the lake, with a model trained on it and in force."""
    folder = tmp_path_factory.mktemp("world")
    settings = new_settings(folder)
    settings = settings.model_copy(
        update={
            "models": settings.models.model_copy(update={"name": "fraud-integration"}),
            "training": settings.training.model_copy(update={"search_trials": 1, "alert_budget_per_1000": 40}),
        }
    )
    topics.ensure(settings)
    keys = conf.resolve(settings.keys.folder)
    reference = orjson.dumps(
        orjson.loads((conf.home() / "conf" / "reference.json").read_bytes()), option=orjson.OPT_SORT_KEYS
    ).decode()
    long_ago = END_MS - 2 * SPAN_DAYS * DAY_MS
    control.activate(settings, "reference", reference, keys / "author.pem", keys / "approver.pem", long_ago)
    options = Options(end_ms=END_MS, days=SPAN_DAYS, payments_per_day=PER_DAY, fraud_rate=FRAUD_RATE, seed=3, faults=3)
    made = world(options)
    sent, truth = [], {}
    for day in days(made):
        sent += day.records.payload.to_list()
        valid = day.records.take(day.records.index >= 0)
        ids = made.ids.texts("transaction", valid.index).to_list()
        truth.update({i.decode(): bool(s) for i, s in zip(ids, valid.scenario.tolist(), strict=True)})
    send(settings, sent)
    one = World(settings, context(settings), sent, truth, "", 0)
    one.run_lake()
    from training.job import train

    one.digest = train(settings, None, folder / "predictions.parquet")
    one.history_end = int(snapshot.newest([conf.resolve(settings.features.snapshot_folder)])[0].name.split(".")[0])
    control.put_model(settings, one.digest, keys / "author.pem", keys / "approver.pem", END_MS, here=True)
    return one


@dataclass
class Running:
    """A process of ours."""

    process: subprocess.Popen[bytes]
    log: Path

    def kill(self):
        """End it and its children at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Ask it to end, and wait."""
        self.process.terminate()
        # The API's server ends cleanly and then passes the signal on.
        assert self.process.wait(90) in (0, -signal.SIGTERM), self.log.read_text()[-2000:]


def start(world, module, log, *arguments, env=None):
    """Start `python -m module` in the world."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**world.environment(), **(env or {})},
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=conf.home(),
            start_new_session=True,
        )
    return Running(process, log)


def wait_until(condition, timeout_s=60.0, running=None):
    """Return when the condition holds; fail with the process's log when it dies or takes too long."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if running is not None and running.process.poll() is not None:
            raise AssertionError(f"ended with {running.process.returncode}:\n{running.log.read_text()[-3000:]}")
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.05)


def answers(port, path="/health/ready"):
    """Whether an HTTP server answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.fixture(scope="session")
def engine(history, tmp_path_factory):
    """An engine in office over the world."""
    running = start(history, "decisions.job", tmp_path_factory.mktemp("engine") / "engine.log")
    wait_until(lambda: answers(history.settings.engine.metrics_port, "/metrics"), running=running)
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture(scope="session")
def api(history, engine, tmp_path_factory):
    """The port of an API over the world."""
    running = start(history, "serving.job", tmp_path_factory.mktemp("api") / "api.log")
    wait_until(lambda: answers(history.settings.api.port), running=running)
    yield history.settings.api.port
    running.stop()
