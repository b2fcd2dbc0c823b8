"""Contributions are the library's and the definition's; reasons follow a decision and never hold it up."""

import itertools
import math
import time
from collections import deque

import logs
import models
import numpy as np
import orjson
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st

from decisions.beside import Beside
from decisions.bundle import Model
from decisions.contributions import covers_of_isolation, covers_of_xgboost, explainer
from decisions.explained import contributions, reasons
from decisions.forests import LEAF, joined, of_xgboost, path_lengths
from decisions.reason_codes import CODES, FAMILIES, SENTENCES
from decisions.ruling import CODES as LIST_CODES
from features.catalogue import FEATURES, NAMES
from lakehouse.registry import registry
from lakehouse.single import read
from training.fit import refitted
from training.package import model_of

CUTS = {"challenge": 0.3, "review": 0.5, "decline": 0.8}


@pytest.mark.parametrize("depth", [1, 2, 3, 6, 7])
def test_contributions_to_the_margin_equal_the_librarys(seed, depth):
    X, fraud = models.vectors(seed, 1500)
    booster = refitted(X, fraud, np.arange(len(X)), {"max_depth": depth, "learning_rate": 0.1}, 20, seed % 1000)
    parsed = orjson.loads(bytes(booster.save_raw("json")))
    forest, base = of_xgboost(parsed)
    mine = explainer(forest, covers_of_xgboost(parsed, forest))
    theirs = booster.predict(xgb.DMatrix(X[:300]), pred_contribs=True)
    assert np.abs(mine.contributions(X[:300]) - theirs[:, :-1]).max() < 1e-6
    assert np.abs(base + mine.expected - theirs[:, -1]).max() < 1e-6


def _expectation(tree, cover, x, known, node=0):
    """The tree's mean output where only the features in `known` are known."""
    feature = tree["feature"][node]
    if feature == LEAF:
        return tree["value"][node]
    left, right = tree["left"][node], tree["right"][node]
    if feature in known:
        goes = tree["missing_left"][node] if np.isnan(x[feature]) else x[feature] < tree["threshold"][node]
        return _expectation(tree, cover, x, known, left if goes else right)
    parts = [cover[side] * _expectation(tree, cover, x, known, side) for side in (left, right)]
    return sum(parts) / (cover[left] + cover[right])


def _shapley(tree, cover, x):
    """The definition, over every subset of features."""
    n = len(x)
    out = np.zeros(n)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            share = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for some in itertools.combinations(others, size):
                gain = _expectation(tree, cover, x, {*some, i}) - _expectation(tree, cover, x, set(some))
                out[i] += share * gain
    return out


@st.composite
def trees(draw, features=4):
    """A tree of up to fifteen leaves with the weight of every node; features repeat on a path."""
    names = ("feature", "threshold", "left", "right", "missing_left", "value")
    tree, cover = {name: [0] for name in names}, [0.0]
    tree["feature"][0] = LEAF
    for _ in range(draw(st.integers(0, 14))):
        leaves = [at for at, feature in enumerate(tree["feature"]) if feature == LEAF]
        node, first = draw(st.sampled_from(leaves)), len(cover)
        tree["feature"][node] = draw(st.integers(0, features - 1))
        tree["threshold"][node] = draw(st.integers(-2, 2))
        tree["left"][node], tree["right"][node] = first, first + 1
        tree["missing_left"][node] = draw(st.booleans())
        for name in names:
            tree[name] += [LEAF if name == "feature" else 0] * 2
        cover += [0.0, 0.0]
    for node in range(len(cover) - 1, -1, -1):
        if tree["feature"][node] == LEAF:
            tree["value"][node] = draw(st.integers(-9, 9))
            cover[node] = float(draw(st.integers(1, 9)))
        else:
            cover[node] = cover[tree["left"][node]] + cover[tree["right"][node]]
    return tree, cover


@given(trees(), st.lists(st.sampled_from([-2.5, -0.5, 0.5, 1.5, math.nan]), min_size=4, max_size=4))
def test_contributions_are_the_shapley_values_of_the_definition(made, x):
    tree, cover = made
    forest = joined([{name: np.array(values) for name, values in tree.items()}])
    old = [0]
    for node in old:
        if tree["feature"][node] != LEAF:
            old += [tree["left"][node], tree["right"][node]]
    mine = explainer(forest, np.array(cover)[old])
    X = np.array([x], np.float32)
    assert np.allclose(mine.contributions(X)[0], _shapley(tree, cover, X[0]), atol=1e-9)
    assert mine.expected == pytest.approx(_expectation(tree, cover, X[0], set()))


def test_contributions_to_path_lengths_sum_to_the_path_length_of_every_payment(seed):
    made = models.fitted()
    cover = covers_of_isolation(made.isolation, made.isolation_expected_path)
    assert set(cover[made.isolation.root]) == {256.0}, "the samples of every tree are known again from its leaves"
    mine = explainer(made.isolation, cover)
    X = np.nan_to_num(models.vectors(seed, 300)[0])
    sums = (mine.contributions(X).sum(1) + mine.expected) / len(made.isolation.root)
    assert np.abs(sums - path_lengths(made.isolation, X)).max() < 1e-9


def test_what_families_added_sums_to_the_score(seed):
    model = model_of(models.fitted(), CUTS)
    X, _ = models.vectors(seed, 200)
    found = contributions(model, X)
    added = [sum(reason.added.values()) for reason in reasons(found)]
    assert np.abs(found.expected_score + np.array(added) - model.scores(X).ensemble).max() < 1e-5


def test_a_payment_that_only_one_feature_speaks_against_is_refused_for_that_features_family():
    made = models.fitted()
    model = model_of(made, CUTS)
    X, _ = models.vectors(3, 2000)
    found = contributions(model, X)
    row = int(np.argmax(found.score[:, 0]))
    (reason,) = reasons(type(found)(*(part[row : row + 1] for part in found[:3]), found.expected_score))
    assert reason.features[0] == NAMES[0]
    assert reason.codes[0] == CODES[FEATURES[0].family] == "MODEL_VELOCITY"


def test_every_family_has_a_code_a_sentence_and_a_field_and_every_list_a_sentence():
    assert set(CODES) == set(FAMILIES) == {feature.family for feature in FEATURES}
    assert set(SENTENCES) == {*CODES.values(), *LIST_CODES.values()}
    fields = {field["name"] for field in registry().latest("reasons").parsed["fields"]}
    assert {f"added_{family}" for family in FAMILIES} == {name for name in fields if name.startswith("added_")}


@pytest.fixture
def bodies(settings, tmp_path):
    """What an engine decides of a small world under cuts that approve half of it."""
    digest = models.stored(settings.models.store, tmp_path / "scratch", logs.keys_folder(settings))
    cuts = orjson.dumps({"cuts": {"challenge": 0.02, "review": 0.1, "decline": 0.9}}).decode()
    versions = {}
    values = [
        logs.control(settings, versions, "reference", logs.reference()),
        *logs.model(settings, versions, digest),
        logs.control(settings, versions, "thresholds", cuts),
        *logs.payments(faults=1),
    ]
    return logs.engine(settings).decide(logs.messages(values))


def _all(beside):
    deadline = time.monotonic() + 120
    out = []
    while beside.busy:
        assert time.monotonic() < deadline
        out += beside.finished()
        time.sleep(0.005)
    return out


def test_every_decision_that_neither_approves_nor_rejects_is_followed_by_its_reasons(bodies):
    beside = Beside(10_000)
    adverse = {}
    for body in bodies:
        beside.take(body)
        for row, outcome in enumerate(body.texts("outcome")):
            if outcome not in (b"approve", b"rejected"):
                adverse[body.transaction_id[row]] = body.texts("decision_id")[row].decode()
    found = {key: read(registry().latest("reasons"), record) for record, key in _all(beside)}
    beside.stop()
    assert len(adverse) > 10
    assert {key: one["decision_id"] for key, one in found.items()} == adverse


def test_what_was_on_the_topic_before_is_not_explained_again(bodies):
    beside = Beside(10_000)
    last = max(int(body.offset[-1]) for body in bodies)
    for body in bodies:
        beside.take(body, last)
    assert not beside.busy


def test_a_full_queue_passes_payments_over_and_does_not_wait(bodies):
    beside = Beside(3)
    (body,) = [body for body in bodies if len(body.adverse) > 3]
    beside.take(body)
    assert 1 <= len(_all(beside)) <= 3
    beside.stop()
    beside.take(body)
    assert not _all(beside), "after its end nobody explains"


class Looking(deque):
    """What waits, and what is said of it at the moment that something is taken out."""

    def __init__(self, beside):
        super().__init__()
        self.beside, self.seen = beside, []

    def popleft(self):
        taken = super().popleft()
        self.seen.append(self.beside.busy)
        return taken


def test_it_is_busy_from_the_moment_at_which_it_takes_a_payment_up(bodies):
    beside = Beside(1)
    waiting = beside._wanted = Looking(beside)
    beside.take(next(body for body in bodies if len(body.adverse)))
    assert len(_all(beside)) == 1
    beside.stop()
    assert waiting.seen == [True]


def test_a_model_explains_itself_after_its_bundle_was_written_and_read(settings, tmp_path):
    from decisions import bundle
    from lakehouse.signing import trust

    folder = logs.keys_folder(settings)
    digest = models.stored(settings.models.store, tmp_path / "scratch", folder)
    model: Model = bundle.load(settings.models.store, digest, trust(folder))
    X, _ = models.vectors(9, 20)
    assert np.array_equal(contributions(model, X).score, contributions(model_of(models.fitted(), CUTS), X).score)
