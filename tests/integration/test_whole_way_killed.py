"""Engine and bronze job, killed again and again under load: whoever reads topics and tables notices nothing."""

import random
import signal
import threading
import time

import deciding
import numpy as np
import pyarrow as pa
import pytest
from auditing import audited
from conftest import answers, start, wait_until
from deltalake import DeltaTable
from sending import Sender

from lakehouse import broker as log_broker
from lakehouse import keys, topics
from lakehouse.contracts import bronze, gold
from lakehouse.data_keys import DataKeys
from lakehouse.envelope import open_values

KILLS = 10


def kill_engine(history, folder, draw):
    """Kill it at random moments and at its named places."""
    port, log = history.settings.engine.metrics_port, folder / "engine.log"
    often = {"FRAUDLAKE__ENGINE__SNAPSHOT_INTERVAL_S": "1"}

    def ready():
        return answers(port, "/metrics")

    for place in ("after-produce", "after-produce:40", "snapshot-before-rename"):
        running = start(history, "decisions.job", log, env={**often, "FRAUDLAKE_CRASH_AT": place})
        assert running.process.wait(60) == -signal.SIGKILL, log.read_text()[-2000:]
    for _ in range(KILLS):
        running = start(history, "decisions.job", log, env=often)
        wait_until(ready, running=running)
        time.sleep(draw.uniform(0, 4))
        running.kill()
    running = start(history, "decisions.job", log, env=often)
    wait_until(ready, running=running)
    return running


def kill_bronze(history, folder, draw):
    """Kill it at random moments and after a commit."""
    log = folder / "bronze.log"
    often = {"FRAUDLAKE__BRONZE__TRIGGER_S": "1"}
    running = start(history, "bronze.job", log, env={**often, "FRAUDLAKE_CRASH_AT": "after-delta-commit"})
    assert running.process.wait(120) == -signal.SIGKILL, log.read_text()[-2000:]
    for _ in range(KILLS):
        running = start(history, "bronze.job", log, env=often)
        time.sleep(draw.uniform(6, 14))
        assert running.process.poll() is None, log.read_text()[-2000:]
        running.kill()


class Killer(threading.Thread):
    """Kills in the background and keeps what came of it."""

    def __init__(self, kill, *arguments):
        super().__init__(daemon=True)
        self.result, self.error = None, None
        self._kill, self._arguments = kill, arguments

    def run(self):
        """Kill."""
        try:
            self.result = self._kill(*self._arguments)
        except BaseException as error:
            self.error = error

    def joined(self):
        """What came of it."""
        self.join()
        if self.error is not None:
            raise self.error
        return self.result


@pytest.fixture(scope="module")
def killed(history, engine, seed, tmp_path_factory):
    """(offset of the first payment, payments sent), after everything was killed and has caught up."""
    engine.stop()
    folder = tmp_path_factory.mktemp("killed")
    sender = Sender(history, "killed")
    sender.start()
    killers = [
        Killer(kill_engine, history, folder, random.Random(f"{seed} engine")),
        Killer(kill_bronze, history, folder, random.Random(f"{seed} bronze")),
    ]
    for killer in killers:
        killer.start()
    last, _ = [killer.joined() for killer in killers]
    sender.enough.set()
    sender.join()
    assert sender.sent / sender.seconds >= 200
    end = sender.first + sender.sent

    def caught_up():
        return max(deciding.counted(history.settings)) >= end - 1

    wait_until(caught_up, 60, running=last)
    history.run_lake()
    yield sender.first, sender.sent
    last.stop()


def test_every_payment_has_one_decision(history, killed):
    first, sent = killed
    decided = deciding.counted(history.settings)
    named = {o: d["transaction_id"] for o, d in decided.items() if o >= first}
    assert named == {first + i: f"killed-{i:06d}" for i in range(sent)}


def test_every_record_is_in_bronze_once_and_as_it_was(history, killed):
    table = DeltaTable(bronze.EVENTS.path(history.settings.lake.root)).to_pyarrow_table()
    offsets = table.column("offset").to_pylist()
    name = topics.topic_name(history.settings, topics.EVENTS)
    low, high = log_broker.watermarks(history.settings, name, 0)
    assert sorted(offsets) == list(range(low, high))
    data_keys = DataKeys(keys.source(history.settings))
    opened = {}
    for batch in table.to_batches():
        opened.update(zip(batch.column("offset").to_pylist(), open_values(batch, data_keys), strict=True))
    on_topic = {m.offset(): m.value() for m in log_broker.read_range(history.settings, name, 0, low, high)}
    assert opened == on_topic


def test_the_engines_state_is_what_the_lake_computes_from_the_start(history, killed):
    first, _ = killed
    decided = deciding.counted(history.settings)
    vectors = DeltaTable(gold.VECTORS.path(history.settings.lake.root)).to_pyarrow_table(columns=["offset", "vector"])
    lake = dict(zip(vectors.column("offset").to_pylist(), _raw(vectors.column("vector")), strict=True))
    different = [o for o, d in decided.items() if o >= first and d["vector"] is not None and d["vector"] != lake[o]]
    assert different == []
    assert any(d["vector"] is not None for o, d in decided.items() if o >= first)


def test_the_auditor_finds_nothing(history, killed):
    code, found = audited(history)
    assert found["findings"] == []
    assert code == 0


def _raw(column: pa.ChunkedArray) -> list[bytes]:
    return [np.array(values, np.float32).tobytes() for values in column.to_pylist()]
