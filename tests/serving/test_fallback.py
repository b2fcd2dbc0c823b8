"""What the API answers without the engine, and who is told what of one transaction."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import orjson
import pytest

from expectations.reference import Reference
from lakehouse import keys
from lakehouse import settings as conf
from lakehouse.crypto import Digests, Tokens, up_to
from lakehouse.errors import KeysMissing
from serving.fallback import Fallback
from serving.recent_cards import KEPT_S, CardOutcome, RecentCards
from serving.replies import Answered, Replies, Reply
from serving.standing import Standing
from tests.lakehouse.records import CARD, REFERENCE, T0, raw, record


def now_ms():
    return int(time.time() * 1000)


@pytest.fixture(scope="module")
def fallback(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    keys.create(folder)
    ring = keys.from_file(folder)
    reference = Reference.of(1, orjson.dumps(REFERENCE).decode())
    tokens = Tokens(ring)
    return Fallback(
        conf.load().ladder, lambda: [tokens], Digests(ring), RecentCards(10), lambda: reference, lambda *_: False
    )


def answer(fallback, **changes):
    given = {"received_at": now_ms(), "event_time": now_ms(), **changes}
    return fallback.answer(SimpleNamespace(**record("payment", **given)), raw("payment", **given))


def remembered(fallback, outcome, ago_s=0):
    (tokens,) = fallback.tokens()
    token = tokens.text(tokens.digests("card", [record("payment")["card_number"].encode()])[0])
    fallback.cards.decided([CardOutcome(token, now_ms() - 1000 * ago_s, outcome)])


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"amount_minor": 3000}, "approve"),
        ({"amount_minor": 3001}, "challenge"),
        ({"amount_minor": 50_001}, "review"),
        ({"amount_minor": 3000, "currency": "USD"}, "approve"),
        ({"amount_minor": 3481, "currency": "USD"}, "challenge"),
        ({"amount_minor": 1, "currency": "CHF"}, "review"),
        ({"amount_minor": 1, "channel": "moto"}, "review"),
        ({"amount_minor": 1, "channel": "pigeon"}, "review"),
        ({"amount_minor": -1}, "review"),
        ({"amount_minor": 1, "card_number": "4000000000000003"}, "review"),
        ({"amount_minor": 3001, "card_number": "4000000000000003"}, "review"),
        ({"amount_minor": 1, "merchant_country": "XX"}, "review"),
    ],
)
def test_without_a_recent_decision_of_the_card_amount_and_channel_decide(fallback, changes, outcome):
    remembered(fallback, "decline", ago_s=KEPT_S + 1)
    assert answer(fallback, **changes) == (outcome, "static_policy")


@pytest.mark.parametrize("last", ["approve", "challenge", "review", "decline"])
def test_the_answer_is_never_milder_than_the_cards_last_decision_nor_than_the_policy(fallback, last):
    severity = ["approve", "challenge", "review", "decline"]
    remembered(fallback, last, ago_s=KEPT_S - 60)
    for amount, policy in ((1, "approve"), (10_000, "challenge"), (60_000, "review")):
        expected = max(last, policy, key=severity.index)
        assert answer(fallback, amount_minor=amount) == (expected, "last_decision")


def test_without_a_reference_table_nothing_is_approved(fallback):
    nobody = replace(fallback, cards=RecentCards(1), reference=lambda: None)
    assert answer(nobody, amount_minor=1) == ("review", "static_policy")


def test_after_a_change_of_the_token_key_a_card_is_known_by_its_newest_token_and_by_older_ones(tmp_path):
    keys.create(tmp_path)
    keys.added(tmp_path)
    ring, reference = keys.from_file(tmp_path), Reference.of(1, orjson.dumps(REFERENCE).decode())
    first, second = up_to(ring, 2)
    kept = (Digests(ring), RecentCards(10), lambda: reference, lambda *_: False)
    for known, version in (([first], 1), ([first, second], 1), ([first, second], 2)):
        ladder = Fallback(conf.load().ladder, lambda known=known: known, *kept)
        tokens = known[version - 1]
        name = tokens.text(tokens.digests("card", [CARD.encode()])[0])
        assert name.startswith(f"v{version}:")
        ladder.cards.decided([CardOutcome(name, now_ms(), "decline")])
        assert answer(ladder, amount_minor=1, card_number=CARD) == ("decline", "last_decision")


def test_where_the_key_in_force_is_not_held_nobody_can_be_looked_up_and_nothing_is_approved(fallback):
    def nothing():
        raise KeysMissing("Tokens are of master key version 2 here.")

    nobody = replace(fallback, cards=RecentCards(1), tokens=nothing)
    assert answer(nobody, amount_minor=1) == ("review", "static_policy")


NAMED = {
    "card": ("card_number", CARD),
    "customer": ("customer_id", "C-1"),
    "device": ("device_id", "D-1"),
    "ip": ("ip_address", "2001:db8::1"),
    "email": ("customer_email", "Somebody@example.com "),
    "merchant": ("merchant_id", "M-1"),
}


@pytest.fixture
def listed(fallback):
    """The ladder over lists with one entry of a list and kind, at an engine's clock."""
    standing = Standing(conf.load())

    def made(name, kind, value, clock_ms=T0, expires_at=None):
        (tokens,) = fallback.tokens()
        token = value if kind == "merchant" else tokens.text(tokens.digests(kind, [value.encode()])[0])
        entry = {"list": name, "kind": kind, "token": token, "reason": "stolen", "expires_at": expires_at}
        standing.engine_clock = clock_ms
        with standing.held() as now:
            now.entries["lists"].take(orjson.dumps({"add": [entry], "remove": []}).decode())
        return replace(fallback, cards=RecentCards(1), blocked=standing.blocked)

    return made


@pytest.mark.parametrize("kind", NAMED)
def test_whom_a_block_list_names_is_declined_without_the_engine(listed, kind):
    field, value = NAMED[kind]
    with_entry = listed("block", kind, value)
    written = {"email": "somebody@EXAMPLE.com", "ip": "2001:0db8:0::1", "card": "4539 1488 0343 6467"}.get(kind, value)
    assert answer(with_entry, amount_minor=1, **{field: written}) == ("decline", "static_policy")
    other = {"card": "6011000990139424", "ip": "2001:db8::2"}.get(kind, "else")
    assert answer(with_entry, amount_minor=1, **{field: other}) == ("approve", "static_policy")


def test_other_lists_and_what_has_expired_on_the_engines_clock_decline_nobody(listed):
    assert answer(listed("watch", "merchant", "M-1"), amount_minor=1)[0] == "approve"
    assert answer(listed("block", "merchant", "M-1", T0, expires_at=T0), amount_minor=1)[0] == "approve"
    assert answer(listed("block", "merchant", "M-1", T0 - 1, expires_at=T0), amount_minor=1)[0] == "decline"


def test_the_first_answer_stays_and_a_refusal_answers_its_own_record_only():
    async def told():
        replies = Replies(10)
        good, bad = replies.wait("t1", b"good"), replies.wait("t1", b"bad")
        replies.decided([Reply("t1", outcome="approve", payload_digest=b"good", offset=1)])
        replies.decided([Reply("t1", outcome="rejected", payload_digest=b"bad", rejected_by=("conflict",), offset=2)])
        replies.answered([Answered("t1", "review", "static_policy")])
        replies.answered([Answered("t1", "decline", "static_policy")])
        other = replies.wait("t2", b"mine")
        replies.decided([Reply("t2", outcome="rejected", payload_digest=b"theirs", rejected_by=("amount_positive",))])
        return good.result(), bad.result(), replies.find("t1"), other.done()

    good, bad, known, other = asyncio.run(told())
    assert (good.offset, bad.offset, other) == (1, 1, False)
    assert (known.effective, known.outcome, known.answered_rung) == ("review", "approve", "static_policy")


def test_a_refusal_does_not_replace_a_decision_and_a_decision_replaces_a_refusal():
    async def told():
        replies = Replies(10)
        good = Reply("t1", b"one", outcome="approve", offset=1)
        bad = Reply("t1", b"two", outcome="rejected", payload_digest=b"bad", rejected_by=("amount_positive",), offset=2)
        replies.decided([good])
        own = replies.wait("t1", b"bad")
        replies.decided([bad])
        replies.decided([replace(bad, transaction_id="t2"), replace(good, transaction_id="t2", offset=3)])
        replies.answered([Answered("t3", "approve", "static_policy", b"one")])
        replies.decided([replace(bad, transaction_id="t3")])
        replies.decided([replace(bad, transaction_id="t4"), replace(bad, transaction_id="t4", offset=5)])
        return own.result().outcome, *(replies.find(f"t{n}") for n in range(1, 5))

    own, first, mended, answered, twice = asyncio.run(told())
    assert own == "rejected"
    assert (first.outcome, first.offset, mended.outcome, mended.offset) == ("approve", 1, "approve", 3)
    assert (answered.outcome, answered.effective, answered.content_digest) == (None, "approve", b"one")
    assert (twice.outcome, twice.offset) == ("rejected", 5)
