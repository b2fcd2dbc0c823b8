"""On topic `decisions` lies the beginning of what an engine put, whatever happened to its broker: never a hole."""

import pytest

from decisions.office import Writer
from deploy.local.apart import free_ports
from lakehouse import broker as log
from lakehouse import topics
from lakehouse.errors import BrokerUnavailable
from tests.campaign.proxy import Proxy


@pytest.fixture
def world(broker, settings):
    topics.ensure(settings)
    return settings


def written(settings):
    name = topics.topic_name(settings, topics.DECISIONS)
    return [m.value() for m in log.read_range(settings, name, 0, 0, log.watermarks(settings, name, 0)[1])]


def test_a_writer_that_gave_up_writes_nothing_when_the_broker_is_back(world):
    (port,) = free_ports(1)
    cut_off = world.model_copy(
        update={"kafka": world.kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{port}"})}
    )
    writer = Writer(cut_off, 0, patience_s=1.0)
    writer.put([b"waits"], [b"1"])
    with pytest.raises(BrokerUnavailable, match="A decision was not written: nothing was acknowledged for 1 s"):
        writer.flush()
    back = Proxy(port, int(world.kafka.bootstrap_servers.rpartition(":")[2]))
    try:
        after = Writer(cut_off, 0)
        after.put([b"later"], [b"2"])
        after.flush()
        assert writer._producer.flush(10) == 0
        assert written(world) == [b"later"]
    finally:
        back.close()
