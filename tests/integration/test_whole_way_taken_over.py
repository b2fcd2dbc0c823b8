"""A standby takes over from an engine that stands still; whoever wakes up afterwards changes nothing."""

import signal
import time

import deciding
import pytest
from conftest import answers, start, wait_until
from sending import Sender

from deploy.local.apart import free_ports
from lakehouse import topics

AFTER_S = 1.0


def standby(history, folder):
    """A second engine with files and a port of its own."""
    (port,) = free_ports(1)
    environment = {
        "FRAUDLAKE__ENGINE__METRICS_PORT": str(port),
        "FRAUDLAKE__ENGINE__STATE_FOLDER": str(folder / "state"),
        "FRAUDLAKE__ENGINE__TAKEOVER_AFTER_S": str(AFTER_S),
    }
    running = start(history, "decisions.job", folder / "standby.log", "--standby", env=environment)
    wait_until(lambda: answers(port, "/metrics"), running=running)
    return running


def starts(history):
    return [offset for offset, kind, _ in deciding.read(history.settings, topics.DECISIONS) if kind == "engine_start"]


@pytest.fixture(scope="module")
def taken(history, engine, tmp_path_factory):
    """(first offset, payments sent, the exit code of the engine that was stopped), after a takeover under load."""
    if engine.process.poll() is None:
        engine.stop()
    folder = tmp_path_factory.mktemp("taken")
    first = start(history, "decisions.job", folder / "engine.log")
    wait_until(lambda: answers(history.settings.engine.metrics_port, "/metrics"), running=first)
    second = standby(history, folder)
    offices = len(starts(history))
    sender = Sender(history, "taken")
    sender.start()
    wait_until(lambda: max(deciding.counted(history.settings), default=-1) > sender.first + 200)
    time.sleep(2 * AFTER_S)
    assert len(starts(history)) == offices, "an engine at work was deposed"
    first.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: len(starts(history)) == offices + 1, running=second)
    first.process.send_signal(signal.SIGCONT)
    code = first.process.wait(90)
    sender.enough.set()
    sender.join()
    wait_until(
        lambda: max(deciding.counted(history.settings), default=-1) >= sender.first + sender.sent - 1, running=second
    )
    yield sender.first, sender.sent, code, (folder / "engine.log").read_text()
    second.stop()


def test_every_payment_is_decided_once(history, taken):
    first, sent, _, _ = taken
    named = {o: d["transaction_id"] for o, d in deciding.counted(history.settings).items() if o >= first}
    assert named == {first + i: f"taken-{i:06d}" for i in range(sent)}


def test_the_engine_that_woke_up_ended_and_said_why(taken):
    _, _, code, log = taken
    assert code not in (0, -signal.SIGKILL)
    assert "EngineFenced" in log
    assert "Another engine took office" in log


def test_what_it_still_wrote_differs_in_nothing_but_the_envelope(history, taken):
    first, _, _, _ = taken
    bodies = {}
    for _, kind, record in deciding.read(history.settings, topics.DECISIONS):
        if kind == "decision" and record["offset"] >= first:
            bodies.setdefault(record["offset"], set()).add(record["body_digest"])
    assert all(len(found) == 1 for found in bodies.values())
