"""A challenger becomes champion on evidence and two signatures, at one place of the log, and goes back in seconds."""

import shutil
import socket
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from decisions import bundle, control
from decisions.bundle import XGBOOST
from decisions.shelf import Shelf
from features.catalogue import feature_set_hash
from lakehouse import delta, signing, topics, trail
from lakehouse import settings as conf
from lakehouse.contracts import gold, silver
from lakehouse.errors import BundleRefused, ControlRefused
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.signing import signer
from tests.decisions import logs, models
from tests.filled import row
from tests.training.live import AS_OF, CUTS, Live
from training import following, guarding, promotion
from training.aliases import REFUSED, Aliases
from training.promotion import Signers
from training.recut import recut
from training.registry import recorded


def history(settings, digests):
    """A training set, and matured payments on which the challenger saves: it declines frauds that others approve."""
    root = settings.lake.root
    X, fraud = models.vectors(3, 600)
    times = [AS_OF - timedelta(days=30, minutes=-n) for n in range(600)]
    rows = [
        row(
            gold.TRAINING_SET,
            n,
            transaction_id=f"h{n}",
            event_time=times[n],
            card_token=f"c{n % 300}",
            amount_base_minor=5_000,
            is_fraud=bool(fraud[n]),
            as_of=AS_OF,
            feature_set=feature_set_hash(),
            vector=X[n].tolist(),
        )
        for n in range(600)
    ]
    delta.append(root, gold.TRAINING_SET, rows)
    delta.append(root, silver.BALANCE, [row(silver.BALANCE, 5_000, engine_clock=AS_OF)])
    said, paid, labels = [], [], []
    for n in range(2_000):
        is_fraud = n % 20 == 0
        at = AS_OF - timedelta(days=20, seconds=-n)
        said.append(
            row(
                silver.SHADOW,
                n,
                transaction_id=f"t{n}",
                event_time=at,
                card_token=f"c{n}",
                amount_base_minor=8_000,
                model_digest=digests[1],
                champion_digest=digests[0],
                champion_outcome="approve",
                outcome="decline" if is_fraud else "approve",
                score=0.01 + 0.9 * is_fraud,
                champion_score=0.02,
                scoring_us=20.0,
                shadow_offset=n,
            )
        )
        paid.append(row(silver.PAYMENTS, n, transaction_id=f"t{n}", event_time=at, channel="ecom"))
        if is_fraud:
            labels.append(
                row(
                    silver.LABELS,
                    10_000 + n,
                    label_id=f"l{n}",
                    transaction_id=f"t{n}",
                    is_fraud=True,
                    source="chargeback",
                    confidence=1.0,
                    label_available_at=at + timedelta(days=3),
                    engine_clock=at + timedelta(days=3),
                )
            )
    delta.append(root, silver.SHADOW, said)
    delta.append(root, silver.PAYMENTS, paid)
    delta.append(root, silver.LABELS, labels)


@pytest.fixture(scope="module")
def bundles(state_folder, tmp_path_factory):
    """A store with a champion and two challengers."""
    folder = tmp_path_factory.mktemp("bundles")
    store, keyring = folder / "models", state_folder / "keys"
    split = {"fitted_until_ms": int((AS_OF - timedelta(days=40)).timestamp() * 1000)}
    digests = [models.stored(store, folder / "scratch", keyring, 1, one, split=split) for one in CUTS]
    return SimpleNamespace(store=store, digests=digests)


@pytest.fixture
def world(broker, settings, bundles):
    """A champion in force, an engine in office that serves it, and a lake with evidence."""
    shutil.copytree(bundles.store, settings.models.store)
    settings = settings.model_copy(
        update={"guard": settings.guard.model_copy(update={"least_payments": 40, "look_s": 0.1})}
    )
    topics.ensure(settings)
    by = Signers.local(settings)
    control.activate(settings, "reference", logs.reference(), *by, logs.END_MS - 10**9)
    control.put_model(settings, bundles.digests[0], *by, logs.END_MS - 10**9, here=True)
    live = Live(settings)
    yield SimpleNamespace(settings=settings, live=live, by=by, digests=bundles.digests)
    live.stop()


def steps(settings, digest):
    """What the audit trail tells of a model's promotion."""
    found = trail.entries(trail.place_of(settings))
    return [one.action for one in found if one.subject == digest and one.action.startswith(("promotion", "experiment"))]


def serving(found):
    return list(dict.fromkeys(one["model_digest"] for one in found if one["model_digest"]))


def test_a_challenger_is_promoted_on_evidence_at_one_place_and_rolled_back_without_a_lost_request(world):
    settings, live, (champion, challenger, _) = world.settings, world.live, world.digests
    history(settings, world.digests)
    values = logs.payments(per_day=300, span=1)
    paid = [value for value in values if value[:PREFIX_BYTES] == registry().latest("payment").prefix]
    live.pay(paid[:40])
    said = []
    plan = promotion.begin_shadow(settings, challenger, world.by, said.append)
    assert said == [f"planned: {plan.text()}"]
    live.pay(paid[40:80])
    criteria = promotion.approve(settings, challenger, world.by)
    assert [one.name for one in criteria] == ["evidence", "money", "segments", "calibration", "latency"]
    assert all(one.passed for one in criteria)
    live.pay(paid[80:120])
    swapped = promotion.promote(settings, challenger)
    live.pay(paid[120:160])
    back, gone_back = promotion.rollback(settings, "a test")
    live.pay(paid[160:200])
    found = live.decided(200)
    assert (back, serving(found), len(found)) == (champion, [champion, challenger], 200)
    assert {one["offset"]: one["model_digest"] == challenger for one in found} == {
        one["offset"]: swapped < one["offset"] < gone_back for one in found
    }
    told = ["experiment.began", "promotion.approved", "promotion.activated", "promotion.rolled_back"]
    assert steps(settings, challenger)[-4:] == told
    # Who asks once more does not get the model back that was gone back from.
    with pytest.raises(ControlRefused, match="no other model before"):
        promotion.rollback(settings, "again", world.by)
    with pytest.raises(ControlRefused, match="is no longer in force"):
        promotion.rollback(settings, "again", world.by, watched=challenger)
    assert promotion.in_force(settings) == champion
    assert trail.verified(trail.place_of(settings), Path(settings.keys.folder) / signing.TRUSTED).problems == []


def test_a_challenger_without_evidence_is_not_approved_and_the_serving_model_stays(world):
    settings, challenger = world.settings, world.digests[1]
    with pytest.raises(ControlRefused, match=r"No test of model .* was begun"):
        promotion.approve(settings, challenger, world.by)
    history(settings, [world.digests[0], world.digests[2]])
    promotion.begin_shadow(settings, challenger, world.by, print)
    with pytest.raises(ControlRefused, match="does not meet: evidence, money, calibration, latency"):
        promotion.approve(settings, challenger, world.by)
    with pytest.raises(ControlRefused, match="has no signed approval"):
        promotion.promote(settings, challenger)
    assert promotion.in_force(settings) == world.digests[0]
    assert steps(settings, challenger)[-1] == "promotion.refused"


def test_history_that_no_model_was_fitted_on_is_evidence_too(world):
    settings, challenger = world.settings, world.digests[1]
    history(settings, world.digests)
    found, money, *_ = promotion.judge(settings, challenger, on_history=True)
    assert found.found.startswith("600 matured payments")
    assert "at every look between" in money.found
    later = models.stored(
        settings.models.store,
        settings.models.store,
        settings.keys.folder,
        1,
        CUTS[2],
        split={"fitted_until_ms": logs.END_MS},
    )
    # Days on which its number of trees, calibration or cuts were chosen are no evidence either.
    chosen = {"fitted_until_ms": 0, "train_end_ms": logs.END_MS}
    store, keyring = settings.models.store, settings.keys.folder
    tuned = models.stored(store, store, keyring, 1, CUTS[2], split=chosen)
    for one in (later, tuned):
        with pytest.raises(ControlRefused, match=r"Every matured payment .* learnt from"):
            promotion.judge(settings, one, on_history=True)


def test_the_same_models_get_cuts_for_another_budget(settings, bundles, mlflow_server):
    shutil.copytree(bundles.store, settings.models.store)
    history(settings, bundles.digests)
    until = {"fitted_until_ms": logs.END_MS}
    folder, keyring = settings.models.store, settings.keys.folder
    digest = models.stored(folder, folder / "scratch", keyring, 1, CUTS[0], split=until)
    few, many = (recut(settings, digest, budget) for budget in (20.0, 200.0))
    cuts = [Shelf.of(settings).loaded(one).manifest["cuts"] for one in (few, many)]
    assert all(cuts[0][name] > cuts[1][name] for name in cuts[0])
    assert Aliases(settings).version_of(few) is not None


def test_an_author_is_not_the_approver_and_an_old_approval_is_worth_nothing(world, tmp_path):
    settings, (_, challenger, other) = world.settings, world.digests
    with pytest.raises(ControlRefused, match="would approve their own work"):
        promotion.approve(settings, challenger, Signers(world.by.author, world.by.author), "a test")
    promotion.approve(settings, challenger, world.by, "a test")
    promotion.approve(settings, other, world.by, "a test")
    promotion.promote(settings, other)
    with pytest.raises(ControlRefused, match="model version 2 does not follow version 2"):
        promotion.promote(settings, challenger)
    assert promotion.in_force(settings) == other


def altered(settings, digest):
    path = settings.models.store / digest / XGBOOST
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def of_another_feature_set(settings, digest):
    """Digest of the same bundle, properly signed, with another hash of its features."""
    folder = settings.models.store / digest
    manifest = orjson.loads((folder / bundle.MANIFEST).read_bytes())
    files = {name: (folder / name).read_bytes() for name in manifest["files"]}
    author = signer(conf.resolve(settings.keys.folder) / "author.pem")
    return bundle.write(settings.models.store, files, {**manifest, "feature_set": "00" * 32}, author)


def unsigned(settings, digest):
    (settings.models.store / digest / bundle.SIGNATURE).unlink()


def test_an_unsigned_or_tampered_model_is_refused_and_the_serving_model_stays(world):
    settings, (champion, one, other) = world.settings, world.digests
    promotion.approve(settings, one, world.by, "a test")
    altered(settings, one)
    unsigned(settings, other)
    for work in (
        lambda: promotion.promote(settings, one),
        lambda: promotion.approve(settings, one, world.by, "a test"),
    ):
        with pytest.raises(BundleRefused, match=r"xgboost\.json was altered"):
            work()
    with pytest.raises(BundleRefused, match=r"manifest\.signature is missing"):
        promotion.approve(settings, other, world.by, "a test")
    assert promotion.in_force(settings) == champion


def test_a_model_of_an_unknown_feature_set_is_refused_and_the_serving_model_stays(world):
    settings = world.settings
    strange = of_another_feature_set(settings, world.digests[1])
    with pytest.raises(BundleRefused, match="trained on another feature set"):
        promotion.approve(settings, strange, world.by, "a test")
    assert promotion.in_force(settings) == world.digests[0]


def test_a_champion_moved_in_the_registry_is_promoted_with_an_approval_guarded_and_else_tagged(
    world, mlflow_server, tmp_path, monkeypatch
):
    settings, live, (champion, challenger, _) = world.settings, world.live, world.digests
    named = settings.model_copy(update={"models": settings.models.model_copy(update={"name": "watched"})})
    for digest in (champion, challenger):
        recorded(named, {}, {}, {}, settings.models.store / digest, digest)
    aliases, said = Aliases(named), []
    watcher = following.Watcher(named, said.append)
    watcher.look()
    assert said == []
    aliases.make_champion(challenger)
    watcher.look()
    watcher.look()
    (refused,) = said
    assert "version 2 was refused, the serving model stays: Model" in refused
    tags = aliases._client.get_model_version("watched", "2").tags
    assert "has no signed approval" in tags[REFUSED]
    assert promotion.in_force(named) == champion
    promotion.approve(named, challenger, world.by, "a test")
    watcher.look()
    assert "version 2, model" in said[-1]
    assert promotion.in_force(named) == challenger
    assert REFUSED not in aliases._client.get_model_version("watched", "2").tags
    # What nobody saw in shadow: hardly anything is approved any more.
    monkeypatch.setattr(watcher._guard, "_approved", np.ones(100))
    values = logs.payments(per_day=300, span=1)
    paid = [value for value in values if value[:PREFIX_BYTES] == registry().latest("payment").prefix][:100]
    live.pay(paid)
    live.decided(100)
    watcher.look()
    assert "rolled back to model" in said[-1]
    assert "approval rate changed" in said[-1]
    assert promotion.in_force(named) == champion
    assert aliases.champion().digest == champion
    watcher.look()
    assert promotion.in_force(named) == champion
    watcher.close()


def test_a_guard_takes_back_nothing_but_the_model_it_watches(world, mlflow_server):
    settings, live, (_, challenger, other) = world.settings, world.live, world.digests
    settings = settings.model_copy(update={"models": settings.models.model_copy(update={"name": "taken-over"})})
    promotion.approve(settings, challenger, world.by, "a test")
    promotion.promote(settings, challenger)
    values = logs.payments(per_day=300, span=1)
    paid = [value for value in values if value[:PREFIX_BYTES] == registry().latest("payment").prefix]
    live.pay(paid[:100])
    live.decided(100)
    said = []
    watcher = following.Watcher(settings, said.append)
    watcher.look()
    assert said[0].startswith(f"model {challenger[:12]} was promoted ")
    assert watcher._guard.digest == challenger
    watcher.close()

    def looked(guard):
        watcher._guard, watcher._guard_until = guard, time.monotonic() + 3600
        until = time.monotonic() + 60
        while watcher._guard is not None:
            assert time.monotonic() < until
            watcher.look()
            time.sleep(0.05)
        return said[-1]

    # Somebody was faster than the guard, whose model broke its rails.
    control.put_model(settings, other, *world.by)
    guard = guarding.Watch(settings, challenger)
    guard._approved = np.ones(100)
    told = looked(guard)
    assert told.startswith("not rolled back, though ")
    assert "approval rate changed by" in told
    assert f"Model {challenger[:12]} is no longer in force" in told
    assert promotion.in_force(settings) == other
    live.pay(paid[100:120])
    live.decided(120)
    # However slow this machine is.
    rails = settings.guard.model_copy(update={"latency_ms": 1e9, "error_rate": 1.0})
    patient = settings.model_copy(update={"guard": rails})
    told = looked(guarding.Watch(patient, challenger))
    assert told == f"model {challenger[:12]} is no longer in force, and no longer watched"
    assert not following.guarded(patient, challenger, said.append)
    soon = settings.model_copy(update={"guard": rails.model_copy(update={"watch_s": 0.2, "least_payments": 10**6})})
    with pytest.raises(ControlRefused, match=r"was not judged: fewer than 1000000 payments in 0\.2 s"):
        following.guarded(soon, other, said.append)
    assert said[-1] == told
    assert promotion.in_force(settings) == other


def test_a_registry_that_answers_slowly_is_told_and_the_serving_model_stays(broker, settings, monkeypatch):
    topics.ensure(settings)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        slow = settings.model_copy(update={"models": settings.models.model_copy(update={"registry_uri": uri})})
        said = []
        watcher = following.Watcher(slow, said.append)
        watcher.look()
        watcher.look()
    (told,) = said
    assert told.startswith(f"nothing is promoted, the serving model stays: The MLflow server at {uri} does not answer")
