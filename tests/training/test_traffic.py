"""A traffic split is planned, begun, judged and ended on record, and its challenger's guard rails end it."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from decisions import control, split_control
from lakehouse import delta, signing, topics, trail
from lakehouse.contracts import silver
from lakehouse.errors import ControlRefused
from lakehouse.registry import PREFIX_BYTES, registry
from tests.decisions import logs, models
from tests.filled import row
from tests.serving.running import until
from tests.training.live import AS_OF, CUTS, Live
from training import approval, following, guarding, promote, promotion, traffic
from training.promotion import Signers

SHARE_BP = 2_000
PAYMENT = registry().latest("payment").prefix


@pytest.fixture
def world(broker, settings, tmp_path):
    """A champion in force, an engine in office that serves it, and matured decisions of that champion in the lake."""
    rails = {"least_payments": 10, "look_s": 0.1, "latency_ms": 1e9, "error_rate": 1.0}
    settings = settings.model_copy(update={"guard": settings.guard.model_copy(update=rails)})
    topics.ensure(settings)
    by = Signers.local(settings)
    store, keyring = settings.models.store, logs.keys_folder(settings)
    digests = [models.stored(store, tmp_path / "scratch", keyring, 1, one) for one in CUTS]
    control.activate(settings, "reference", logs.reference(), *by, logs.END_MS - 10**9)
    control.put_model(settings, digests[0], *by, logs.END_MS - 10**9, here=True)
    live = Live(settings)
    delta.append(settings.lake.root, silver.BALANCE, [row(silver.BALANCE, 5_000, engine_clock=AS_OF)])
    yield SimpleNamespace(settings=settings, live=live, by=by, digests=digests)
    live.stop()


def decided(world, first, arms):
    """Matured decisions from an offset on, one a customer, every tenth a fraud; with arms every fifth is challenged.

    The challenger stops the frauds of its customers, and every hundredth honest one.
    """
    root, topic_id = world.settings.lake.root, promotion.log_of(world.settings)
    decisions, labels = [], []
    for n in range(4_000):
        challenged, fraud, at = arms and n % 5 == 0, (n // 5) % 10 == 0, AS_OF - timedelta(days=20, minutes=n)
        named = {"arm": None, "arm_probability": None}
        if arms:
            named = {"arm": "challenger", "arm_probability": 0.2} if challenged else {}
            named = named or {"arm": "champion", "arm_probability": 0.8}
        stopped = challenged and (fraud or n % 100 == 5)
        about = {
            "transaction_id": f"t{first + n}",
            "event_time": at,
            "customer_token": f"c{n}",
            "amount_base_minor": 8_000,
            "outcome": "review" if stopped else "approve",
            "model_digest": world.digests[challenged],
            "decision_offset": first + n,
        }
        decisions.append(row(silver.DECISIONS, first + n, topic_id=topic_id, **about, **named))
        if fraud:
            known = {"label_available_at": at + timedelta(days=3), "engine_clock": at + timedelta(days=3)}
            word = {"label_id": f"l{first + n}", "transaction_id": f"t{first + n}", "source": "chargeback"}
            labels.append(row(silver.LABELS, 10_000 + first + n, is_fraud=True, confidence=1.0, **word, **known))
    delta.append(root, silver.DECISIONS, decisions)
    delta.append(root, silver.LABELS, labels)


def steps(settings, digest):
    """What the audit trail tells of a model's splits."""
    found = trail.entries(trail.place_of(settings))
    told = [one for one in found if one.subject == digest and one.action.startswith(("promotion", "split"))]
    return [one.action for one in told], told[-1].details


def paid(world, values):
    """Have payments decided; their decisions."""
    before = len(world.live.decided(0))
    world.live.pay(values)
    return world.live.decided(before + len(values))[before:]


@pytest.fixture(scope="module")
def payments():
    return [one for one in logs.payments(per_day=500, span=1) if one[:PREFIX_BYTES] == PAYMENT]


def test_a_split_is_planned_begun_judged_and_ended_on_record(world, payments):
    settings, (champion, challenger, _) = world.settings, world.digests
    with pytest.raises(ControlRefused, match=r"No payment that model .* decided is matured"):
        traffic.begin(settings, challenger, SHARE_BP, world.by, print)
    assert steps(settings, challenger) == (
        ["promotion.refused"],
        {"step": "split", "reason": steps(settings, challenger)[1]["reason"]},
    )
    decided(world, 100_000, arms=False)
    with pytest.raises(ControlRefused, match="would approve their own work"):
        traffic.begin(settings, challenger, SHARE_BP, Signers(world.by.author, world.by.author), print)
    with pytest.raises(ControlRefused, match="at most 2000 basis points"):
        traffic.begin(settings, challenger, 2_001, world.by, print)
    with pytest.raises(ControlRefused, match="was begun"):
        traffic.judge(settings, challenger)
    assert {one["arm"] for one in paid(world, payments[:50])} == {None}
    said, before = [], sum(1 for _ in trail.entries(trail.place_of(settings)))
    plan = traffic.begin(settings, challenger, SHARE_BP, world.by, said.append)
    assert said == [f"planned: {plan.text()}"]
    assert "clustered by customer, both arms" in plan.text()
    assert traffic.challenger(settings) == challenger
    # The plan was on record before anybody decided by it.
    told = [(one.action, one.subject) for one in list(trail.entries(trail.place_of(settings)))[before:]]
    assert told.index(("split.began", challenger)) < told.index(("control.activated", "split version 1"))
    found = paid(world, payments[50:200])
    assert {(one["arm"], one["model_digest"]) for one in found} == {
        ("champion", champion),
        ("challenger", challenger),
    }
    in_log = promotion.past_of(settings)
    events = [
        row(
            silver.CONTROL,
            offset,
            topic_id=promotion.log_of(settings),
            scope=scope,
            version=1,
            payload=in_log.payloads[scope, 1],
        )
        for offset, scope in ((150_000, "model"), (150_001, "split"))
    ]
    delta.append(settings.lake.root, silver.CONTROL, events)
    decided(world, 200_000, arms=True)
    criteria = traffic.judge(settings, challenger)
    assert [(one.name, one.passed) for one in criteria] == [("evidence", True), ("balance", True), ("money", True)]
    assert criteria[0].found.startswith("4,000 matured payments, 800 of them the challenger's, 400 frauds")
    digest, offset = traffic.end(settings, "a test")
    assert digest == challenger
    assert {one["arm"] for one in paid(world, payments[200:240])} == {None}
    actions, last = steps(settings, challenger)
    assert actions[-2:] == ["split.began", "split.ended"]
    assert last == {"reason": "a test", "offset": offset}
    with pytest.raises(ControlRefused, match="No split is on"):
        traffic.end(settings, "again", world.by)
    assert trail.verified(trail.place_of(settings), Path(settings.keys.folder) / signing.TRUSTED).problems == []


def test_a_challenger_that_breaks_a_guard_rail_decides_nothing_any_more_and_the_champion_stays(world, payments):
    settings, (champion, challenger, other) = world.settings, world.digests
    decided(world, 100_000, arms=False)
    traffic.begin(settings, challenger, SHARE_BP, world.by, print)
    paid(world, payments[:150])
    said = []
    patient = settings.guard.model_copy(update={"least_payments": 10**9})
    watcher = following.Watcher(settings.model_copy(update={"guard": patient}), said.append)
    watcher._look_at_split()
    assert said == []
    assert watcher._split.digest == challenger
    # The end of a promotion's watch is not the end of this one.
    watcher._guard, watch = guarding.Watch(watcher._settings, champion), watcher._split
    watcher._look_at_guard()
    assert watcher._guard is not None, "too few payments: it goes on"
    watcher._guard.judged = True
    watcher._look_at_guard()
    assert (watcher._guard, watcher._split) == (None, watch)
    # What nobody saw in shadow: nearly everything is approved, whichever customers are the challenger's.
    watcher._split._approved, watcher._split._of = np.zeros(100), settings.guard
    until(lambda: watcher._look_at_split() or said)
    (told,) = said
    assert told.startswith(f"the split of model {challenger[:12]} ends at offset ")
    assert "approval rate changed by +" in told
    assert steps(settings, challenger)[0][-1] == "split.ended"
    assert traffic.challenger(settings) is None
    assert {(one["arm"], one["model_digest"]) for one in paid(world, payments[150:200])} == {(None, champion)}
    watcher._look_at_split()
    assert (len(said), watcher._split) == (1, None)
    # A split that cannot be ended is left alone, and the next one, be it of the same challenger, is watched again.
    traffic.begin(settings, other, SHARE_BP, world.by, print)
    (settings.models.store / other / approval.SPLIT_END).unlink()
    assert {one["arm"] for one in paid(world, payments[200:300])} == {"champion", "challenger"}
    watcher._look_at_split()
    watcher._split._approved, watcher._split._of = np.zeros(100), settings.guard
    until(lambda: watcher._look_at_split() or len(said) > 1)
    assert said[1].startswith("the split was not ended, though ")
    watcher._look_at_split()
    assert (len(said), watcher._split) == (2, None)
    traffic.begin(settings, other, SHARE_BP // 2, world.by, print)
    watcher._look_at_split()
    assert watcher._split.digest == other
    # Another model in force ends a split, on record; it is no longer watched, and nobody is rolled back for it.
    _, offset = control.put_model(settings, challenger, *world.by)
    paid(world, payments[300:330])
    assert following.guarded_split(settings, other, said.append)
    assert len(said) == 2
    assert promotion.in_force(settings) == challenger
    assert steps(settings, other) == (
        ["split.began", "split.began", "split.ended"],
        {"reason": "model version 2 is in force", "offset": offset},
    )
    shown = split_control.shown(promotion.past_of(settings).now)
    assert shown == f"model {other[:12]} decides nothing any more: another version of scope model is in force"
    watcher.close()


def test_the_command_wants_a_share_to_begin_and_a_reason_to_end(settings, monkeypatch):
    given = promote._parser().parse_args(["split", "--digest", "a" * 64])
    with pytest.raises(ControlRefused, match="--share-bp 1000 is 10 %"):
        promote._run(given, settings)
    given = promote._parser().parse_args(["split", "--end"])
    with pytest.raises(ControlRefused, match="needs its --reason"):
        promote._run(given, settings)
