"""The ladder: what decides while something is broken, and that no error ever approves more than the limit."""

from collections import Counter
from dataclasses import replace

import logs
import models
import numpy as np
import pytest

from decisions import job, reasons
from decisions.boosted import Boosted
from decisions.bundle import ISOLATION, XGBOOST
from decisions.forests import LEAF, joined
from decisions.ladder import RUNGS, held_back, in_base_currency, static_outcome
from decisions.replay import given
from decisions.staging import Stager
from expectations.reference import Reference
from features.catalogue import NAMES
from lakehouse import topics
from lakehouse.errors import BundleRefused, RangeMissing, Terminal
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.single import read

DECISION = registry().latest("decision")
LIMIT = 5_000
NEVER_CUTS = {"challenge": 0.999998, "review": 0.999999, "decline": 1.0}


@pytest.mark.parametrize(
    ("channel", "amount_base_minor", "outcome"),
    [
        *(("pos", 0, "approve"), ("pos", 5_000, "approve"), ("pos", 5_001, "review")),
        *(("ecom", 3_000, "approve"), ("ecom", 3_001, "challenge"), ("ecom", 50_001, "review")),
        *(("moto", 0, "approve"), ("moto", 1, "review")),
        *(("wallet", 5_000, "approve"), ("wallet", 5_001, "challenge"), ("atm", 5_001, "review")),
        *(("carrier pigeon", 0, "review"), ("ecom", None, "review")),
    ],
)
def test_the_static_policy_looks_at_amount_and_channel(settings, channel, amount_base_minor, outcome):
    assert static_outcome(settings.ladder, amount_base_minor, channel) == outcome


def test_the_static_policy_stays_below_the_limit_of_all_rungs(settings):
    low = settings.ladder.model_copy(update={"approve_up_to_minor": 1_000})
    assert [static_outcome(low, amount, "pos") for amount in (1_000, 1_001)] == ["approve", "review"]


def test_below_full_a_larger_amount_is_not_approved_and_nothing_becomes_milder():
    assert [held_back("approve", amount, 5_000) for amount in (5_000, 5_001, None)] == ["approve", "review", "review"]
    for outcome in ("challenge", "review", "decline"):
        assert [held_back(outcome, amount, 5_000) for amount in (1, 10**9, None)] == [outcome] * 3


def test_an_amount_is_converted_as_admission_does_or_not_at_all():
    reference = Reference.of(1, logs.reference())
    assert in_base_currency(reference, 1_234, "EUR") == 1_234
    assert in_base_currency(reference, 1_234, "XXX") is None
    assert in_base_currency(None, 1_234, "EUR") is None


@pytest.fixture
def world(settings, tmp_path):
    """(settings, digest, records): a model that approves everything it scores, and a few payments."""
    settings = settings.model_copy(update={"ladder": settings.ladder.model_copy(update={"retry_s": 0.001})})
    folder = logs.keys_folder(settings)
    digest = models.stored(settings.models.store, tmp_path / "scratch", folder, cuts=NEVER_CUTS)
    versions = {}
    first = [logs.control(settings, versions, "reference", logs.reference()), *logs.model(settings, versions, digest)]
    return settings, digest, [*first, *logs.payments(per_day=100, span=1)]


def by_rules(settings):
    """The settings under which an engine without a model goes on."""
    return settings.model_copy(update={"ladder": settings.ladder.model_copy(update={"without_model": "rules"})})


def judged(engine, values):
    """The decisions on accepted payments."""
    return [one for one in logs.columns(logs.decided(engine, logs.messages(values))) if one["outcome"] != b"rejected"]


def rungs(found):
    return {one["rung"].decode() for one in found}


def approves_nothing_large(found):
    """Whether every approval is small, and some payment was held back."""
    small = all(one["amount_base_minor"] <= LIMIT for one in found if one["outcome"] == b"approve")
    return small and any(one["outcome"] == b"review" for one in found)


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_without_its_anomaly_model_the_other_one_decides(world, damage):
    settings, digest, values = world
    if damage == "altered":
        models.altered(settings, digest, ISOLATION)
    else:
        (settings.models.store / digest / ISOLATION).unlink()
    engine = logs.engine(settings)
    found = judged(engine, values)
    assert rungs(found) == {"without_anomaly"}
    assert all(one["score"] == one["score_xgboost"] is not None for one in found)
    assert {one["score_isolation_forest"] for one in found} == {None}
    assert {one["model_digest"].decode() for one in found} == {digest}
    assert approves_nothing_large(found)
    (fault,) = engine.faults
    assert fault.startswith(f"Model bundle {digest[:12]} was refused: isolation.arrays ")
    assert damage in fault


def test_a_model_with_one_altered_byte_stops_the_engine_or_leaves_it_with_its_rules(world):
    settings, digest, values = world
    models.altered(settings, digest, XGBOOST)
    with pytest.raises(BundleRefused, match=r"xgboost\.json was altered"):
        judged(logs.engine(settings), values)
    found = judged(logs.engine(by_rules(settings)), values)
    assert rungs(found) == {"rules_only"}
    assert {(one["score"], one["score_xgboost"], one["score_with_rules"]) for one in found} == {(None, None, 0.0)}
    assert approves_nothing_large(found)


def test_before_the_first_model_the_engine_stops_or_decides_by_its_rules(world):
    settings, _, values = world
    without = [values[0], *values[4:]]
    with pytest.raises(Terminal, match="no model is in force"):
        judged(logs.engine(settings), without)
    found = judged(logs.engine(by_rules(settings)), without)
    assert rungs(found) == {"rules_only"}
    assert {one["model_digest"] for one in found} == {None}
    assert approves_nothing_large(found)


def test_the_rung_is_left_at_a_batch_boundary_once_the_model_is_there_again(world):
    settings, digest, values = world
    for name, worst in ((ISOLATION, "without_anomaly"), (XGBOOST, "rules_only")):
        mend = models.altered(settings, digest, name)
        engine = logs.engine(by_rules(settings))
        stager = Stager(settings, engine)
        first = judged(engine, values[:60])
        assert (rungs(first), engine.wanted) == ({worst}, [digest])
        stager.look(None)
        stager.wait()
        assert engine.wanted == [digest]
        mend()
        while engine.wanted and engine.shelf.held(digest) is None:
            stager.look(None)
            stager.wait()
        last = logs.columns(logs.decided(engine, logs.messages(values)[60:]))
        assert (rungs(last), engine.wanted) == ({"full"}, [])


def begun(settings, values):
    """An engine with everything in force, in front of the first payment."""
    engine = logs.engine(settings)
    engine.decide(logs.messages(values[:4]))
    return engine


def rest(engine, values):
    return logs.decided(engine, logs.messages(values)[4:])


def broken(engine, **changes):
    """Give the engine's model a fault that no verification can find."""
    engine._champion.model = replace(engine._champion.model, **changes)
    return engine


def spoiled(part):
    """A forest, or what has one, whose every leaf is no number."""
    if isinstance(part, Boosted):
        return replace(part, forest=spoiled(part.forest))
    return replace(part, value=np.full_like(part.value, np.nan))


@pytest.mark.parametrize(("part", "rung"), [("isolation", "without_anomaly"), ("supervised", "rules_only")])
def test_a_score_that_is_no_number_takes_its_payment_to_a_lower_rung_and_a_replay_is_told(world, part, rung):
    settings, _, values = world
    engine = begun(settings, values)
    lived = rest(broken(engine, **{part: spoiled(getattr(engine._champion.model, part))}), values)
    found = logs.columns(lived)
    assert rungs(found) == {rung}
    assert all(one["score"] is None or np.isfinite(one["score"]) for one in found)
    assert approves_nothing_large(found)
    told = {one["offset"]: one["rung"].decode() for one in found}
    sound = logs.engine(settings, told=told.__getitem__)
    assert logs.decided(sound, logs.messages(values)) == lived


def test_only_the_payments_whose_score_is_no_number_fall(world):
    settings, _, values = world
    at = NAMES.index("amount_minor")
    nodes = {"feature": [at, LEAF, LEAF], "threshold": [3_000, 0, 0], "left": [1, 0, 0], "right": [2, 0, 0]}
    tree = {**nodes, "missing_left": [True] * 3, "value": [0, 1, np.nan]}
    forest = joined([{name: np.array(values) for name, values in tree.items()}])
    whole = logs.columns(rest(broken(begun(settings, values), isolation=forest), values))
    for one in whole:
        above = np.frombuffer(one["vector"], np.float32)[at] >= 3_000
        assert one["rung"] == (b"without_anomaly" if above else b"full")
    assert rungs(whole) == {"full", "without_anomaly"}
    again = broken(begun(settings, values), isolation=forest)
    assert logs.columns(logs.decided(again, logs.messages(values)[4:], range(1, len(values) - 4))) == whole


def test_rules_that_fail_leave_amount_and_channel(world):
    settings, _, values = world
    engine = begun(settings, values)
    vars(engine.state.admission.in_force.rules)["program"] = None
    lived = rest(engine, values)
    found = logs.columns(lived)
    assert rungs(found) == {"static_policy"}
    assert {one["risk"] for one in found} == {one["score_with_rules"] for one in found} == {None}
    assert {one["outcome"] for one in found} == {b"approve", b"challenge", b"review"}
    assert approves_nothing_large(found)
    assert engine.faults[0].startswith("Rules failed on payments from offset 4 on: AttributeError at ruling.py:")
    told = {one["offset"]: one["rung"].decode() for one in found}
    assert logs.decided(logs.engine(settings, told=told.__getitem__), logs.messages(values)) == lived


def test_on_a_full_rung_the_limit_holds_nothing_back(world):
    settings, _, values = world
    found = judged(logs.engine(settings), values)
    assert (rungs(found), {one["outcome"] for one in found}) == ({"full"}, {b"approve"})
    assert max(one["amount_base_minor"] for one in found) > LIMIT


@pytest.fixture
def fallen(broker, settings, tmp_path):
    """(settings, how many were counted by rung, decisions): some before the first model, some by half of one.

    A second engine took the whole log again, decided nothing, and counted too.
    """
    settings = by_rules(settings)
    digest = models.stored(settings.models.store, tmp_path / "scratch", logs.keys_folder(settings))
    models.altered(settings, digest, ISOLATION)
    versions, values = {}, logs.payments(per_day=450, span=1, faults=1)
    half = len(values) // 2
    reference = logs.control(settings, versions, "reference", logs.reference())
    topics.ensure(settings)
    sent = [reference, *values[:half], *logs.model(settings, versions, digest), *values[half:]]
    logs.pay(settings, sent)
    before = counted()
    for _ in range(2):
        process = job.Process(settings)
        process.take_office()
        while process.engine.state.place.next_offset < len(sent):
            process.once()
        process.office.writer.flush()
        process.close()
    decided = [read(DECISION, one) for one in given(settings, 0, None) if one[:PREFIX_BYTES] == DECISION.prefix]
    return settings, counted() - before, decided


def counted():
    """Payments by rung as the metrics of this process have them."""
    return Counter({rung: int(job.BY_RUNG.labels(rung)._value.get()) for rung in RUNGS})


def test_a_decision_is_counted_once_by_its_rung_and_a_rejected_payment_by_none(fallen):
    _, by_rung, decided = fallen
    assert by_rung == Counter(one["rung"] for one in decided if one["outcome"] != "rejected")
    assert set(by_rung) == {"rules_only", "without_anomaly"}
    assert "rejected" in {one["outcome"] for one in decided}


def test_reasons_are_told_by_what_scored_and_not_at_all_where_no_model_did(fallen):
    settings, _, decided = fallen
    by_rules_only, half = (
        next(one for one in decided if one["rung"] == rung and one["outcome"] != "rejected")
        for rung in ("rules_only", "without_anomaly")
    )
    with pytest.raises(RangeMissing, match=r"no scored decision with .*decided without a model, has no score"):
        reasons.found(settings, "decision_id", by_rules_only["decision_id"])
    said = reasons.why(settings, reasons.found(settings, "decision_id", half["decision_id"]))
    assert (said["score"], said["rung"]) == (half["score_xgboost"], "without_anomaly")
    assert {one["isolation_forest_steps"] for one in said["features"]} == {0.0}
    assert reasons.as_text(said).startswith(f"{half['transaction_id']}: {half['outcome']}, score ")
