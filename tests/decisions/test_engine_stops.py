"""An engine whose broker is away still hears that it shall stop."""

import os
import signal
import threading

import pytest
from prometheus_client import REGISTRY

from decisions.job import IN_OFFICE, _run
from deploy.local.apart import free_ports
from lakehouse import settings as conf
from lakehouse.errors import BrokerUnavailable


@pytest.fixture
def nowhere():
    """Settings of a broker that is not there; SIGTERM is as before afterwards, and nothing waits for ever."""
    base = conf.load()
    update = {"bootstrap_servers": f"127.0.0.1:{free_ports(1)[0]}", "request_timeout_s": 1}

    def hangs(_number, _frame):
        raise AssertionError("the engine did not stop")

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    signal.signal(signal.SIGALRM, hangs)
    signal.alarm(30)
    yield base.model_copy(update={"kafka": base.kafka.model_copy(update=update)})
    signal.alarm(0)
    for number, handler in before.items():
        signal.signal(number, handler)


class Gone:
    """An engine that loses its broker, and what happens at that moment."""

    def __init__(self, then):
        self._then, self.stopped = then, []

    def stop(self, number, _frame):
        self.stopped.append(number)

    def run(self):
        self._then()
        raise BrokerUnavailable("The broker is away.", "Wait.")


def told_to_stop():
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_stop_that_comes_with_the_loss_of_the_broker_ends_the_engine(nowhere):
    engine = Gone(told_to_stop)
    _run(nowhere, engine, standby=False)
    assert engine.stopped == [signal.SIGTERM]


def test_a_stop_that_comes_while_the_broker_is_waited_for_ends_the_engine(nowhere):
    engine = Gone(lambda: threading.Timer(0.3, told_to_stop).start())
    _run(nowhere, engine, standby=False)
    assert engine.stopped == [signal.SIGTERM]


def test_an_engine_that_lost_its_broker_does_not_say_that_it_is_in_office(nowhere):
    def lost():
        IN_OFFICE.set(1)
        told_to_stop()

    _run(nowhere, Gone(lost), standby=False)
    assert REGISTRY.get_sample_value("fraudlake_engine_in_office") == 0
