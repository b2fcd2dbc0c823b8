"""A model of a bundle as one ONNX graph: vectors in, the engine's calibrated scores out. Pure.

Trees come from the engine's own flat arrays, as `TreeEnsemble` of ai.onnx.ml: thresholds are the float32 ones, held as
doubles as the vectors are there, `BRANCH_LT` decides as the engine's `<` does, and what is missing goes where it goes
in the engine. Sums are of doubles (the engine's of XGBoost's leaves are of float32, so scores differ in the seventh
digit).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from decisions import network
from decisions.boosted import Boosted
from decisions.bundle import SCALE, Model, Supervised
from decisions.forests import Doubles, Forest
from decisions.network import BLOCK, MEDIANS, OUTPUT, Network
from training.baselines import LARGEST, Prepared

INPUT, SCORE, SUPERVISED, ANOMALY = network.INPUT, "score", "score_xgboost", "score_isolation_forest"
OPSET, TREES_OPSET, IR = 21, 5, 10
"""Of the standard operators, of ai.onnx.ml (the first with `TreeEnsemble`), and of the file: all of ONNX 1.16."""
TREES = "ai.onnx.ml"
_SUM, _BRANCH_LT = 1, 1


class Graph:
    """Nodes and constants that grow; every method gives the name of the value that it adds."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: npt.ArrayLike, kind: npt.DTypeLike = np.float64) -> str:
        """Values that the file holds."""
        self.constants.append(numpy_helper.from_array(np.array(values, kind), name))
        return name

    def add(self, operator: str, inputs: list[str], name: str, domain: str = "", **attributes: Any) -> str:
        """One operation with one output."""
        self.nodes.append(helper.make_node(operator, inputs, [name], name, domain=domain, **attributes))
        return name

    def calibrated(self, raw: str, calibration: tuple[float, float], name: str) -> str:
        """sigmoid(slope x raw + intercept)."""
        slope, intercept = calibration
        scaled = self.add("Mul", [raw, self.constant(f"{name}/slope", slope)], f"{name}/scaled")
        moved = self.add("Add", [scaled, self.constant(f"{name}/intercept", intercept)], f"{name}/moved")
        return self.add("Sigmoid", [moved], f"{name}/sigmoid")

    def rounded(self, exact: str, name: str) -> str:
        """To millionths, half to even, as in a decision; from a column to a row of scores."""
        scale = f"{name}/scale"
        self.constant(scale, SCALE)
        whole = self.add("Round", [self.add("Mul", [exact, scale], f"{name}/millionths")], f"{name}/whole")
        column = self.add("Div", [whole, scale], f"{name}/column")
        return self.add("Squeeze", [column, self.constant(f"{name}/axis", [1], np.int64)], name)

    def model(
        self, outputs: list[str], width: int, about: Mapping[str, str], rows: int | str = "payments"
    ) -> onnx.ModelProto:
        """The checked model over vectors (rows, width); `about` becomes its metadata."""
        graph = helper.make_graph(
            self.nodes,
            "fraudlake",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [rows, width])],
            [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [rows]) for name in outputs],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(TREES, TREES_OPSET)]
        made = helper.make_model(graph, producer_name="fraudlake", ir_version=IR, opset_imports=opsets)
        helper.set_model_props(made, dict(about))
        onnx.checker.check_model(made, full_check=True)
        return made


def trees(graph: Graph, forest: Forest, vectors: str, name: str) -> str:
    """The sum over trees of the leaves that vectors of doubles reach, (n, 1)."""
    at = np.arange(len(forest.child))
    is_leaf = forest.child == at
    leaf_at = np.cumsum(is_leaf) - 1
    node_at = np.cumsum(~is_leaf) - 1
    # A tree that is one leaf asks a question whose answers both lead there.
    alone = forest.root[is_leaf[forest.root]]
    inner = np.flatnonzero(~is_leaf)
    left, right = forest.child[inner], forest.child[inner] + 1
    extra = len(inner) + np.arange(len(alone))
    root = np.where(is_leaf[forest.root], 0, node_at[forest.root])
    root[is_leaf[forest.root]] = extra

    def both(of_inner: npt.NDArray[Any], of_alone: npt.NDArray[Any]) -> list[Any]:
        return [*of_inner.tolist(), *of_alone.tolist()]

    to_leaf, zeros = leaf_at[alone], np.zeros(len(alone), np.int64)
    return graph.add(
        "TreeEnsemble",
        [vectors],
        name,
        TREES,
        aggregate_function=_SUM,
        n_targets=1,
        tree_roots=root.tolist(),
        nodes_featureids=both(forest.feature[inner], zeros),
        nodes_modes=_tensor(f"{name}/modes", np.full(len(inner) + len(alone), _BRANCH_LT, np.uint8)),
        nodes_splits=_tensor(f"{name}/splits", np.concatenate([forest.threshold[inner], zeros]).astype(np.float64)),
        nodes_missing_value_tracks_true=both(forest.missing_left[inner].astype(np.int64), zeros),
        nodes_truenodeids=both(np.where(is_leaf[left], leaf_at[left], node_at[left]), to_leaf),
        nodes_trueleafs=both(is_leaf[left].astype(np.int64), zeros + 1),
        nodes_falsenodeids=both(np.where(is_leaf[right], leaf_at[right], node_at[right]), to_leaf),
        nodes_falseleafs=both(is_leaf[right].astype(np.int64), zeros + 1),
        leaf_targetids=[0] * int(is_leaf.sum()),
        leaf_weights=_tensor(f"{name}/leaves", forest.value[is_leaf].astype(np.float64)),
    )


def _tensor(name: str, values: npt.NDArray[Any]) -> onnx.TensorProto:
    return numpy_helper.from_array(values, name)


def _margin(graph: Graph, of: Supervised, doubles: str) -> str:
    """The supervised model's log odds, (n, 1): its trees, or the nodes of its network."""
    if isinstance(of, Network):
        inside = onnx.load_model_from_string(of.raw).graph
        graph.nodes += inside.node
        graph.constants += inside.initializer
        return graph.add("Unsqueeze", [OUTPUT, graph.constant("network/column", [1], np.int64)], "network/raw")
    assert isinstance(of, Boosted)
    leaves = trees(graph, of.forest, doubles, "xgboost/leaves")
    return graph.add("Add", [leaves, graph.constant("xgboost/base", of.base_margin)], "xgboost/margin")


def graph_of(model: Model, about: Mapping[str, str]) -> onnx.ModelProto:
    """The whole model: `score`, `score_xgboost` and `score_isolation_forest`, each (n,), as decisions have them."""
    assert model.isolation is not None
    graph, manifest = Graph(), model.manifest
    doubles = graph.add("Cast", [INPUT], "doubles", to=TensorProto.DOUBLE)
    margin = _margin(graph, model.supervised, doubles)
    medians = graph.constant("medians", model.medians)
    filled = graph.add("Where", [graph.add("IsNaN", [doubles], "missing"), medians, doubles], "filled")
    steps = trees(graph, model.isolation, filled, "isolation_forest/steps")
    # Minus the mean path length over the expected one.
    unit = -len(model.isolation.root) * manifest["isolation_expected_path"]
    anomaly = graph.add("Div", [steps, graph.constant("isolation_forest/unit", unit)], "isolation_forest/anomaly")
    parts = []
    for name, raw, output in ((model.kind, margin, SUPERVISED), ("isolation_forest", anomaly, ANOMALY)):
        one = graph.calibrated(raw, manifest["calibration"][name], name)
        graph.rounded(one, output)
        weight = graph.constant(f"{name}/weight", manifest["weights"][name])
        parts.append(graph.add("Mul", [one, weight], f"{name}/weighed"))
    graph.rounded(graph.add("Add", parts, "both"), SCORE)
    return graph.model([SCORE, SUPERVISED, ANOMALY], len(model.medians), about)


def network_graph(prepared: Prepared, layers: Sequence[tuple[Doubles, Doubles]], limit: float) -> bytes:
    """The graph that a bundle holds of a perceptron (weights, biases), standardisation included; log odds out.

    Of every float32: what is missing takes its feature's median and sets its flag, what is infinite the largest value.
    """
    graph = Graph()

    def constant(name: str, values: npt.ArrayLike, kind: npt.DTypeLike = np.float64) -> str:
        return graph.constant(f"network/{name}", values, kind)

    def add(operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        return graph.add(operator, inputs, f"network/{name}", **attributes)

    doubles = add("Cast", [INPUT], "doubles", to=TensorProto.DOUBLE)
    missing = add("IsNaN", [doubles], "missing")
    # In the units of the features, for whoever explains; the logarithm is monotone, so a median stays one.
    medians = graph.constant(MEDIANS, np.sign(prepared.median) * np.expm1(np.abs(prepared.median)))
    known = add("Where", [missing, medians, doubles], "known")
    size = add("Min", [add("Abs", [known], "size"), constant("largest", LARGEST)], "finite_size")
    logarithm = add("Log", [add("Add", [size, constant("one", 1)], "size_and_one")], "logarithm")
    columns = [add("Mul", [add("Sign", [known], "sign"), logarithm], "squeezed")]
    if len(prepared.flagged):
        flagged = add("Gather", [missing, constant("flagged", prepared.flagged, np.int64)], "is_flagged", axis=1)
        columns.append(add("Cast", [flagged], "flags", to=TensorProto.DOUBLE))
    plain = add("Concat", columns, "plain", axis=1)
    centred = add("Sub", [plain, constant("mean", prepared.mean)], "centred")
    scaled = add("Mul", [centred, constant("scale", prepared.scale)], "scaled")
    at = add("Clip", [scaled, constant("low", -limit), constant("high", limit)], "standardised")
    for number, (weights, biases) in enumerate(layers, 1):
        product = add("MatMul", [at, constant(f"weights_{number}", weights)], f"product_{number}")
        at = add("Add", [product, constant(f"biases_{number}", biases)], f"layer_{number}")
        at = at if number == len(layers) else add("Relu", [at], f"relu_{number}")
    graph.add("Squeeze", [at, constant("axis", [1], np.int64)], OUTPUT)
    model = graph.model([OUTPUT], len(prepared.median), {}, BLOCK)
    return bytes(model.SerializeToString(deterministic=True))
