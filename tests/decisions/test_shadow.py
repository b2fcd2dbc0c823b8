"""A challenger in shadow scores everything after its decision, and no decision knows of it."""

import logs
import models
import numpy as np
import orjson
import pytest

from decisions import control, job, replay
from decisions.bundle import ISOLATION
from decisions.shadow import PASSED_OVER, records
from decisions.staging import BY_HAND, staged_record
from decisions.verdicts import again
from features import snapshot, store
from lakehouse import topics
from lakehouse.registry import registry
from lakehouse.single import read

SHADOW, DECISION = registry().latest("shadow"), registry().latest("decision")
CUTS = ({"challenge": 0.03, "review": 0.05, "decline": 0.08}, {"challenge": 0.02, "review": 0.04, "decline": 0.06})
RULES = orjson.dumps(
    {
        "rules": [
            {
                "id": name,
                "version": 1,
                "state": "active",
                "sql": sql,
                "reason_code": "A_TEST",
                "sentence": "A test.",
                "owner": "tests",
                "pattern": None,
                "action": action,
                "valid_from": None,
                "valid_to": None,
                "tests": {"matching": [matching], "not_matching": [{}]},
            }
            for name, sql, action, matching in (
                ("large", "amount_base_minor > 9000", {"score": 0.04}, {"amount_base_minor": 9001}),
                ("shop", "channel = 'ecom'", {"outcome": "challenge"}, {"channel": "ecom"}),
            )
        ]
    },
    option=orjson.OPT_SORT_KEYS,
).decode()
NOTHING = b"\x00no record"


@pytest.fixture
def two(settings, tmp_path, request):
    """Digests of a champion and a challenger in the store; a parameter fits another challenger."""
    folder = logs.keys_folder(settings)
    made = (models.fitted(0), getattr(request, "param", models.fitted)(1))
    return [
        models.stored(settings.models.store, tmp_path / str(n), folder, n, cuts, one)
        for n, (cuts, one) in enumerate(zip(CUTS, made, strict=True))
    ]


def head(settings, versions, two):
    """Everything in force, the challenger staged; what puts it into shadow comes behind."""
    one, other = two
    return [
        logs.control(settings, versions, "reference", logs.reference()),
        logs.control(settings, versions, "rules", RULES),
        *logs.model(settings, versions, one),
        logs.control(settings, versions, "staging", logs.payload(other)),
        staged_record(other, logs.END_MS - 10**9, BY_HAND, None),
    ]


def shadowed(engine, messages, pieces):
    """(encoded bodies, what the challenger made of them) of messages decided in pieces."""
    bodies, said = [], []
    for body in (
        body
        for piece in np.array_split(np.arange(len(messages)), pieces)
        for body in engine.decide([messages[i] for i in piece])
    ):
        bodies += body.encoded()
        if body.seen is not None:
            model = engine.shelf.loaded(body.seen.challenger)
            found = again(body.seen.payments, model, engine._settings, body.seen.verdicts)
            said += [read(SHADOW, one) for one in records(body, body.seen, found, 0, 0.0)]
    return bodies, said


def test_bodies_are_byte_identical_with_and_without_a_challenger_in_shadow(settings, two):
    versions, values = {}, logs.payments(per_day=600, faults=2)[:400]
    before = head(settings, versions, two)
    begin = logs.control(settings, versions, "shadow", logs.payload(two[1]))
    end = logs.control(settings, versions, "shadow", logs.payload(None))
    with_one = logs.messages([*before, begin, *values[:300], end, *values[300:]])
    without = logs.messages([*before, NOTHING, *values[:300], NOTHING, *values[300:]])
    bodies, said = shadowed(logs.engine(settings), with_one, 7)
    assert bodies == shadowed(logs.engine(settings), without, 7)[0]
    decided = logs.columns(bodies)
    first, last = len(before), len(before) + 301
    scored = [one["offset"] for one in decided if one["outcome"] != b"rejected" and first < one["offset"] < last]
    assert [one["offset"] for one in said] == scored
    assert len(scored) > 100
    assert shadowed(logs.engine(settings), with_one, 23) == (bodies, said)


@pytest.mark.parametrize("two", [models.fitted, models.fitted_network], indirect=True)
def test_a_challenger_says_what_it_would_decide_in_force(settings, two):
    values = logs.payments(per_day=200)[:400]
    versions = {}
    before = head(settings, versions, two)
    in_shadow = logs.control(settings, dict(versions), "shadow", logs.payload(two[1]))
    in_force = logs.control(settings, dict(versions), "model", logs.payload(two[1]))
    _, said = shadowed(logs.engine(settings), logs.messages([*before, in_shadow, *values]), 3)
    bodies, nothing = shadowed(logs.engine(settings), logs.messages([*before, in_force, *values]), 3)
    assert nothing == []
    decided = logs.columns(bodies)
    assert len(said) == len(decided) > 100
    for one, other in zip(said, decided, strict=True):
        told = {name: value.encode() if isinstance(value, str) else value for name, value in one.items()}
        for name in ("decision_id", "outcome", "risk", "rung", "score", "score_isolation_forest", "score_with_rules"):
            assert told[name] == other[name], name
    assert len({one["outcome"] for one in said}) >= 3
    assert {one["model_digest"] for one in said} == {two[1]}
    assert {one["champion_digest"] for one in said} == {two[0]}
    assert any(one["outcome"] != one["champion_outcome"] for one in said)


def test_what_exploration_let_through_is_compared_as_it_was_decided(settings, two):
    versions, none_approved = {}, {"challenge": 1e-6, "review": 1e-6, "decline": 1e-6}
    exploration = {"cuts": none_approved, "exploration": {"share": 0.05, "up_to_minor": 10**9}}
    begun = [
        *head(settings, versions, two),
        logs.control(settings, versions, "thresholds", orjson.dumps(exploration, option=orjson.OPT_SORT_KEYS).decode()),
        logs.control(settings, versions, "shadow", logs.payload(two[1])),
    ]
    messages = logs.messages([*begun, *logs.payments(per_day=500, span=1)])
    bodies, said = shadowed(logs.engine(settings), messages, 3)
    assert {one["outcome"] for one in logs.columns(bodies)} == {b"approve", b"decline"}
    assert {(one["champion_outcome"], one["outcome"]) for one in said} == {("decline", "decline")}


def test_a_shadow_survives_a_snapshot_and_needs_a_staged_model(settings, two, tmp_path):
    versions, other = {}, two[1]
    early = logs.control(settings, {}, "shadow", logs.payload(other))
    messages = [early, *head(settings, versions, two), logs.control(settings, versions, "shadow", logs.payload(other))]
    engine = logs.engine(settings)
    engine.decide(logs.messages(messages[:1]))
    assert engine.state.admission.in_force.shadow_digest is None
    engine.decide(logs.messages(messages)[1:])
    path = tmp_path / snapshot.file_name(len(messages))
    snapshot.write(path, *store.saved(engine.state))
    later = logs.engine(settings, store.load(path, settings, logs.TOPIC_ID))
    assert later.state.admission.in_force.shadow_digest == other
    assert later.wanted == [other]


@pytest.fixture
def office(broker, settings, two):
    """An engine in office over a real log, its champion in force."""
    with logs.in_office(settings, two[0]) as found:
        yield found


def test_every_decided_payment_has_one_record_on_topic_shadow_also_after_a_restart(settings, two, office):
    process, signed = office
    assert logs.turned(process, lambda: control.put_model(settings, two[1], *signed, scope="shadow")) == []
    values = logs.payments(per_day=100, span=1)[:90]
    logs.pay(settings, values[:60])
    logs.turned(process)
    process.close()
    # Without a snapshot of its own the next engine takes the whole log again: it decides nothing twice.
    later = job.Process(settings)
    later.take_office()
    logs.pay(settings, values[60:])
    logs.turned(later)
    later.office.writer.flush()
    later.shadow.flush(10)
    decided, said = logs.on(settings, topics.DECISIONS, DECISION), logs.on(settings, topics.SHADOW, SHADOW)
    accepted = [one["offset"] for one in decided if one["outcome"] != "rejected"]
    assert sorted({one["offset"] for one in said}) == accepted
    same = {}
    for one in said:
        log_only = {name: value for name, value in one.items() if name not in ("scored_at", "scoring_us")}
        assert same.setdefault(one["offset"], log_only) == log_only
    assert {one["model_digest"] for one in decided if one["model_digest"]} == {two[0]}
    assert replay.replayed(settings, 0, None, None, None).passed
    later.close()


def test_a_challenger_that_fails_costs_no_decision(settings, two, office):
    process, signed = office
    assert logs.turned(process, lambda: control.put_model(settings, two[1], *signed, scope="shadow")) == []
    (settings.models.store / two[1] / ISOLATION).unlink()
    process.engine.shelf.keep(two[0])
    process.engine.shelf._held.pop(two[1])
    before = PASSED_OVER._value.get()
    values = logs.payments(per_day=100, span=1)[:90]
    logs.pay(settings, values)
    logs.turned(process)
    process.office.writer.flush()
    decided = logs.on(settings, topics.DECISIONS, DECISION)
    assert len(decided) > 20
    assert {one["rung"] for one in decided} == {"full"}
    assert logs.on(settings, topics.SHADOW, SHADOW) == []
    assert PASSED_OVER._value.get() - before == sum(one["outcome"] != "rejected" for one in decided)
