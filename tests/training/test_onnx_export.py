"""An exported ONNX graph gives the engine's scores, or is not written."""

import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from decisions import bundle
from decisions.forests import LEAF, joined
from decisions.network import NetworkRefused
from features.catalogue import NAMES
from lakehouse import settings as conf
from lakehouse.errors import BundleRefused
from lakehouse.signing import trust
from tests.decisions import models
from training.onnx_export import ExportRefused, exported, refuse_other, sample
from training.onnx_graph import graph_of

OUTPUTS = ["score", "score_xgboost", "score_isolation_forest"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return folder, models.stored(folder, folder / "scratch", conf.resolve(conf.load().keys.folder))


@pytest.fixture(scope="module")
def model(stored):
    return bundle.load(*stored, trust(conf.resolve(conf.load().keys.folder)))


def by_graph(raw, X):
    return onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"]).run(OUTPUTS, {"vectors": X})


def by_engine(model, X):
    found = model.scores(X)
    return found.ensemble, found.supervised, found.isolation_forest


def agree(raw, model, X):
    for one, other in zip(by_graph(raw, X), by_engine(model, X), strict=True):
        assert one.shape == (len(X),)
        assert np.abs(one - other).max() <= 1e-5


@pytest.fixture(scope="module")
def raw(model):
    return graph_of(model, {"bundle_digest": model.digest}).SerializeToString()


def test_random_vectors_with_missing_values_score_as_in_the_engine(raw, model, seed):
    agree(raw, model, models.vectors(seed, 3000)[0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 3.4e38, -3.4e38, 1e-45])
def test_a_vector_of_one_value_scores_as_in_the_engine(raw, model, value):
    agree(raw, model, np.full((1, len(NAMES)), value, np.float32))


def test_flags_and_codes_score_as_in_the_engine(raw, model, seed):
    agree(raw, model, np.random.default_rng(seed).integers(0, 4, (500, len(NAMES))).astype(np.float32))


def test_values_at_a_threshold_go_where_they_go_in_the_engine(raw, model):
    # A `<=` in place of `<` would move most of these to the other side.
    for forest in (model.supervised.forest, model.isolation):
        X = np.zeros((len(forest.child), len(NAMES)), np.float32)
        X[np.arange(len(X)), forest.feature] = forest.threshold
        agree(raw, model, X)


def test_a_tree_of_a_single_leaf_has_that_leafs_value(model):
    leaf = {"feature": [LEAF], "threshold": [0], "left": [0], "right": [0], "missing_left": [False], "value": [1.5]}
    question = {
        "feature": [0, LEAF, LEAF],
        "threshold": [2.0, 0, 0],
        "left": [1, 0, 0],
        "right": [2, 0, 0],
        "missing_left": [True, False, False],
        "value": [0, 0.25, -0.25],
    }
    forest = joined([{name: np.array(one) for name, one in tree.items()} for tree in (leaf, question, leaf)])
    small = replace(model, supervised=replace(model.supervised, forest=forest))
    X = np.zeros((3, len(NAMES)), np.float32)
    X[:, 0] = [1, 2, np.nan]
    agree(graph_of(small, {}).SerializeToString(), small, X)


def test_a_graph_of_another_model_is_refused(model):
    weights = {"xgboost": 0.5, "isolation_forest": 0.5}
    other = graph_of(replace(model, manifest={**model.manifest, "weights": weights}), {}).SerializeToString()
    with pytest.raises(ExportRefused, match=r"differs from the engine by 0\.\d+ over 2000 vectors; expected at most"):
        refuse_other(other, model, sample(model))


def test_without_the_packages_an_export_says_which_extra_to_install(settings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(NetworkRefused, match=r"An export needs onnx .* no onnx\. Install the extra: pip install"):
        exported(settings, "ab" * 32, tmp_path / "model.onnx")


def test_a_verified_bundle_is_exported_with_its_digest_and_an_altered_one_is_not(settings, stored, tmp_path):
    folder, digest = stored
    here = settings.model_copy(update={"models": settings.models.model_copy(update={"store": folder})})
    assert exported(here, digest, tmp_path / "model.onnx") <= 1e-5
    written = onnx.load(tmp_path / "model.onnx")
    about = {one.key: one.value for one in written.metadata_props}
    assert about["bundle_digest"] == digest
    assert about["features"].split(",") == list(NAMES)
    mend = models.altered(here, digest, bundle.XGBOOST)
    with pytest.raises(BundleRefused):
        exported(here, digest, tmp_path / "other.onnx")
    mend()
    assert not (tmp_path / "other.onnx").exists()
