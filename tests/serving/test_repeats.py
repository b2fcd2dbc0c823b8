"""A transaction_id that comes again while neither log nor engine can say what its first payment was."""

import asyncio
import threading
from datetime import UTC, datetime

import orjson
import pytest

from deploy.local.apart import free_ports
from expectations.reference import Reference
from lakehouse import broker, keys, topics
from lakehouse import settings as conf
from lakehouse.crypto import Digests, Tokens
from lakehouse.keys import KeySource
from serving.cards import Reads
from serving.decisions import Path
from serving.fallback import Fallback
from serving.log_writer import LogWriter
from serving.problems import Problem
from serving.recent_cards import RecentCards
from serving.replies import Answered, Replies, Reply
from serving.schemas import PaymentRequest
from serving.spool import Spool
from serving.spooling import Spooling
from tests.calling import payment
from tests.lakehouse.records import REFERENCE

NOT_COMPARED = "The first payment of this transaction_id cannot be compared"
ANOTHER = "Another payment has this transaction_id"


@pytest.fixture
def asked(tmp_path):
    """Asks a path whose broker is away: (outcome, title of the problem) of a payment, by what is known before it."""
    keys.create(tmp_path / "keys")
    source = KeySource("file", str(tmp_path / "keys"))
    ring, base = source.keyring(), conf.load()
    nowhere = base.kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{free_ports(1)[0]}"})
    settings = base.model_copy(update={"kafka": nowhere})
    writer = LogWriter(settings)
    end = broker.End(settings, topics.topic_name(settings, topics.EVENTS), 0)
    spooling = Spooling(Spool(tmp_path / "spool", source, 1 << 20), writer, end, 5.0)
    spooling.start()
    spooling.lost()
    digests = Digests(ring)
    reference = Reference.of(1, orjson.dumps(REFERENCE).decode())
    tokens = Tokens(ring)
    fallback = Fallback(
        settings.ladder, lambda: [tokens], digests, RecentCards(10), lambda: reference, lambda *_: False
    )

    def answer(known=(), stored=None, **changes):
        async def older(_):
            return stored

        async def decided():
            replies = Replies(10)
            replies.answered(known)
            path = Path(writer, spooling, replies, digests, fallback, older, 0.05, "here")
            request = PaymentRequest(**payment("t1", merchant_country="FR", **changes))
            return (await path.decide(request, datetime.now(UTC))).outcome

        try:
            return asyncio.run(decided()), None
        except Problem as problem:
            return problem.status, problem.title

    def at_once(*several):
        async def nothing(_):
            return None

        async def decided():
            path = Path(writer, spooling, Replies(10), digests, fallback, nothing, 0.05, "here")
            asked = (PaymentRequest(**payment("t1", merchant_country="FR", **one)) for one in several)
            every = [path.decide(one, datetime.now(UTC)) for one in asked]
            return await asyncio.gather(*every, return_exceptions=True)

        found = asyncio.run(decided())
        return [getattr(one, "outcome", None) or one.status for one in found], spooling.spool.records

    answer.at_once = at_once
    yield answer
    spooling.stop()
    writer.close(0.1)


def from_the_store(outcome, amount=100):
    return Reply("t1", decision_id="d", offset=1, outcome=outcome, amount_base_minor=amount)


def test_an_approval_of_the_store_is_not_for_a_payment_of_another_amount(asked):
    approved = from_the_store("approve")
    assert asked(stored=approved, amount_minor=100) == ("approve", None)
    assert asked(stored=approved, amount_minor=900_000) == (409, ANOTHER)
    assert asked(stored=from_the_store("decline"), amount_minor=101) == (409, ANOTHER)


def test_an_approval_without_its_content_is_not_for_what_the_ladder_would_not_approve(asked):
    heard = [Answered("t1", "approve", "static_policy")]
    assert asked(heard, amount_minor=100) == ("approve", None)
    assert asked(heard, amount_minor=60_000) == (409, NOT_COMPARED)
    assert asked(stored=from_the_store("approve", None), amount_minor=60_000) == (409, NOT_COMPARED)
    assert asked(stored=from_the_store("approve", 100), amount_minor=100, currency="CHF") == (409, NOT_COMPARED)
    assert asked(stored=from_the_store("approve"), amount_minor=100, channel="moto") == (409, NOT_COMPARED)


@pytest.mark.parametrize("outcome", ["challenge", "review", "decline"])
def test_what_was_not_approved_stays_what_it_was(asked, outcome):
    assert asked([Answered("t1", outcome, "static_policy")], amount_minor=60_000) == (outcome, None)
    assert asked(stored=from_the_store(outcome), amount_minor=100) == (outcome, None)


def test_the_first_answer_of_this_process_is_for_its_own_content_only():
    async def known():
        replies = Replies(10)
        replies.answered([Answered("t1", "approve", "static_policy", b"content")])
        replies.ended([("t2", "approved")])
        replies.answered([Answered("t2", "review", "static_policy", b"content")])
        return replies.find("t1").content_digest, replies.find("t2").content_digest

    assert asyncio.run(known()) == (b"content", b"")


def test_of_the_same_payment_at_once_one_is_answered_and_written_and_the_others_are_told_that(asked):
    moment = datetime.now(UTC).isoformat()
    assert asked.at_once(*[{"amount_minor": 100, "event_time": moment}] * 5) == (["approve"] * 5, 1)


def test_of_two_payments_of_one_id_at_once_the_second_is_refused_and_not_written(asked):
    assert asked.at_once({"amount_minor": 100}, {"amount_minor": 900_000}) == (["approve", 409], 1)


class Hanging:
    """A store that keeps who asks for a transaction until it may go on."""

    def __init__(self):
        self.may_go_on, self.asked = threading.Event(), 0

    def by_transaction(self, _):
        self.asked += 1
        self.may_go_on.wait(60)

    def of_card(self, *_):
        return []

    def close(self):
        self.may_go_on.set()


def test_while_the_store_hangs_one_payment_waits_for_it_until_it_answers_somebody():
    store = Hanging()
    reads = Reads(store, 1.0)

    async def asked():
        assert [await reads.first_answer(name) for name in ("t1", "t2", "t3")] == [None] * 3
        hung = store.asked
        store.may_go_on.set()
        assert await reads.page("v1:card", 1, None) == []
        await reads.first_answer("t4")
        return hung, store.asked

    assert asyncio.run(asked()) == (1, 2)
    reads.close()
