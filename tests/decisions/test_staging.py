"""Staging: a model acts only after an engine has said on the log that it is ready, and deciding goes on meanwhile."""

import shutil
import threading

import logs
import models
import pytest

from decisions import control, job
from decisions.bundle import ISOLATION, XGBOOST
from decisions.ladder import RUNGS
from decisions.shelf import Shelf
from decisions.staging import BY_HAND, staged_record
from expectations.control import Version
from features import snapshot, store
from lakehouse import settings as conf
from lakehouse import topics
from lakehouse.errors import BundleRefused, ControlRefused
from lakehouse.registry import registry

STAGED, DECISION = registry().latest("staged"), registry().latest("decision")


@pytest.fixture
def two(settings, tmp_path):
    """Digests of two models in the store."""
    folder = logs.keys_folder(settings)
    return [models.stored(settings.models.store, tmp_path / str(seed), folder, seed) for seed in (1, 2)]


def few(count=60):
    return logs.payments(per_day=100, span=1)[:count]


def serving(found):
    """The models that decided, in order, without repeats."""
    return list(dict.fromkeys(one["model_digest"].decode() for one in found if one["model_digest"]))


def test_an_activation_before_its_model_is_staged_is_refused_and_one_after_it_acts(settings, two):
    versions, (one, other) = {}, two
    reference = logs.control(settings, versions, "reference", logs.reference())
    early = logs.control(settings, dict(versions), "model", logs.payload(one))
    values = few(90)
    first = [reference, early, *logs.model(settings, versions, one), *values[:30]]
    # Asked for and not answered; refused; then ready: only the last activation takes force.
    before = Version(1, versions["model"].digest, versions["model"].payload)
    asked = logs.control(settings, versions, "staging", logs.payload(other))
    much_too_early, too_early = (
        logs.control(settings, {"model": before}, "model", logs.payload(other)) for _ in range(2)
    )
    ready = logs.control(settings, {"model": before}, "model", logs.payload(other))
    refused, staged = (staged_record(other, logs.END_MS - 10**9, BY_HAND, why) for why in ("It was altered.", None))
    between = [asked, much_too_early, *values[30:60], refused, too_early, staged]
    messages = logs.messages([*first, *between, *values[60:75], ready, *values[75:]])
    engine = logs.engine(settings)
    whole = logs.decided(engine, messages)
    found = logs.columns(whole)
    swapped = len(first) + len(between) + 15
    assert {d["model_digest"].decode() for d in found if d["offset"] < swapped} == {one}
    assert {d["model_digest"].decode() for d in found if d["offset"] > swapped} == {other}
    assert engine.state.admission.in_force.versions["model"].version == 2
    assert logs.decided(logs.engine(settings), messages, range(1, len(messages))) == whole


def test_what_was_staged_survives_a_snapshot(settings, two, tmp_path):
    versions, (one, other) = {}, two
    head = [logs.control(settings, versions, "reference", logs.reference()), *logs.model(settings, versions, one)]
    staging = logs.model(settings, versions, other)
    head += [staging[0], staging[1], logs.control(settings, versions, "staging", logs.payload(one))]
    engine = logs.engine(settings)
    engine.decide(logs.messages(head))
    path = tmp_path / snapshot.file_name(len(head))
    snapshot.write(path, *store.saved(engine.state))
    again = logs.engine(settings, store.load(path, settings, logs.TOPIC_ID))
    assert again.state.admission.in_force.staged == {one: None, other: True}
    found = logs.columns(logs.decided(again, logs.messages([staging[2], *few()], len(head))))
    assert serving(found) == [other]


def test_a_replay_with_a_staging_and_a_lower_rung_in_between_is_equal_though_the_damage_is_mended(settings, two):
    versions, (one, other) = {}, two
    values = few(120)
    first = [logs.control(settings, versions, "reference", logs.reference()), *logs.model(settings, versions, one)]
    messages = logs.messages([*first, *values[:60], *logs.model(settings, versions, other), *values[60:]])
    path = settings.models.store / other / ISOLATION
    sound = path.read_bytes()
    models.altered(settings, other, ISOLATION)
    lived = logs.decided(logs.engine(settings), messages)
    found = logs.columns(lived)
    assert [*dict.fromkeys(one["rung"].decode() for one in found if one["score"] is not None)] == list(RUNGS[:2])
    path.write_bytes(sound)
    told = {one["offset"]: one["rung"].decode() for one in found}
    assert logs.decided(logs.engine(settings, told=told.__getitem__), messages) == lived
    assert logs.decided(logs.engine(settings), messages) != lived


def test_a_model_that_comes_back_unstaged_after_others_scores_what_names_it(settings, tmp_path):
    folder, versions, values = logs.keys_folder(settings), {}, few(12)
    cuts = [{"challenge": 0.3, "review": 0.5, "decline": 0.8 + step / 100} for step in range(5)]
    first, *others = [models.stored(settings.models.store, tmp_path / "scratch", folder, 1, cut) for cut in cuts]
    engine, at = logs.engine(settings), 0

    def scored(*records):
        nonlocal at
        bodies = engine.decide(logs.messages(records, at))
        at += len(records)
        named = {one["model_digest"].decode() for body in bodies for one in logs.columns(body.encoded())}
        return named, {body.model.digest for body in bodies}

    reference = logs.control(settings, versions, "reference", logs.reference())
    assert scored(reference, *logs.model(settings, versions, first), *values[:2]) == ({first}, {first})
    for number, digest in enumerate(others, 1):
        engine.shelf.loaded(digest)
        step = values[2 * number : 2 * number + 2]
        assert scored(*logs.model(settings, versions, digest), *step) == ({digest}, {digest})
    assert engine.shelf.held(first) is None
    back = logs.control(settings, versions, "model", logs.payload(first))
    assert scored(back, *values[10:]) == ({first}, {first})
    assert engine.wanted == []


def test_the_model_that_was_just_replaced_stays_at_hand_whatever_was_staged_meanwhile(settings, tmp_path):
    folder, versions = logs.keys_folder(settings), {}
    cuts = [{"challenge": 0.3, "review": 0.5, "decline": 0.8 + step / 100} for step in range(5)]
    first, *others = [models.stored(settings.models.store, tmp_path / "scratch", folder, 1, cut) for cut in cuts]
    engine = logs.engine(settings)
    engine.decide(logs.messages([logs.control(settings, versions, "reference", logs.reference())]))
    engine.decide(logs.messages(logs.model(settings, versions, first), 1))
    for digest in others:
        engine.shelf.loaded(digest)
    engine.decide(logs.messages(logs.model(settings, versions, others[-1]), 4))
    held = [one for one in (first, *others) if engine.shelf.held(one) is not None]
    assert held == [first, *others[1:]]


class InTheMiddle(str):
    """A digest that has work begin while it is compared, and gives it a second to end."""

    work = None
    __hash__ = str.__hash__

    def __eq__(self, other):
        if self.work is not None:
            thread, self.work = threading.Thread(target=self.work), None
            thread.start()
            thread.join(1.0)
        return str.__eq__(self, other)


def test_a_model_that_is_loaded_while_others_are_let_go_of_stays(settings, two):
    shelf, (one, other) = Shelf.of(settings), two
    shelf.loaded(one)
    loaded = threading.Event()

    def load():
        shelf.loaded(other)
        loaded.set()

    in_the_middle = InTheMiddle("somebody else")
    in_the_middle.work = load
    shelf.keep(in_the_middle)
    assert loaded.wait(60)
    assert [shelf.held(digest) is not None for digest in two] == [True, True]


def test_the_engine_in_office_stages_beside_its_payments_and_the_old_model_serves_while_a_new_one_is_refused(
    broker, settings, two
):
    topics.ensure(settings)
    one, other = two
    folder = conf.resolve(settings.keys.folder)
    signed = (folder / "author.pem", folder / "approver.pem", logs.END_MS - 10**9)
    control.activate(settings, "reference", logs.reference(), *signed)
    with pytest.raises(ControlRefused, match=r"No engine has staged .* within 0\.1 s; it was not put into force"):
        control.put_model(settings, one, *signed, wait_s=0.1)
    control.put_model(settings, one, *signed, here=True)
    values = few(90)
    process = job.Process(settings)
    process.take_office()
    logs.pay(settings, values[:30])
    good = settings.models.store / other
    shutil.copytree(good, settings.models.store / "good")
    models.altered(settings, other, XGBOOST)
    (refused,) = logs.turned(process, lambda: control.put_model(settings, other, *signed))
    assert isinstance(refused, BundleRefused)
    assert "xgboost.json was altered" in str(refused)
    logs.pay(settings, values[30:60])
    shutil.rmtree(good)
    (settings.models.store / "good").rename(good)
    assert logs.turned(process, lambda: control.put_model(settings, other, *signed)) == []
    logs.pay(settings, values[60:])
    logs.turned(process, lambda: process.office.writer.flush())
    words = [(w["model_digest"], w["epoch"], w["refused"]) for w in logs.on(settings, topics.EVENTS, STAGED)]
    epoch = process.office.epoch
    assert words[0] == (one, BY_HAND, None)
    assert [(digest, by, why is None) for digest, by, why in words[1:]] == [(other, epoch, False), (other, epoch, True)]
    decided = logs.on(settings, topics.DECISIONS, DECISION)
    assert [*dict.fromkeys(one["model_digest"] for one in decided if one["model_digest"])] == [one, other]
    assert {one["rung"] for one in decided} == {"full"}
    process.close()
