"""A client of the log that failed for good takes nobody with it."""

from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaException

from lakehouse import broker as log_broker
from lakehouse import keys, topics
from lakehouse.keys import KeySource
from serving.log_writer import LogWriter
from serving.spool import Spool
from serving.spooling import Spooling
from tests.serving.running import until


def fenced(settings):
    """A producer that the broker has just shut out: whatever it is given next is a fatal error."""
    writers = [log_broker.producer(settings, transactional_id=f"{settings.kafka.topic_prefix}x") for _ in range(2)]
    writers[0].init_transactions(10)
    writers[0].begin_transaction()
    writers[1].init_transactions(10)
    return writers[0]


@pytest.fixture
def writer(settings, broker):
    """A writer whose first client will fail, and those after it not."""
    topics.ensure(settings)
    clients = [fenced(settings)]
    made = LogWriter(settings, lambda of: clients.pop() if clients else log_broker.producer(of))
    yield made
    made.close(5)


def test_a_fatal_error_fails_what_was_on_its_way_and_the_next_record_is_written(writer, settings, capfd):
    lost = [writer.put(b"lost %d" % number, 0) for number in range(3)]
    for one in lost:
        assert isinstance(one.exception(30), OSError)
    assert writer.put(b"written", 0).result(30) == 0
    assert [writer.put(b"%d" % number, 0).result(30) for number in range(3)] == [1, 2, 3]
    name = topics.topic_name(settings, topics.EVENTS)
    assert [m.value() for m in log_broker.read_range(settings, name, 0, 0, 4)] == [b"written", b"0", b"1", b"2"]
    assert "".join(capfd.readouterr()).count("another takes its place") == 1


def test_a_record_given_to_a_client_that_is_known_to_be_broken_fails_at_once(settings, broker):
    topics.ensure(settings)
    broken = fenced(settings)
    broken.produce(topics.topic_name(settings, topics.EVENTS), b"first", partition=0)
    with pytest.raises(KafkaException):
        broken.flush(10)
    clients = [broken]
    writer = LogWriter(settings, lambda of: clients.pop() if clients else log_broker.producer(of))
    refused = writer.put(b"refused", 0)
    assert refused.done()
    assert isinstance(refused.exception(0), OSError)
    assert writer.put(b"written", 0).result(30) >= 0
    writer.close(5)


class Faulty:
    """The end of a log that is asked for three times before the question is answered, and a log that takes all."""

    def __init__(self):
        self.asked, self.taken = 0, []

    def offset(self, _timeout_s):
        self.asked += 1
        if self.asked < 3:
            raise ValueError("nobody expected this")
        return 0

    def put(self, record, _partition):
        self.taken.append(record)
        done = Future()
        done.set_result(len(self.taken))
        return done


def test_an_error_that_nobody_expected_does_not_end_the_draining_of_the_spool(tmp_path):
    keys.create(tmp_path / "keys")
    spool, log = Spool(tmp_path / "spool", KeySource("file", str(tmp_path / "keys")), 1 << 20), Faulty()
    spool.put([(b"payment", b"answer")])
    spooling = Spooling(spool, log, log, 5.0)
    spooling.start()
    until(lambda: spool.records == 0)
    spooling.stop()
    assert log.taken == [b"payment", b"answer"]
