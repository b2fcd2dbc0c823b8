"""On topic `decisions` lies the beginning of what an engine put, whatever happened to its broker: never a hole."""

import pytest

from decisions.office import Writer, _read
from deploy.local.apart import free_ports
from lakehouse import broker as log
from lakehouse import topics
from lakehouse.errors import BrokerUnavailable
from lakehouse.registry import registry
from tests.campaign.proxy import Proxy
from tests.lakehouse.records import raw, raw_by_older


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


def test_what_was_decided_before_is_read_as_it_comes_and_never_held_as_a_whole(world):
    decided = [raw_by_older(1, "decision", offset=7, epoch=0), raw("decision", offset=8, epoch=0)]
    writer = Writer(world, 0)
    writer.put([raw("engine_start"), *decided], [b"1", b"2", b"3"])
    writer.flush()
    found = _read(world, 0, 0, 3)
    assert iter(found) is found
    oldest, *_, latest = (schema.id for schema in registry().versions("decision"))
    start = registry().latest("engine_start").id
    assert list(found) == [(0, start, -1, -1), (1, oldest, 0, 7), (2, latest, 0, 8)]
