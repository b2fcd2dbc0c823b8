"""A traffic split: a challenger decides the payments of some customers as the model in force, and nobody else's."""

import logs
import models
import numpy as np
import orjson
import pytest

from decisions import control, job, replay
from decisions.arms import Arms, key_of
from decisions.bundle import ISOLATION, XGBOOST
from decisions.record import BODY_ENDS_WITH
from decisions.staging import BY_HAND, staged_record
from expectations.split import Split
from features import snapshot, store
from lakehouse import keys, topics
from lakehouse.codec import Batch, slices
from lakehouse.errors import ControlRefused
from lakehouse.registry import PREFIX_BYTES, registry

PAYMENT, DECISION, REASONS = (registry().latest(kind) for kind in ("payment", "decision", "reasons"))
CUTS = ({"challenge": 0.03, "review": 0.05, "decline": 0.08}, {"challenge": 0.02, "review": 0.04, "decline": 0.06})
SHARE_BP = 2_000
OWN = ("control_digest", "arm", "arm_probability", "body_digest")
"""What a decision says of the split itself."""
NOTHING = b"\x00no record"
DIGESTS = ("payload_digest", "content_digest")
"""What comes behind the arm in a body, each with one byte for its length."""


@pytest.fixture(scope="module")
def payments():
    return logs.payments(per_day=600, faults=2)[:600]


@pytest.fixture
def two(settings, tmp_path):
    """Digests of a champion and a challenger in the store."""
    folder = logs.keys_folder(settings)
    return [models.stored(settings.models.store, tmp_path / str(n), folder, n, cuts) for n, cuts in enumerate(CUTS)]


def asked(digest, share_bp=SHARE_BP, model_version=1):
    """The payload that begins a split."""
    content = {"digest": digest, "share_bp": share_bp, "model_version": model_version}
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode()


def head(settings, versions, two):
    """The champion in force, the challenger staged."""
    return [
        logs.control(settings, versions, "reference", logs.reference()),
        *logs.model(settings, versions, two[0]),
        logs.control(settings, versions, "staging", logs.payload(two[1])),
        staged_record(two[1], logs.END_MS - 10**9, BY_HAND, None),
    ]


def by_offset(settings, values, told=None):
    return {one["offset"]: one for one in logs.columns(decided(settings, values, told=told))}


def decided(settings, values, cuts=(), told=None):
    return logs.decided(logs.engine(settings, told=told), logs.messages(values), cuts)


def but(one, *names):
    return {name: value for name, value in one.items() if name not in names}


def keyed(settings):
    return key_of(keys.source(settings).keyring())


def customers(n):
    return [f"c{number}".encode() for number in range(n)]


def test_an_arm_follows_from_customer_challenger_and_key_alone(settings):
    key, everybody = keyed(settings), customers(20_000)
    some = Arms.of(Split("a" * 64, 1_000, 1), key, everybody).challenged
    assert 0.09 < some.mean() < 0.11
    assert (Arms.of(Split("a" * 64, 1_000, 7), key, everybody).challenged == some).all()
    assert (Arms.of(Split("a" * 64, 1_000, 1), key, everybody[::-1]).challenged[::-1] == some).all()
    spelled = [b" " + one for one in everybody]
    assert (Arms.of(Split("a" * 64, 1_000, 1), key, spelled).challenged == some).all()
    more = Arms.of(Split("a" * 64, 3_000, 1), key, everybody).challenged
    assert more[some].all()
    others = Arms.of(Split("b" * 64, 1_000, 1), key, everybody).challenged
    assert 0.005 < (others & some).mean() < 0.015


def test_each_arm_is_decided_as_by_an_engine_whose_only_model_is_its_own(settings, two, payments):
    versions = {}
    begun = head(settings, versions, two)
    split = logs.control(settings, dict(versions), "split", asked(two[1]))
    other = logs.control(settings, dict(versions), "model", logs.payload(two[1]))
    found = by_offset(settings, [*begun, split, *payments])
    alone = {
        b"champion": by_offset(settings, [*begun, NOTHING, *payments]),
        b"challenger": by_offset(settings, [*begun, other, *payments]),
    }
    assert found.keys() == alone[b"champion"].keys()
    seen = {}
    for offset, one in found.items():
        if one["outcome"] == b"rejected":
            assert (one["arm"], one["arm_probability"], one["model_digest"]) == (None, None, None)
            continue
        assert but(one, *OWN) == but(alone[one["arm"]][offset], *OWN)
        assert one["arm_probability"] == pytest.approx({b"champion": 0.8, b"challenger": 0.2}[one["arm"]])
        seen.setdefault(one["arm"], set()).add((one["model_digest"].decode(), one["customer_token"]))
    whose = {arm: {token for _, token in pairs} for arm, pairs in seen.items()}
    assert {arm: {digest for digest, _ in pairs} for arm, pairs in seen.items()} == {
        b"champion": {two[0]},
        b"challenger": {two[1]},
    }
    assert not whose[b"champion"] & whose[b"challenger"]
    assert min(len(tokens) for tokens in whose.values()) > 20
    assert any(one["outcome"] != alone[b"champion"][offset]["outcome"] for offset, one in found.items())


def test_decisions_in_front_of_a_split_and_beside_a_refused_one_are_the_same_bytes_as_without(settings, two, payments):
    versions = {}
    begun = head(settings, versions, two)
    unstaged = logs.control(settings, dict(versions), "split", asked("f" * 64))
    too_much = logs.control(settings, dict(versions), "split", asked(two[1], 5_001))
    stale = logs.control(settings, dict(versions), "split", asked(two[1], model_version=2))
    itself = logs.control(settings, dict(versions), "split", asked(two[0]))
    without = decided(settings, [*begun, *[NOTHING] * 4, *payments])
    assert decided(settings, [*begun, unstaged, too_much, stale, itself, *payments]) == without
    split = logs.control(settings, versions, "split", asked(two[1]))
    later = decided(settings, [*begun, *[NOTHING] * 4, *payments[:300], split, *payments[300:]])
    before = sum(one["offset"] < len(begun) + 304 for one in logs.columns(without))
    assert later[:before] == without[:before]
    assert later[before:] != without[before:]


def test_without_a_split_a_body_is_that_of_the_schema_before_and_two_bytes_for_no_arm(settings, two, payments):
    before, latest = registry().versions("decision")[-2:]
    values = [*head(settings, {}, two), *payments]
    bodies = logs.engine(settings).decide(logs.messages(values))
    for body in bodies:
        batch = Batch(len(body.offset), body.columns, body.valid)
        older = slices(*before.codec.encode(batch, before.prefix, last=BODY_ENDS_WITH))
        digests = [sum(map(len, parts)) + 2 for parts in zip(*map(body.texts, DIGESTS), strict=True)]
        for old, new, tail in zip(older, body.encoded(), digests, strict=True):
            assert new == latest.prefix + old[len(before.prefix) : -tail] + b"\0\0" + old[-tail:]
    assert sum(len(body.offset) for body in bodies) > 100


def test_any_cut_of_the_log_gives_the_same_bytes(settings, two, payments, seed):
    versions = {}
    values = [
        *head(settings, versions, two),
        *payments[:150],
        logs.control(settings, versions, "split", asked(two[1])),
        *payments[150:400],
        logs.control(settings, versions, "split", logs.payload(None)),
        *payments[400:],
    ]
    whole = decided(settings, values)
    cuts = sorted(np.random.default_rng(seed).choice(np.arange(1, len(values)), 9, replace=False).tolist())
    assert decided(settings, values, cuts) == whole
    arms = [one["arm"] for one in logs.columns(whole)]
    assert {*arms} == {None, b"champion", b"challenger"}
    assert arms[-1] is arms[0] is None


def test_another_model_in_force_ends_a_split_and_the_first_one_again_does_not_bring_it_back(settings, two, payments):
    versions = {}
    begun = [*head(settings, versions, two), logs.control(settings, versions, "split", asked(two[1]))]
    values = [
        *[*begun, *payments[:200]],
        *[logs.control(settings, versions, "model", logs.payload(two[1])), *payments[200:400]],
        *[logs.control(settings, versions, "model", logs.payload(two[0])), *payments[400:]],
    ]
    at, found = len(begun), by_offset(settings, values)
    spans = ((at, at + 200), (at + 201, at + 401), (at + 402, len(values)))
    said = [
        {(one["arm"], one["model_digest"]) for offset, one in found.items() if a <= offset < b and one["model_digest"]}
        for a, b in spans
    ]
    champion, challenger = (digest.encode() for digest in two)
    assert said == [
        {(b"champion", champion), (b"challenger", challenger)},
        {(None, challenger)},
        {(None, champion)},
    ]


def test_a_split_survives_a_snapshot(settings, two, payments, tmp_path):
    versions = {}
    values = [*head(settings, versions, two), logs.control(settings, versions, "split", asked(two[1])), *payments]
    messages, half = logs.messages(values), 200
    engine = logs.engine(settings)
    first = logs.decided(engine, messages[:half])
    path = tmp_path / snapshot.file_name(half)
    snapshot.write(path, *store.saved(engine.state))
    later = logs.engine(settings, store.load(path, settings, logs.TOPIC_ID))
    assert later.wanted == []
    assert first + logs.decided(later, messages[half:]) == decided(settings, values)


@pytest.mark.parametrize(("lost", "rung"), [(ISOLATION, b"without_anomaly"), (XGBOOST, b"rules_only")])
def test_a_challenger_that_is_damaged_takes_its_own_arm_down_the_ladder_and_a_replay_is_told(
    settings, two, payments, lost, rung
):
    versions = {}
    values = [*head(settings, versions, two), logs.control(settings, versions, "split", asked(two[1])), *payments]
    sound = by_offset(settings, values)
    mend = models.altered(settings, two[1], lost)
    engine = logs.engine(settings)
    bodies = logs.decided(engine, logs.messages(values))
    assert engine.wanted == [two[1]]
    assert any(two[1][:12] in fault for fault in engine.faults)
    found = {one["offset"]: one for one in logs.columns(bodies) if one["outcome"] != b"rejected"}
    for offset, one in found.items():
        if one["arm"] == b"champion":
            assert one == sound[offset]
        else:
            assert (one["rung"], one["arm"]) == (rung, sound[offset]["arm"])
            assert one["outcome"] != b"approve" or one["amount_base_minor"] <= settings.ladder.approve_up_to_minor
    rungs = {offset: one["rung"].decode() for offset, one in found.items()}
    mend()
    assert decided(settings, values, told=lambda offset: rungs.get(offset, "full")) == bodies
    # Mended and loaded beside, it takes its seat at the next batch.
    engine.shelf.loaded(two[1])
    assert engine.decide([]) == []
    assert engine.wanted == []


def test_the_reasons_of_a_payment_are_those_of_the_model_of_its_arm(settings, two, payments):
    versions = {}
    none_approved = orjson.dumps({"cuts": {"challenge": 1e-6, "review": 1e-6, "decline": 1e-6}}).decode()
    begun = [*head(settings, versions, two), logs.control(settings, versions, "thresholds", none_approved)]
    values = [*begun, logs.control(settings, versions, "split", asked(two[1])), *payments]
    named = set()
    for body in logs.engine(settings).decide(logs.messages(values)):
        digests = body.texts("model_digest")
        for row in body.adverse.tolist():
            assert body.scored_by(row).digest == digests[row].decode()
            named.add(body.scored_by(row).digest)
    assert named == {*two}


@pytest.fixture
def office(broker, settings, two):
    """An engine in office over a real log, its champion in force."""
    with logs.in_office(settings, two[0]) as found:
        yield found


def test_a_split_begins_and_ends_over_the_log_and_a_replay_makes_every_decision_again(settings, two, office, payments):
    process, signed = office
    logs.pay(settings, payments[:150])
    assert logs.turned(process, lambda: control.put_split(settings, two[1], SHARE_BP, *signed)) == []
    logs.pay(settings, payments[150:300])
    logs.turned(process)
    while process.beside.busy:
        process.once()
    process.close()
    later = job.Process(settings)
    later.take_office()
    assert logs.turned(later, lambda: control.end_split(settings, *signed)) == []
    logs.pay(settings, payments[300:450])
    logs.turned(later)
    later.office.writer.flush()
    later.close()
    made = logs.on(settings, topics.DECISIONS, DECISION)
    assert [one["offset"] for one in made] == sorted({one["offset"] for one in made})
    assert {one["arm"] for one in made} == {None, "champion", "challenger"}
    assert made[-1]["arm"] is None
    challenged = {one["decision_id"] for one in made if one["arm"] == "challenger"}
    explained = [one for one in logs.on(settings, topics.DECISIONS, REASONS) if one["decision_id"] in challenged]
    assert {one["model_digest"] for one in explained} == {two[1]}
    found = replay.replayed(settings, 0, None, None, None)
    assert found.passed, found.as_text()
    assert found.controls == 3


def test_two_people_sign_a_split_and_a_challenger_that_cannot_be_staged_has_no_part_in_one(
    settings, two, office, payments
):
    process, (author, approver, received_ms) = office
    with pytest.raises(ControlRefused, match="approved their own"):
        control.activate(settings, "split", asked(two[1]), author, author, received_ms)
    models.altered(settings, two[1], XGBOOST)
    (refused,) = logs.turned(
        process, lambda: control.put_split(settings, two[1], SHARE_BP, author, approver, received_ms)
    )
    assert "did not stage" in str(refused)
    with pytest.raises(ControlRefused, match="not staged"):
        control.activate(settings, "split", asked(two[1]), author, approver, received_ms)
    with pytest.raises(ControlRefused, match="at most 2000 basis points"):
        control.put_split(settings, two[1], 2_001, author, approver, received_ms)
    logs.pay(settings, payments[:40])
    logs.turned(process)
    process.office.writer.flush()
    assert {one["arm"] for one in logs.on(settings, topics.DECISIONS, DECISION)} == {None}
    values = [one for one in payments[:40] if one[:PREFIX_BYTES] == PAYMENT.prefix]
    assert len(values) == len(logs.on(settings, topics.DECISIONS, DECISION))
