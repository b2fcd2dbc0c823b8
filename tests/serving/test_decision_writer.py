"""From the topics into a store: each decision once, whatever ends in between."""

import time
import uuid
from contextlib import contextmanager
from threading import Event, Thread

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from lakehouse import broker as log_broker
from lakehouse import topics
from lakehouse.errors import StoreUnavailable
from serving.decision_writer import GAPS, WRITTEN, DecisionWriter
from serving.stores import opened
from tests.lakehouse.records import raw
from tests.serving.decided import Card, Server, with_store


@pytest.fixture
def card():
    return Card(uuid.uuid4().hex)


@pytest.fixture
def world(settings, broker):
    """A fresh world with topics and a SQLite store."""
    topics.ensure(settings)
    return settings


@pytest.fixture(params=["postgres", "cassandra"])
def served(request, world):
    """(settings, server) of a world with a store on a server."""
    request.getfixturevalue(f"{request.param}_server")
    server = Server(request.param)
    yield with_store(world, kind=request.param), server
    server.start()


@contextmanager
def writing(settings):
    """(store, writer) of a writer that runs."""
    store = opened(settings)
    writer = DecisionWriter(settings, store)
    writer.start()
    try:
        yield store, writer
    finally:
        writer.stop()
        store.close()


def put(settings, topic, *records):
    """Put records on a topic; the offset after them."""
    log, name = log_broker.producer(settings), topics.topic_name(settings, topic)
    for one in records:
        log.produce(name, one, partition=0)
    assert log.flush(10) == 0
    return log_broker.watermarks(settings, name, 0)[1]


def decide(settings, card, *offsets, **changes):
    """Let an engine have decided the payments at these offsets."""
    return put(settings, topics.DECISIONS, *(raw("decision", **card.fields(n, **changes)) for n in offsets))


def answer(settings, card, offset, outcome="review"):
    """Let an API have answered the payment of an offset."""
    transaction_id = card.fields(offset)["transaction_id"]
    return put(settings, topics.EVENTS, raw("payment"), raw("answer", transaction_id=transaction_id, outcome=outcome))


def until(condition, timeout_s=120):
    """What the condition gives, once it gives something and the store answers."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if found := condition():
                return found
        except StoreUnavailable:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_decisions_and_answers_come_into_the_store_before_and_after_it_began(world, card):
    decide(world, card, 0, 1)
    answer(world, card, 1)
    with writing(world) as (store, writer):
        until(lambda: card.offsets(store) == [1, 0] and store.of_card(card.token, 1)[0].answered)
        answer(world, card, 2, "decline")
        assert decide(world, card, 2) == 3
        until(lambda: card.offsets(store) == [2, 1, 0])
        until(lambda: [one.effective for one in store.of_card(card.token, 20)] == ["decline", "review", "approve"])
        until(lambda: writer.behind == 0)
        identity = topics.identify(world, topics.DECISIONS)
        assert store.progress(identity.topic_id, 0).next == 3


def test_an_answer_that_nobody_can_read_is_in_no_other_ones_way(world, card):
    decide(world, card, 0, 1)
    with writing(world) as (store, writer):
        put(world, topics.EVENTS, raw("answer")[:-3], raw("outcome")[:5], raw("answer", outcome="rejected"))
        answer(world, card, 1)
        until(lambda: [one.effective for one in store.of_card(card.token, 20)] == ["review", "approve"])
        until(lambda: writer.behind == 0)


def test_a_writer_that_starts_again_goes_on_where_the_store_stands(world, card):
    decide(world, card, *range(5))
    with writing(world) as (store, _):
        until(lambda: len(card.offsets(store)) == 5)
    before = WRITTEN._value.get()
    decide(world, card, 5)
    with writing(world) as (store, _):
        until(lambda: len(card.offsets(store)) == 6)
    assert WRITTEN._value.get() - before == 1


def test_a_fenced_engine_that_wakes_between_two_writers_is_not_believed(world, card):
    put(world, topics.DECISIONS, raw("engine_start"))
    decide(world, card, 0, epoch=0)
    put(world, topics.DECISIONS, raw("engine_start"))
    decide(world, card, 1, epoch=2)
    with writing(world) as (store, _):
        until(lambda: card.offsets(store) == [1, 0])
    decide(world, card, 2, epoch=0, outcome="decline")
    decide(world, card, 1, epoch=2, outcome="decline")
    decide(world, card, 2, epoch=2)
    with writing(world) as (store, _):
        until(lambda: card.offsets(store) == [2, 1, 0])
        assert {one.outcome for one in store.of_card(card.token, 20)} == {"approve"}


def test_a_store_that_lost_everything_is_filled_again(world, card):
    decide(world, card, *range(5))
    answer(world, card, 3)
    with writing(world) as (store, _):
        until(lambda: len(card.offsets(store)) == 5)
        for path in world.decision_store.file.parent.glob("decisions.sqlite*"):
            path.unlink()
        decide(world, card, 5)
        found = until(lambda: len(card.offsets(store)) == 6 and store.of_card(card.token, 20))
        until(lambda: store.by_transaction(found[2].transaction_id).answered == "review")


def test_what_retention_took_before_it_was_stored_is_known(world, card):
    decide(world, card, *range(3))
    with writing(world) as (store, _):
        until(lambda: len(card.offsets(store)) == 3)
    decide(world, card, *range(3, 8))
    name = topics.topic_name(world, topics.DECISIONS)
    admin = AdminClient({"bootstrap.servers": world.kafka.bootstrap_servers})
    for done in admin.delete_records([TopicPartition(name, 0, 6)]).values():
        done.result()
    before = GAPS._value.get()
    with writing(world) as (store, _):
        until(lambda: card.offsets(store) == [7, 6, 2, 1, 0])
        progress = store.progress(topics.identify(world, topics.DECISIONS).topic_id, 0)
        assert (progress.first, progress.next) == (6, 8)
    assert GAPS._value.get() - before == 1


def test_a_store_that_is_away_is_waited_for_and_then_has_everything(served, card):
    settings, server = served
    decide(settings, card, 0)
    with writing(settings) as (store, writer):
        # The store has the decision, and that it has it.
        until(lambda: writer.behind == 0)
        assert card.offsets(store) == [0]
        server.stop()
        decide(settings, card, *range(1, 1500))
        answer(settings, card, 1000)
        until(lambda: writer.behind == 1501)
        with pytest.raises(StoreUnavailable, match=r"does not answer .*`make up WITH="):
            store.of_card(card.token, 20)
        server.start()
        until(lambda: card.offsets(store, limit=2000) == list(range(1499, -1, -1)))
        until(lambda: store.by_transaction(card.fields(1000)["transaction_id"]).effective == "review")
        until(lambda: writer.behind == 0)


def test_what_was_acknowledged_survives_the_killing_of_the_server(served, card):
    settings, server = served
    store, enough, acknowledged = opened(settings), Event(), []

    def write():
        for start in range(0, 1_000_000, 50):
            batch = [card.decision(n) for n in range(start, start + 50)]
            try:
                store.write(batch, [card.answer(start, at=start)], card.progress(start + 50))
            except StoreUnavailable:
                return
            acknowledged.append(start)
            if len(acknowledged) == 20:
                enough.set()

    thread = Thread(target=write)
    thread.start()
    assert enough.wait(120)
    server.kill()
    thread.join()
    server.start()
    count = len(acknowledged) * 50
    found = until(lambda: store.of_card(card.token, count + 50))
    there = {one.offset for one in found}
    assert set(range(count)) <= there
    assert {one.offset for one in found if one.answered} >= set(acknowledged)
    assert store.progress(card.topic, 0).next in (count, count + 50)
    # Nobody knows what became of the last one: it is written again.
    store.write([card.decision(n) for n in range(count, count + 50)], [], card.progress(count + 50))
    assert card.offsets(store, limit=count + 100) == list(range(count + 49, -1, -1))
    store.close()
