"""A model of a bundle as one ONNX graph: vectors in, the engine's calibrated scores out. Pure.

Trees come from the engine's own flat arrays, as `TreeEnsemble` of ai.onnx.ml: thresholds are the float32 ones, held as
doubles as the vectors are there, `BRANCH_LT` decides as the engine's `<` does, and what is missing goes where it goes
in the engine. Sums are of doubles (the engine's of XGBoost's leaves are of float32, so scores differ in the seventh
digit).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from decisions.bundle import SCALE, Model
from decisions.forests import Forest

INPUT, SCORE, SUPERVISED, ANOMALY = "vectors", "score", "score_xgboost", "score_isolation_forest"
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

    def model(self, outputs: list[str], width: int, about: Mapping[str, str]) -> onnx.ModelProto:
        """The checked model over vectors (n, width); `about` becomes its metadata."""
        graph = helper.make_graph(
            self.nodes,
            "fraudlake",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["payments", width])],
            [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["payments"]) for name in outputs],
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


def graph_of(model: Model, about: Mapping[str, str]) -> onnx.ModelProto:
    """The whole model: `score`, `score_xgboost` and `score_isolation_forest`, each (n,), as decisions have them."""
    assert model.isolation is not None
    graph, manifest = Graph(), model.manifest
    doubles = graph.add("Cast", [INPUT], "doubles", to=TensorProto.DOUBLE)
    leaves = trees(graph, model.xgboost, doubles, "xgboost/leaves")
    margin = graph.add("Add", [leaves, graph.constant("xgboost/base", model.base_margin)], "xgboost/margin")
    medians = graph.constant("medians", model.medians)
    filled = graph.add("Where", [graph.add("IsNaN", [doubles], "missing"), medians, doubles], "filled")
    steps = trees(graph, model.isolation, filled, "isolation_forest/steps")
    # Minus the mean path length over the expected one.
    unit = -len(model.isolation.root) * manifest["isolation_expected_path"]
    anomaly = graph.add("Div", [steps, graph.constant("isolation_forest/unit", unit)], "isolation_forest/anomaly")
    parts = []
    for name, raw in (("xgboost", margin), ("isolation_forest", anomaly)):
        one = graph.calibrated(raw, manifest["calibration"][name], name)
        graph.rounded(one, f"score_{name}")
        weight = graph.constant(f"{name}/weight", manifest["weights"][name])
        parts.append(graph.add("Mul", [one, weight], f"{name}/weighed"))
    graph.rounded(graph.add("Add", parts, "both"), SCORE)
    return graph.model([SCORE, SUPERVISED, ANOMALY], len(model.medians), about)
