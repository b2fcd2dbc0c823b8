import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from lakehouse import broker as log
from lakehouse import topics
from lakehouse.errors import BrokerUnavailable, RangeMissing
from lakehouse.settings import Settings


@pytest.fixture
def events(broker: str, settings: Settings) -> str:
    """An events topic that holds the records b"0" to b"9"."""
    topics.ensure(settings)
    name = topics.topic_name(settings, topics.EVENTS)
    writer = log.producer(settings)
    for number in range(10):
        writer.produce(name, str(number).encode(), partition=0)
    assert writer.flush(10) == 0
    return name


def _delete_below(settings: Settings, name: str, offset: int) -> None:
    client = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    place = TopicPartition(name, 0, offset)
    assert client.delete_records([place])[place].result().low_watermark == offset


def _values(settings: Settings, name: str, start: int, end: int, chunk: int = 20_000) -> list[bytes | None]:
    return [m.value() for m in log.read_range(settings, name, 0, start, end, chunk)]


def test_records_lie_in_the_order_of_the_calls_without_holes(settings: Settings, events: str) -> None:
    messages = log.read_range(settings, events, 0, 0, 10)
    assert [(m.offset(), m.value()) for m in messages] == [(n, str(n).encode()) for n in range(10)]


def test_a_range_is_half_open_however_it_is_cut(settings: Settings, events: str) -> None:
    assert _values(settings, events, 3, 7) == [b"3", b"4", b"5", b"6"]
    assert _values(settings, events, 3, 7, chunk=1) == [b"3", b"4", b"5", b"6"]
    assert _values(settings, events, 0, 10, chunk=3) == [str(n).encode() for n in range(10)]
    assert _values(settings, events, 4, 4) == []


def test_watermarks_are_the_first_and_the_next_offset(settings: Settings, events: str) -> None:
    assert log.watermarks(settings, events, 0) == (0, 10)
    _delete_below(settings, events, 4)
    assert log.watermarks(settings, events, 0) == (4, 10)


def test_taking_gives_what_is_there_and_no_more_than_asked(settings: Settings, events: str) -> None:
    reader = log.consumer(settings, events, 0, 2)
    try:
        assert [m.value() for m in log.take(reader, 1, 10)] == [b"2"]
        rest: list[bytes | None] = []
        while len(rest) < 7:
            got = log.take(reader, 4, 10)
            assert 1 <= len(got) <= 4
            rest += [m.value() for m in got]
        assert rest == [b"3", b"4", b"5", b"6", b"7", b"8", b"9"]
        assert log.take(reader, 4, 0.2) == []
    finally:
        reader.close()


@pytest.mark.parametrize("start", [0, 3])
def test_retention_that_overtook_the_reader_is_an_error_with_the_offset(
    settings: Settings, events: str, start: int
) -> None:
    _delete_below(settings, events, 4)
    with pytest.raises(RangeMissing, match=rf"{events} no longer has offset {start}"):
        log.read_range(settings, events, 0, start, 10)
    assert _values(settings, events, 4, 6) == [b"4", b"5"]


def test_an_offset_that_the_topic_never_had_is_an_error(settings: Settings, events: str) -> None:
    reader = log.consumer(settings, events, 0, 11)
    try:
        with pytest.raises(RangeMissing):
            log.take(reader, 10, 10)
    finally:
        reader.close()


def test_a_broker_that_is_away_is_named(settings: Settings) -> None:
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:9", "request_timeout_s": 1})
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9 does not answer"):
        log.watermarks(settings.model_copy(update={"kafka": kafka}), "events", 0)
