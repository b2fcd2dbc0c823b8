"""What every store of decisions promises: one suite over all three, on real servers."""

import asyncio
import base64
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.cards import Reads
from serving.decision_store import Place, Progress, namespace, stored
from serving.stores import opened
from tests.lakehouse.records import T0, record
from tests.serving.decided import Card, with_store

SERVERS = {"postgres": "postgres_server", "cassandra": "cassandra_server"}


@pytest.fixture(scope="module", params=["sqlite", "postgres", "cassandra"])
def chosen(request, new_settings, tmp_path_factory):
    """Settings of a fresh world with each store."""
    if request.param in SERVERS:
        request.getfixturevalue(SERVERS[request.param])
    return with_store(new_settings(tmp_path_factory.mktemp("store")), kind=request.param)


@pytest.fixture(scope="module")
def store(chosen):
    made = opened(chosen)
    yield made
    made.close()


@pytest.fixture
def card():
    return Card(uuid.uuid4().hex)


def test_what_was_written_is_read_by_card_transaction_and_decision(store, card):
    one = stored(
        record(
            "decision",
            **card.fields(
                7,
                outcome="decline",
                risk="critical",
                score=0.912345,
                amount_base_minor=9_007_199_254_740_993,
                model_digest="ef" * 32,
                merchant_id="Café 'Ω' \"1\"",
            ),
        )
    )
    store.write([one], [], card.progress(8))
    assert one.amount_base_minor == 9_007_199_254_740_993
    assert store.of_card(card.token, 20) == [one]
    assert store.by_transaction(f"{card.token}/7") == one
    assert store.by_decision(f"{card.topic}/7") == one


def test_what_is_null_stays_null(store, card):
    card.put(store, 7, risk=None, score=None, outcome="rejected", rejected_by=["amount_positive", "country_known"])
    (one,) = store.of_card(card.token, 20)
    assert (one.risk, one.score, one.amount_base_minor, one.model_digest, one.answered) == (None,) * 5
    assert one.rejected_by == ("amount_positive", "country_known")


def test_what_a_refused_payment_claims_is_in_nobodys_way(store, card):
    claims = {"transaction_id": "x\0" * 5000, "merchant_id": "\U0001f600" * 300, "event_time": -(2**63)}
    card.put(store, 7, 8, **claims, amount_base_minor=2**63 - 1, outcome="rejected")
    found = store.of_card(card.token, 20)
    assert [(one.event_time, one.amount_base_minor) for one in found] == [(-(2**63), 2**63 - 1)] * 2
    assert (found[0].transaction_id[:2], len(found[0].transaction_id)) == ("x\ufffd", 256)
    assert found[0].merchant_id == "\U0001f600" * 256


def test_who_has_not_paid_has_no_decisions(store, card):
    assert store.of_card(card.token, 20) == []
    assert (store.by_transaction(card.token), store.by_decision(card.token)) == (None, None)


def test_the_newest_come_first_whatever_the_order_of_writing(store, card):
    card.put(store, 3, 9, 1)
    card.put(store, 5)
    assert card.offsets(store) == [9, 5, 3, 1]
    assert card.offsets(store, limit=2) == [9, 5]


def test_pages_follow_one_another_without_gap_or_repeat(store, card):
    card.put(store, *range(7))
    pages, before = [], None
    while page := store.of_card(card.token, 3, before):
        pages.append([one.offset for one in page])
        before = Place.of_cursor(page[-1].place.cursor())
    assert pages == [[6, 5, 4], [3, 2, 1], [0]]


def test_a_page_stays_the_same_while_newer_decisions_come(store, card):
    card.put(store, *range(4))
    before = store.of_card(card.token, 2)[-1].place
    card.put(store, 4, 5)
    assert card.offsets(store, before=before) == [1, 0]


def test_decisions_of_one_moment_are_ordered_by_their_place_in_the_log(store, card):
    at_once = [card.decision(n, engine_clock=T0) for n in (2, 10, 1)]
    elsewhere = card.decision(10, engine_clock=T0, partition=1, decision_id=f"{card.topic}/1/10")
    another = card.decision(10, engine_clock=T0, topic_id=f"{card.topic}-0", decision_id=f"{card.topic}-0/10")
    store.write([*at_once, elsewhere, another], [], card.progress(11))
    places = [one.place for one in store.of_card(card.token, 20)]
    assert places == sorted(places, reverse=True)
    assert [(p.offset, p.partition) for p in places] == [(10, 1), (10, 0), (10, 0), (2, 0), (1, 0)]
    paged = [store.of_card(card.token, 1, place) for place in places[:-1]]
    assert [page[0].place for page in paged] == places[1:]


def test_the_same_source_position_again_changes_nothing(store, card):
    card.put(store, 1, 2)
    card.put(store, 2, 1, 2)
    assert card.offsets(store) == [2, 1]


def test_many_are_written_at_once(store, card):
    card.put(store, *range(1200))
    assert card.offsets(store, limit=100) == list(range(1199, 1099, -1))
    assert store.by_decision(f"{card.topic}/0").offset == 0


def test_nothing_written_is_fine_too(store, card):
    store.write([], [], card.progress(5))
    assert store.progress(card.topic, 0) == card.progress(5)


# --- effective outcomes ------------------------------------------------------------------------------------------


def test_an_answer_is_over_the_decision_whichever_comes_first(store, card):
    store.write([], [card.answer(1)], card.progress(1))
    card.put(store, 1, 2)
    store.write([], [card.answer(2)], card.progress(3))
    found = store.of_card(card.token, 20)
    assert [(one.outcome, one.answered, one.effective) for one in found] == [("approve", "review", "review")] * 2
    assert store.by_transaction(f"{card.token}/1").effective == "review"
    assert store.by_decision(f"{card.topic}/2").effective == "review"


def test_an_answer_in_one_batch_with_its_decision(store, card):
    card.put(store, 1, 2, answers=[card.answer(2, "decline")])
    assert [one.effective for one in store.of_card(card.token, 20)] == ["decline", "approve"]


@pytest.mark.parametrize("order", [(5, 9), (9, 5)])
def test_of_two_answers_the_first_on_the_log_stays(store, card, order):
    said = {5: "review", 9: "decline"}
    card.put(store, 1)
    for at in order:
        store.write([], [card.answer(1, said[at], at)], card.progress(2))
    card.put(store, 1)
    assert store.by_transaction(f"{card.token}/1").answered == "review"


def test_the_end_of_a_challenge_is_over_answer_and_decision_whichever_comes_first(store, card):
    card.put(store, 1, 2, 3, answers=[card.answer(2), card.end(3, "expired")], outcome="challenge")
    store.write([], [card.end(2, at=7), card.end(2, "declined", at=5), card.end(4)], card.progress(4))
    card.put(store, 4, outcome="challenge")
    found = store.of_card(card.token, 20)
    assert [(one.offset, one.answered, one.ended, one.effective) for one in found] == [
        (4, None, "approved", "approve"),
        (3, None, "expired", "decline"),
        (2, "review", "declined", "decline"),
        (1, None, None, "challenge"),
    ]
    assert store.by_transaction(f"{card.token}/2").effective == "decline"


def test_a_conflict_neither_takes_the_answer_nor_the_place_of_the_first(store, card):
    first = card.fields(1)["transaction_id"]
    card.put(store, 1)
    conflict = card.decision(2, transaction_id=first, outcome="rejected", rejected_by=["conflict"])
    store.write([conflict], [card.answer(1)], card.progress(3))
    assert [(one.offset, one.effective) for one in store.of_card(card.token, 20)] == [(2, "rejected"), (1, "review")]
    assert store.by_transaction(first).offset == 1
    assert store.by_decision(f"{card.topic}/2").is_conflict


def test_a_mended_payment_stands_for_its_transaction(store, card):
    first = card.fields(1)["transaction_id"]
    mended = card.decision(4, transaction_id=first)
    store.write([mended], [], card.progress(5))
    card.put(store, 1, outcome="rejected", rejected_by=["amount_positive"])
    assert store.by_transaction(first).offset == 4


def test_a_later_refusal_does_not_take_the_place_of_a_decision(store, card):
    first = card.fields(1)["transaction_id"]
    card.put(store, 1)
    refused = [
        card.decision(n, transaction_id=first, outcome="rejected", rejected_by=["amount_positive"]) for n in (2, 3)
    ]
    store.write(refused, [], card.progress(4))
    assert (store.by_transaction(first).offset, store.by_transaction(first).effective) == (1, "approve")
    card.put(store, 5, outcome="rejected", rejected_by=["amount_positive"])
    again = card.decision(6, transaction_id=f"{card.token}/5", outcome="rejected", rejected_by=["card_well_formed"])
    store.write([again], [], card.progress(7))
    assert store.by_transaction(f"{card.token}/5").offset == 6


def test_an_id_that_a_database_would_not_take_is_unknown_or_found_as_it_was_kept(chosen, store, card):
    card.put(store, 1, transaction_id=f"{card.token}\0")
    reads = Reads(opened(chosen), 30)

    async def asked():
        found = await reads.one(f"{card.token}\0"), await reads.first_answer(f"{card.token}\0")
        unknown = await reads.one("a\0b"), await reads.first_answer("a\0b"), await reads.page("a\0b", 5, None)
        return [one.decision_id for one in found], unknown

    assert asyncio.run(asked()) == ([f"{card.topic}/1"] * 2, (None, None, []))
    reads.close()


# --- how far it is complete --------------------------------------------------------------------------------------


def test_progress_is_of_one_topic_and_partition(store, card):
    store.write([], [], Progress(card.topic, 0, 2, 9, 4, 7))
    assert store.progress(card.topic, 0) == Progress(card.topic, 0, first=2, next=9, epoch=4, decided=7)
    assert store.progress(card.topic, 1) is None
    assert store.progress(f"{card.topic}-again", 0) is None


def test_progress_never_goes_back(store, card):
    for progress in (card.progress(9, 2, 4, 7), card.progress(5, 0, 1, 1), card.progress(9, 0, 0, 0)):
        store.write([], [], progress)
    assert store.progress(card.topic, 0).next == 9
    assert store.progress(card.topic, 0).epoch in (4, 0)
    store.write([], [], card.progress(10, 3, 5, 8))
    assert store.progress(card.topic, 0) == card.progress(10, 3, 5, 8)


def test_another_process_sees_what_was_written(chosen, store, card):
    card.put(store, 1, answers=[card.answer(1)])
    again = opened(chosen)
    assert [one.effective for one in again.of_card(card.token, 20)] == ["review"]
    assert again.progress(card.topic, 0).next == 2
    again.close()


def test_worlds_do_not_share_decisions(chosen, store, card, new_settings, tmp_path):
    card.put(store, 1)
    other = opened(with_store(new_settings(tmp_path), kind=chosen.decision_store.kind))
    assert card.offsets(other) == []
    assert other.progress(card.topic, 0) is None
    other.close()


def test_two_writers_of_the_same_topic_and_many_readers_at_once(chosen, store, card):
    second = opened(chosen)

    def writes(one):
        for start in range(0, 200, 20):
            answers = [card.answer(start, at=start)]
            offsets = range(start, start + 20)
            one.write([card.decision(n) for n in offsets], answers, card.progress(start + 20))
        return 0

    def reads(_):
        return max((card.offsets(store, limit=1)[:1] or [-1])[0] for _ in range(20))

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(writes, [store, second]))
        list(pool.map(reads, range(6)))
    assert written == [0, 0]
    assert len(store.of_card(card.token, 500)) == 200
    assert [one.offset for one in store.of_card(card.token, 500) if one.answered] == list(range(180, -1, -20))
    assert store.progress(card.topic, 0).next == 200
    second.close()


# --- cursors and names -------------------------------------------------------------------------------------------


@given(
    st.builds(
        Place,
        st.integers(0, 2**63 - 1),
        st.integers(0, 2**63 - 1),
        st.integers(0, 2**31 - 1),
        st.text("abcXYZ019-_", min_size=1, max_size=22),
    )
)
def test_a_cursor_is_its_place(place):
    assert Place.of_cursor(place.cursor()) == place
    assert place.cursor().replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "values",
    ["[]", "{}", "[1,2,3]", '[1,2,3,"T",5]', '["1",2,3,"T"]', '[1,2,-3,"T"]', '[1,true,3,"T"]', "[1,2,3,4]", "x"],
)
def test_what_is_not_a_cursor_is_refused(values):
    with pytest.raises(ValueError, match="not a cursor"):
        Place.of_cursor(base64.urlsafe_b64encode(values.encode()).decode())


@pytest.mark.parametrize("text", ["", "é", "a" * 5, "=", "' OR 1=1"])
def test_nor_is_any_other_text(text):
    with pytest.raises(ValueError, match="not a cursor"):
        Place.of_cursor(text)


def test_every_topic_prefix_has_a_name_of_its_own(settings):
    def name(prefix):
        return namespace(
            settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"topic_prefix": prefix})})
        )

    names = [name(prefix) for prefix in ("", "a.", "a-", "A.", "_", "." * 200, "demo-20260101-120000.")]
    assert len(set(names)) == len(names)
    assert all(one.replace("_", "").isalnum() and len(one) <= 48 and one == one.lower() for one in names)
