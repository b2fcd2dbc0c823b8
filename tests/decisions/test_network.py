"""A neural model in a signed bundle: verified like any other, served in the same bits whoever comes along."""

import shutil
import sys

import logs
import models
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from decisions import bundle
from decisions.bundle import NETWORK
from decisions.explained import contributions, reasons
from decisions.network import BLOCK, MEDIANS, NetworkRefused
from decisions.shelf import Shelf
from decisions.staging import Stager
from features.catalogue import NAMES
from lakehouse import settings as conf
from lakehouse.errors import BundleRefused
from lakehouse.signing import signer, trust
from training.network import LIMIT, limited
from training.network import Network as Trained

CUTS = {"challenge": 0.03, "review": 0.05, "decline": 0.08}


def keys():
    return conf.resolve(conf.load().keys.folder)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store and the digest of a neural bundle in it."""
    folder = tmp_path_factory.mktemp("store")
    return folder, models.stored(folder, folder / "scratch", keys(), made=models.fitted_network())


@pytest.fixture(scope="module")
def model(stored):
    return bundle.load(*stored, trust(keys()))


@pytest.fixture
def odd_vectors(seed):
    """Vectors with missing, infinite and very large values."""
    X, _ = models.vectors(seed, 500)
    random = np.random.default_rng(seed)
    where = random.random(X.shape) < 0.05
    X[where] = random.choice(np.array([np.inf, -np.inf, 3.4e38, -3.4e38, 0, 1e-45], np.float32), where.sum())
    return X


def test_the_graph_says_what_the_perceptron_says(model, odd_vectors):
    made = models.fitted_network().supervised
    at = limited(made.prepared, odd_vectors)
    assert np.abs(at).max() == LIMIT
    for weights, biases in made.layers[:-1]:
        at = np.maximum(at @ weights + biases, 0)
    weights, biases = made.layers[-1]
    assert np.abs(model.supervised.margins(odd_vectors) - (at @ weights + biases)[:, 0]).max() < 1e-9


def test_a_payment_has_the_same_bits_alone_in_a_batch_and_at_every_place_of_a_block(model, odd_vectors):
    whole = model.supervised.margins(odd_vectors)
    assert np.isfinite(whole).all()
    for row in range(0, 500, 37):
        assert model.supervised.margins(odd_vectors[row : row + 1])[0] == whole[row]
    for shift in range(BLOCK):
        assert (model.supervised.margins(odd_vectors[shift:]) == whole[shift:]).all()
    assert len(model.supervised.margins(odd_vectors[:0])) == 0


def test_fitting_again_with_the_same_seed_gives_the_same_bytes():
    made = models.fitted_network()
    X, fraud = models.vectors(0, 2000)
    assert made.supervised.again(X, fraud, np.arange(2000), 0).raw == made.supervised.raw
    assert made.supervised.again(X, fraud, np.arange(2000), 1).raw != made.supervised.raw


def test_a_graph_that_says_something_else_than_what_was_fitted_is_refused():
    made = models.fitted_network().supervised
    net = type("Other", (), {})()
    net.coefs_, net.intercepts_ = zip(*made.layers, strict=True)
    net.predict_proba = lambda matrix: np.full((len(matrix), 2), 0.5)
    with pytest.raises(NetworkRefused, match=r"differs from what was fitted by 0\.\d+; expected at most 1e-05"):
        Trained.of(net, made.prepared, made.setting, made.epochs, models.vectors(1, 50)[0])


def test_contributions_sum_to_the_margin_and_name_what_moved_it(model, odd_vectors):
    X = odd_vectors[:3].copy()
    X[2] = model.supervised.medians
    X[2, 0] = 4.0
    found = model.supervised.contributions(X)
    moved = model.supervised.margins(X) - model.supervised.expected
    assert np.abs(found.sum(axis=1) - moved).max() < 1e-9
    assert np.flatnonzero(found[2]).tolist() == [0]
    (_, _, reason) = reasons(contributions(model, X))
    assert reason.features[0] == NAMES[0]


@pytest.mark.parametrize("name", [bundle.MANIFEST, bundle.SIGNATURE, NETWORK, bundle.ISOLATION])
def test_one_altered_byte_is_refused(stored, tmp_path, seed, name):
    folder, digest = stored
    raw = (folder / digest / name).read_bytes()
    shutil.copytree(folder / digest, tmp_path / digest)
    random = np.random.default_rng(seed)
    for place in random.integers(0, len(raw), 25).tolist():
        altered = bytearray(raw)
        altered[place] ^= 1 << int(random.integers(0, 8))
        (tmp_path / digest / name).write_bytes(bytes(altered))
        with pytest.raises(BundleRefused):
            bundle.load(tmp_path, digest, trust(keys()))


def other_operator(graph):
    graph.graph.node.append(helper.make_node("RandomNormalLike", ["vectors"], ["noise"]))


def operator_of_another_domain(graph):
    graph.graph.node.append(helper.make_node("Add", ["vectors", "vectors"], ["twice"], domain="com.example"))


def graph_inside(graph):
    inside = helper.make_graph([], "inside", [], [])
    graph.graph.node.append(helper.make_node("Relu", ["vectors"], ["more"], then_branch=inside))


def function(graph):
    opsets = [helper.make_opsetid("", 21)]
    graph.functions.append(helper.make_function("", "Relu", ["x"], ["y"], [], opsets))


def weights_outside(graph):
    weights = next(one for one in graph.graph.initializer if one.name == "network/weights_1")
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../author.pem")


def other_shape(graph):
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = BLOCK + 1


def no_medians(graph):
    next(one for one in graph.graph.initializer if one.name == MEDIANS).name = "other"


def cut_off(graph):
    del graph.graph.node[-1]


ODD = {
    "RandomNormalLike": other_operator,
    "com.exampleAdd": operator_of_another_domain,
    "operators that are not served: Relu": graph_inside,
    "functions of its own": function,
    "weights outside of its file": weights_outside,
    "expected is vectors of 8 x": other_shape,
    "no medians": no_medians,
    "ONNX Runtime does not take its network": cut_off,
}


def signed(store, digest, raw, **about):
    """Digest of a bundle with another graph, signed by the author."""
    manifest = bundle.orjson.loads((store / digest / bundle.MANIFEST).read_bytes())
    files = {NETWORK: raw, bundle.ISOLATION: (store / digest / bundle.ISOLATION).read_bytes()}
    return bundle.write(store, files, {**manifest, **about}, signer(keys() / "author.pem"))


@pytest.mark.parametrize(("told", "change"), ODD.items(), ids=[one.__name__ for one in ODD.values()])
def test_a_signed_graph_that_is_not_one_of_ours_is_refused(stored, told, change):
    folder, digest = stored
    graph = onnx.load_model_from_string((folder / digest / NETWORK).read_bytes())
    change(graph)
    other = signed(folder, digest, graph.SerializeToString())
    with pytest.raises(BundleRefused, match=told):
        bundle.load(folder, other, trust(keys()))


def test_bytes_that_are_no_graph_and_kinds_that_nobody_knows_are_refused(stored):
    folder, digest = stored
    for raw, told in ((b"\xff\xff", "not an ONNX graph"), (b"", "takes")):
        with pytest.raises(BundleRefused, match=told):
            bundle.load(folder, signed(folder, digest, raw), trust(keys()))
    unknown = signed(folder, digest, (folder / digest / NETWORK).read_bytes(), kind="forest")
    with pytest.raises(BundleRefused, match="its model is of kind forest, this release reads xgboost, neural"):
        bundle.load(folder, unknown, trust(keys()))


def test_other_weights_fail_the_self_test(stored):
    folder, digest = stored
    graph = onnx.load_model_from_string((folder / digest / NETWORK).read_bytes())
    last = next(one for one in graph.graph.initializer if one.name.endswith("biases_3"))
    last.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(last) + 0.01, last.name))
    with pytest.raises(BundleRefused, match="its self-test gave other scores"):
        bundle.load(folder, signed(folder, digest, graph.SerializeToString()), trust(keys()))


def few(count=120):
    return logs.payments(per_day=300, span=1)[:count]


@pytest.fixture
def two(settings, tmp_path):
    """Digests of a model of trees and a neural one in the store."""
    folder = logs.keys_folder(settings)
    made = (models.fitted(), models.fitted_network())
    return [models.stored(settings.models.store, tmp_path / str(n), folder, 0, CUTS, one) for n, one in enumerate(made)]


def test_a_neural_champion_decides_the_same_bytes_however_the_log_is_cut(settings, two):
    versions, values = {}, few()
    reference = logs.control(settings, versions, "reference", logs.reference())
    messages = logs.messages([reference, *logs.model(settings, versions, two[1]), *values])
    whole = logs.decided(logs.engine(settings), messages)
    assert logs.decided(logs.engine(settings), messages, range(1, len(messages))) == whole
    found = [one for one in logs.columns(whole) if one["vector"]]
    assert len(found) > 30
    assert {(one["model_digest"].decode(), one["rung"]) for one in found} == {(two[1], b"full")}
    model = Shelf.of(settings).loaded(two[1])
    X = np.frombuffer(b"".join(one["vector"] for one in found), np.float32).reshape(len(found), -1)
    scores = model.scores(X)
    assert [one["score"] for one in found] == scores.ensemble.tolist()
    assert [one["score_xgboost"] for one in found] == scores.supervised.tolist()


def test_without_onnxruntime_a_neural_model_is_refused_and_the_serving_one_stays(settings, two, monkeypatch):
    versions, values = {}, few()
    reference = logs.control(settings, versions, "reference", logs.reference())
    engine = logs.engine(settings)
    messages = logs.messages([reference, *logs.model(settings, versions, two[0]), *values[:60]])
    logs.decided(engine, messages)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    told = Stager(settings, engine)._refused(two[1])
    assert told.endswith("A neural model needs onnx and onnxruntime, and here is no onnxruntime.")
    found = logs.columns(logs.decided(engine, logs.messages(values[60:], len(messages))))
    assert {one["model_digest"].decode() for one in found} == {two[0]}
