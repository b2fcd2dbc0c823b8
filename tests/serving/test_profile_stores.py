"""What every store of profiles promises, and what is peculiar to each."""

import time

import pytest

from lakehouse import cache
from lakehouse.errors import KeysMissing, StoreUnavailable
from lakehouse.moments import now_ms
from lakehouse.passwords import make_password, password
from serving.entities import profile, stored
from serving.profile_store import Covered, InProcess
from tests.serving.profiled import CARD, own_redis, payment, vector, with_profiles

ME, SHOP = ("card", CARD), ("merchant", "M-1")


@pytest.fixture(params=["in_process", "redis"])
def chosen(request, settings):
    """Settings of a fresh world with each store."""
    if request.param == "redis":
        request.getfixturevalue("redis_server")
    return with_profiles(settings, store=request.param)


@pytest.fixture
def store(chosen):
    made = stored(chosen)
    yield made
    made.close()


def count(store, name=ME, feature="card_tx_count_1h"):
    """The value of one feature in a profile; None when there is no profile."""
    found = store.look(name).profile
    return None if found is None else found.values[feature]


def put(store, name, offset, value, ago_s=0.0, **changes):
    store.put({name: payment(offset, ago_s, {"card_tx_count_1h": value, "merchant_tx_count_1h": value}, **changes)})


def test_what_was_written_is_read(store):
    one = payment(7, values={"card_tx_count_1h": 3, "merchant_tx_count_1h": 40})
    store.put({ME: one, SHOP: one})
    card, shop = store.look(ME).profile, store.look(SHOP).profile
    assert (card.offset, card.transaction_id, card.as_of_ms) == (7, "t7", one.event_time_ms)
    assert (card.values["card_tx_count_1h"], card.values["card_tx_count_5m"]) == (3.0, None)
    assert shop.values["merchant_tx_count_1h"] == 40.0


def test_who_has_not_paid_has_no_profile(store):
    put(store, ME, 7, 3)
    assert store.look(("card", "v1:somebody-else")).profile is None
    assert store.look(("customer", CARD)).profile is None


def test_the_newest_payment_counts_by_its_place_in_the_log(store):
    put(store, ME, 9, 3)
    put(store, ME, 10, 4)
    assert count(store) == 4
    for older in (9, 2, 10):
        put(store, ME, older, 99)
        assert count(store) == 4


def test_an_older_payment_in_one_batch_with_newer_ones_of_others_changes_only_others(store):
    put(store, ME, 10, 4)
    late = payment(9, values={"card_tx_count_1h": 99, "merchant_tx_count_1h": 5})
    store.put({ME: late, SHOP: late})
    assert (count(store), count(store, SHOP, "merchant_tx_count_1h")) == (4, 5)


def test_a_payment_of_another_topic_takes_the_place(store):
    put(store, ME, 1_000_000, 3, topic_id="old")
    put(store, ME, 0, 4, topic_id="new")
    assert count(store) == 4


def test_many_are_written_at_once(store):
    one = payment(7)
    store.put({("card", f"v1:{n}"): one for n in range(501)})
    assert [store.look(("card", f"v1:{n}")).profile is not None for n in (0, 200, 500, 501)] == [True] * 3 + [False]


def test_a_profile_leaves_when_its_payment_is_old_enough(chosen):
    store = stored(with_profiles(chosen, ttl_s=3))
    put(store, ME, 7, 3, ago_s=1.5)
    put(store, SHOP, 8, 40, ago_s=3.1)
    assert (count(store), count(store, SHOP)) == (3, None)
    time.sleep(1.6)
    assert count(store) is None
    store.close()


def test_neither_reading_nor_the_same_payment_again_prolongs_it(chosen):
    store = stored(with_profiles(chosen, ttl_s=3))
    put(store, ME, 7, 3)
    time.sleep(1.5)
    assert count(store) == 3
    put(store, ME, 7, 3)
    time.sleep(1.6)
    assert count(store) is None
    store.close()


def test_a_clock_that_is_ahead_prolongs_nothing(chosen):
    store = stored(with_profiles(chosen, ttl_s=2))
    put(store, ME, 7, 3, ago_s=-3600)
    assert count(store) == 3
    time.sleep(2.1)
    assert count(store) is None
    store.close()


def test_nothing_is_covered_before_somebody_says_so(store):
    put(store, ME, 7, 3)
    assert store.look(ME).covered is None


def test_coverage_grows_while_nothing_lies_between(store):
    store.cover(Covered(1_000, 2_000), first=True)
    store.cover(Covered(2_000, 3_000), first=False)
    assert store.look(ME).covered == Covered(1_000, 3_000)
    store.cover(Covered(0, 2_500), first=True)
    assert store.look(ME).covered == Covered(0, 3_000)


def test_coverage_begins_anew_behind_a_gap_and_an_earlier_stretch_adds_nothing(store):
    store.cover(Covered(1_000, 2_000), first=True)
    store.cover(Covered(2_001, 3_000), first=False)
    assert store.look(ME).covered == Covered(2_001, 3_000)
    store.cover(Covered(500, 1_500), first=True)
    assert store.look(ME).covered == Covered(2_001, 3_000)


def test_a_store_without_the_note_that_should_be_there_has_lost_more_than_the_note(store):
    assert not store.cover(Covered(1_000, 2_000), first=False)
    assert store.look(ME).covered is None
    assert store.cover(Covered(1_000, 2_000), first=True)
    assert store.cover(Covered(2_000, 3_000), first=False)


# --- in this process ---------------------------------------------------------------------------------------------


def test_who_was_not_asked_for_longest_goes_first_and_is_not_said_to_have_never_paid():
    store = InProcess(300, 2)
    store.cover(Covered(0, now_ms()), first=True)
    one = payment(7)
    store.put({("card", "a"): one})
    store.put({("card", "b"): one})
    assert store.look(("card", "a")).profile is not None
    store.put({("card", "c"): one})
    assert [store.look(("card", token)).profile is not None for token in "abc"] == [True, False, True]
    assert store.look(("card", "b")).covered.since_ms == one.decided_at_ms + 1
    assert store.look(("card", "a")).covered.since_ms == 0


# --- Redis -------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_redis(settings, redis_server):
    return with_profiles(settings, store="redis")


def test_replicas_share_one_redis_and_worlds_do_not(on_redis, new_settings, tmp_path):
    here, there = stored(on_redis), stored(on_redis)
    elsewhere = stored(with_profiles(new_settings(tmp_path), store="redis"))
    put(here, ME, 10, 4)
    put(there, ME, 9, 99)
    assert (count(here), count(there), count(elsewhere)) == (4, 4, None)
    for one in (here, there, elsewhere):
        one.close()


def test_one_function_reads_a_profile_from_anywhere(on_redis):
    store = stored(on_redis)
    put(store, ME, 7, 3)
    store.cover(Covered(0, now_ms()), first=True)
    found = profile(on_redis, "card", CARD)
    assert (found.status, found.values["card_tx_count_1h"]) == ("fresh", 3.0)
    assert profile(on_redis, "card", "v1:nobody").status == "missing"
    store.close()


def test_redis_holds_json_under_tokens_with_a_time_to_live(on_redis):
    store, client = stored(on_redis), cache.client(on_redis)
    put(store, ME, 7, 3)
    key = f"fraudlake:{on_redis.kafka.topic_prefix}:profile:card:{CARD}"
    assert list(client.scan_iter(f"fraudlake:{on_redis.kafka.topic_prefix}:*")) == [key.encode()]
    assert client.hget(key, "profile").startswith(b'{"topic_id":"T"')
    assert 295_000 < client.pttl(key) <= 300_000
    client.close()
    store.close()


def test_a_redis_without_room_refuses_the_write_and_keeps_what_it_has(settings, tmp_path):
    with own_redis(settings, tmp_path) as (apart, server):
        small = apart.model_copy(update={"services": apart.services.model_copy(update={"redis_memory_mb": 2})})
        server.settings = small
        server.start()
        store = stored(small)
        put(store, ME, 7, 3)
        full = payment(8, values={})
        with pytest.raises(StoreUnavailable, match=r"OutOfMemoryError"):
            store.put({("card", f"v1:{n}"): full for n in range(2_000)})
        assert count(store) == 3
        store.close()


def test_a_redis_that_is_away_is_named_with_what_to_do(settings, tmp_path):
    with own_redis(settings, tmp_path) as (apart, _):
        with pytest.raises(KeysMissing, match=r"There is no .*redis\.key\. `make up WITH=redis` makes one"):
            stored(apart)
        make_password(apart.redis.password_file)
        store = stored(apart)
        with pytest.raises(StoreUnavailable, match=rf"127\.0\.0\.1:{apart.redis.port} does not answer \(ConnectionErr"):
            store.look(ME)
        store.close()


def test_a_wrong_password_is_refused_and_not_repeated(on_redis, tmp_path):
    make_password(tmp_path / "other.key")
    wrong = on_redis.model_copy(
        update={"redis": on_redis.redis.model_copy(update={"password_file": tmp_path / "other.key"})}
    )
    store = stored(wrong)
    with pytest.raises(StoreUnavailable, match="refuses the password") as refused:
        put(store, ME, 7, 3)
    assert (tmp_path / "other.key").read_text() not in str(refused.value)
    store.close()


def test_a_password_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "open.key"
    make_password(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(KeysMissing, match="can be read by others"):
        password(path, "redis")


def test_a_payment_that_is_not_known_in_anything_has_a_profile_of_unknowns(store):
    store.put({ME: payment(7, vector=vector())})
    assert set(store.look(ME).profile.values.values()) == {None}
