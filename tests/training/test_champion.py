"""Drift, retraining and batch scores are of the model in force, whoever bears the registry's alias."""

import pytest

from decisions.champion import champion
from expectations.rules.rule_set import payload_of
from gold.job import Gold
from lakehouse import delta
from lakehouse.contracts import silver
from lakehouse.contracts.quality import DRIFT
from lakehouse.errors import ControlRefused
from lakehouse.jobs import Context
from tests.decisions import models
from tests.filled import DAY_1, row
from tests.training.live import CUTS
from training import drift, retrain


def into_force(settings, first, *digests, scope="model"):
    """Control events of silver, from an offset on."""
    events = [
        row(silver.CONTROL, first + at, scope=scope, version=first + at, payload=payload_of({"digest": digest}))
        for at, digest in enumerate(digests)
    ]
    delta.append(settings.lake.root, silver.CONTROL, events)


@pytest.fixture
def world(settings, tmp_path):
    """Two bundles in the store, and a registry that nobody can ask."""
    nowhere = settings.models.model_copy(update={"registry_uri": "http://127.0.0.1:1"})
    settings = settings.model_copy(update={"models": nowhere})
    store, keyring = settings.models.store, settings.keys.folder
    return settings, [models.stored(store, tmp_path / "scratch", keyring, 1, cuts) for cuts in CUTS[:2]]


def test_the_champion_is_the_model_that_was_gone_back_to_and_not_one_in_shadow(world):
    settings, (first, second) = world
    into_force(settings, 1, first, second)
    assert champion(settings.lake.root) == second
    into_force(settings, 3, first)
    into_force(settings, 4, second, scope="shadow")
    assert champion(settings.lake.root) == first


def test_what_is_watched_retrained_for_and_scored_by_is_the_model_in_force(world):
    settings, (first, second) = world
    gold = Gold(Context(settings, None, True, None))
    for work in (drift.champion, lambda given: retrain.retrained(given, True, None)):
        with pytest.raises(ControlRefused, match=r"No model is in force: .* Put one into force"):
            work(settings)
    assert not gold.scorable()
    into_force(settings, 1, first, second, first)
    assert gold.scorable()
    assert drift.champion(settings).digest == first
    # What drifts from a model that decides nothing is no reason to train.
    alarm = {"window_end": DAY_1, "subject": "score", "measure": "psi", "alarm": True}
    delta.append(settings.lake.root, DRIFT, [row(DRIFT, 0, model_digest=second, **alarm)])
    assert retrain.retrained(settings, True, None) is None
