"""Profiles behind a reader of decisions: complete, and when not, known to be incomplete."""

import time
from contextlib import contextmanager

import pytest

from deploy.local.apart import free_ports
from lakehouse import broker as log_broker
from lakehouse import topics
from lakehouse.broker import End
from serving.entities import looked_up, stored
from serving.profile_store import InProcess
from serving.profile_writer import ProfileWriter
from tests.serving.profiled import CARD, decision, own_redis, with_profiles
from tests.serving.running import until

ME = ("card", CARD)


class Reader:
    """A reader of topic `decisions` that is always at its end: a record goes there and to the writer."""

    def __init__(self, settings, writer):
        self.name, self.writer = topics.topic_name(settings, topics.DECISIONS), writer
        self.log, self.position = log_broker.producer(settings), 0

    def reads(self, *decisions):
        """Let the topic have some records, and the writer the decisions."""
        for _ in decisions:
            self.log.produce(self.name, b"x", partition=0)
        assert self.log.flush(10) == 0
        self.position += len(decisions)
        self.writer.take(decisions, self.position)


@contextmanager
def writing(settings, store, most=1000, from_the_start=True, there=0):
    """A reader with a writer on a store; `there` are records that are on the topic before it begins."""
    topics.ensure(settings)
    log = log_broker.producer(settings)
    for _ in range(there):
        log.produce(topics.topic_name(settings, topics.DECISIONS), b"x", partition=0)
    assert log.flush(10) == 0
    end = End(settings, topics.topic_name(settings, topics.DECISIONS), 0)
    writer = ProfileWriter(store, end, settings.profiles.ttl_s, most)
    writer.start(0, from_the_start)
    try:
        yield Reader(settings, writer)
    finally:
        writer.stop()


def status(store, settings, kind="card", token=CARD):
    return looked_up(store, settings.profiles, kind, token).status


@pytest.fixture
def memory(settings, broker):
    return InProcess(settings.profiles.ttl_s, 100)


def test_every_entity_of_a_payment_has_a_fresh_profile_and_others_surely_none(settings, memory):
    with writing(settings, memory) as reader:
        reader.reads(decision(7, merchant_id="M-9"))
        until(lambda: status(memory, settings) == "fresh")
        assert status(memory, settings, "merchant", "M-9") == "fresh"
        nobody = looked_up(memory, settings.profiles, "card", "v1:nobody")
        assert nobody.reason.startswith("No payment of this card was decided in the last 300 s")


def test_of_an_entity_that_pays_again_the_newest_payment_counts(settings, memory):
    with writing(settings, memory) as reader:
        reader.reads(*(decision(n, values={"card_tx_count_1h": n}) for n in range(5)))
        found = until(lambda: memory.look(ME).profile)
        assert (found.offset, found.values["card_tx_count_1h"]) == (4, 4.0)


def test_a_rejected_payment_and_one_of_long_ago_make_no_profile(settings, memory):
    with writing(settings, memory) as reader:
        reader.reads(decision(7, vector=None, feature_set=None, outcome="rejected"), decision(8, ago_s=301))
        until(lambda: memory.look(ME).covered)
        assert memory.look(ME).profile is None


def test_a_profile_is_stale_while_decisions_are_on_the_topic_that_were_not_read(settings, memory):
    settings = with_profiles(settings, stale_after_s=1)
    with writing(settings, memory) as reader:
        reader.reads(decision(7))
        until(lambda: status(memory, settings) == "fresh")
        reader.log.produce(reader.name, b"not read yet", partition=0)
        assert reader.log.flush(10) == 0
        until(lambda: status(memory, settings) == "stale")
        assert "have not been complete for" in looked_up(memory, settings.profiles, *ME).reason
        reader.position += 1
        reader.reads()
        until(lambda: status(memory, settings) == "fresh")


def test_a_profile_is_stale_while_nobody_knows_where_the_topic_ends(settings, memory):
    (port,) = free_ports(1)
    away = settings.model_copy(
        update={"kafka": settings.kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{port}"})}
    )
    end = End(away, "decisions", 0)
    assert end.offset(0.5) is None
    writer = ProfileWriter(memory, end, 300, 1000)
    writer.start(0, True)
    writer.take([decision(7)], 1)
    until(lambda: memory.look(ME).profile)
    assert status(memory, settings) == "stale"
    writer.stop()


def test_a_reader_that_begins_in_the_middle_covers_from_its_first_decision_on(settings, memory):
    first = decision(7, ago_s=30)
    with writing(settings, memory, from_the_start=False, there=2) as reader:
        reader.writer.take([first, decision(8)], 2)
        covered = until(lambda: memory.look(ME).covered)
        assert covered.since_ms == first["decided_at"]
    nobody = looked_up(memory, settings.profiles, "card", "v1:nobody")
    assert "which does not mean that it has not paid: profiles are complete only for payments of" in nobody.reason


def test_decisions_of_another_feature_set_are_known_to_be_missing(settings, memory):
    with writing(settings, memory) as reader:
        reader.reads(decision(7))
        until(lambda: status(memory, settings) == "fresh")
        reader.reads(decision(8, feature_set="00" * 32))
        until(lambda: status(memory, settings) == "stale")
        assert memory.look(ME).profile.offset == 7


def test_what_was_decided_while_redis_was_away_is_written_when_it_is_back(settings, broker, tmp_path):
    with own_redis(settings, tmp_path) as (apart, server):
        server.start()
        store = stored(apart)
        with writing(apart, store) as reader:
            reader.reads(decision(7))
            until(lambda: status(store, apart) == "fresh")
            server.stop()
            reader.reads(decision(8))
            time.sleep(0.5)
            server.start()
            assert until(lambda: store.look(ME).profile).offset == 8
            # The new Redis began empty: what it does not have may have been in the old one.
            until(lambda: store.look(ME).covered)
            nobody = looked_up(store, apart.profiles, "card", "v1:nobody")
            assert "which does not mean that it has not paid" in nobody.reason
            assert status(store, apart) == "stale"
            reader.reads(decision(9))
            until(lambda: status(store, apart) == "fresh")
        store.close()


def test_when_too_many_wait_they_are_given_up_and_that_time_is_not_covered(settings, broker, tmp_path):
    with own_redis(settings, tmp_path) as (apart, server):
        server.start()
        store = stored(apart)
        with writing(apart, store, most=8) as reader:
            reader.reads(decision(7))
            until(lambda: status(store, apart) == "fresh")
            server.stop()
            lost = decision(8)
            reader.reads(lost, *(decision(9 + n, card_token=f"v1:{n}") for n in range(8)))
            time.sleep(0.5)
            server.start()
            covered = until(lambda: store.look(ME).covered)
            assert covered.since_ms > lost["decided_at"]
            assert status(store, apart) == "missing"
            reader.reads(decision(30))
            until(lambda: status(store, apart) == "fresh")
        store.close()
