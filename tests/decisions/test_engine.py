"""A decision is a pure function of the log: no cut, restart or repetition of it changes a byte."""

import logs
import models
import numpy as np
import pytest

from decisions.driver import Driver
from decisions.intake import Message
from decisions.outcome import OUTCOMES
from features import snapshot, store
from lakehouse import keys
from lakehouse.errors import BundleRefused, Terminal
from lakehouse.registry import registry
from lakehouse.single import read, written
from tests.lakehouse.records import T0, record


@pytest.fixture
def world(settings, tmp_path):
    """(settings, messages): reference and model in force, then a small world with faults of every kind."""
    versions = {}
    digest = models.stored(settings.models.store, tmp_path / "scratch", logs.keys_folder(settings))
    values = [
        logs.control(settings, versions, "reference", logs.reference()),
        *logs.model(settings, versions, digest),
        *logs.payments(faults=1),
    ]
    return settings, logs.messages(values)


def test_any_cut_of_the_log_gives_the_same_bytes(world, seed):
    settings, messages = world
    whole = logs.decided(logs.engine(settings), messages)
    assert len(whole) > 700
    random = np.random.default_rng(seed)
    one_by_one = logs.decided(logs.engine(settings), messages, range(1, len(messages)))
    somewhere = logs.decided(logs.engine(settings), messages, np.sort(random.integers(1, len(messages), 20)).tolist())
    assert one_by_one == whole
    assert somewhere == whole, f"seed {seed}"


def test_a_restart_from_a_snapshot_gives_the_same_bytes(world, seed, tmp_path):
    settings, messages = world
    whole = logs.decided(logs.engine(settings), messages)
    place = int(np.random.default_rng(seed).integers(10, len(messages) - 10))
    first = logs.engine(settings)
    before = logs.decided(first, messages[:place])
    path = tmp_path / snapshot.file_name(place)
    snapshot.write(path, *store.saved(first.state))
    second = logs.engine(settings, store.load(path, settings, logs.TOPIC_ID))
    assert second.state.place.next_offset == place
    assert before + logs.decided(second, messages[place:]) == whole, f"seed {seed}"


def test_no_record_is_lost_where_two_versions_of_its_schema_are_in_one_batch(settings):
    driver = Driver(store.new(settings, store.Place("T", 0, 0)), keys.source(settings).keyring())
    older, newer = registry().versions("staged")
    messages = []
    for at, schema in enumerate((older, newer, newer, older)):
        names = {field["name"] for field in schema.parsed["fields"]}
        fields = {name: value for name, value in record("staged", staged_id=f"s{at}").items() if name in names}
        messages.append(Message(at, T0, written(schema, fields)))
    taken = [segment.judged["staged"] for segment in driver.take(messages)]
    assert [one.offset[one.accepted].tolist() for one in taken] == [[0], [1, 2], [3]]
    assert driver.state.place.next_offset == 4


def test_every_accepted_payment_is_decided_once_in_log_order(world):
    settings, messages = world
    found = logs.columns(logs.decided(logs.engine(settings), messages))
    offsets = [one["offset"] for one in found]
    assert offsets == sorted(set(offsets))
    judged = [one for one in found if one["outcome"] != b"rejected"]
    assert len({one["transaction_id"] for one in judged}) == len(judged)
    assert {one["outcome"].decode() for one in judged} <= set(OUTCOMES)
    assert all(one["vector"] is not None and 0 <= one["score"] <= 1 for one in judged)


def test_a_decision_says_that_the_state_was_at_its_cap_of_keys(world):
    settings, messages = world
    assert {one["rung"] for one in logs.columns(logs.decided(logs.engine(settings), messages))} == {b"full"}
    settings = settings.model_copy(update={"engine": settings.engine.model_copy(update={"max_keys_per_entity": 20})})
    engine = logs.engine(settings)
    found = logs.columns(logs.decided(engine, messages))
    seen = set()
    for one in found:
        if one["outcome"] == b"rejected":
            assert one["rung"] == b"full"
            continue
        new = one["card_token"] not in seen and len(seen) == 20
        if new:
            assert one["rung"] == b"state_capped"
        elif len(seen) < 20:
            seen.add(one["card_token"])
    assert engine.capped == sum(one["rung"] == b"state_capped" for one in found) > 100


def test_what_admission_refuses_is_rejected_by_name_and_unreadable_records_are_not_decided(world):
    settings, messages = world
    found = logs.columns(logs.decided(logs.engine(settings), messages))
    reasons = sorted({name for one in found for name in one["rejected_by"]})
    assert reasons == [
        "amount_plausible",
        "card_well_formed",
        "channel_known",
        "conflict",
        "currency_known",
        "event_time_plausible",
    ]
    rejected = [one for one in found if one["rejected_by"]]
    assert all(one["outcome"] == b"rejected" and one["vector"] is None and one["score"] is None for one in rejected)


def test_a_decision_names_the_model_that_was_in_force_at_its_place(settings, tmp_path):
    versions = {}
    folder = logs.keys_folder(settings)
    one, other = (models.stored(settings.models.store, tmp_path / str(s), folder, s) for s in (1, 2))
    values = logs.payments()
    middle = len(values) // 2
    activate = [logs.control(settings, versions, "reference", logs.reference())]
    activate += logs.model(settings, versions, one)
    swap = logs.model(settings, versions, other)
    messages = logs.messages([*activate, *values[:middle], *swap, *values[middle:]])
    found = logs.columns(logs.decided(logs.engine(settings), messages))
    at = middle + len(activate)
    assert {d["model_digest"].decode() for d in found if d["offset"] < at} == {one}
    assert {d["model_digest"].decode() for d in found if d["offset"] > at} == {other}
    assert len({d["control_digest"] for d in found}) == 2


def test_without_a_model_in_force_a_payment_stops_the_engine_by_name(settings):
    messages = logs.messages([logs.control(settings, {}, "reference", logs.reference()), *logs.payments()])
    with pytest.raises(Terminal, match="offset 1 cannot be decided: no model is in force"):
        logs.decided(logs.engine(settings), messages)


def test_a_model_that_cannot_be_verified_stops_the_engine(settings):
    messages = logs.messages(logs.model(settings, {}, "0" * 64))
    with pytest.raises(BundleRefused, match="missing"):
        logs.decided(logs.engine(settings), messages)


def test_a_payment_with_an_id_of_any_length_is_rejected_in_a_record_that_the_broker_takes(world):
    settings, messages = world
    engine = logs.engine(settings)
    logs.decided(engine, messages[:4])
    payment = registry().latest("payment")
    whole = read(payment, messages[4].value)
    long = written(payment, {**whole, "transaction_id": "t" + "ü" * 200_000, "merchant_id": "m" * 300_000})
    (body,) = engine.decide(logs.messages([long], 4))
    (record,), (key,) = body.encoded(), body.transaction_id
    assert len(record) + len(key) < 10_000
    (found,) = logs.columns([record])
    assert found["rejected_by"] == ["transaction_id_length", "merchant_id_length"]
    cut = ("t" + "ü" * 511).encode()
    assert (found["transaction_id"], found["merchant_id"], key) == (cut, b"m" * 1024, cut), "between two characters"
