"""Tree ensembles as flat arrays, walked by compiled code: the same bits for one payment, a batch and a replay.

XGBoost's margin is the float32 sum of leaves in tree order, as in the library; the isolation forest's path length is
the float64 sum over trees of depth and expected rest of the path (Liu, Ting and Zhou 2008).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Matrix = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

LEAF = -1


@dataclass(frozen=True)
class Forest:
    """Nodes of all trees in one run; a leaf has feature LEAF and its value in `value`."""

    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    missing_left: npt.NDArray[np.bool_]
    value: npt.NDArray[np.float32]
    root: npt.NDArray[np.int32]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by name."""
        return dict(self.__dict__)

    @staticmethod
    def of(arrays: Mapping[str, npt.NDArray[Any]]) -> "Forest":
        """The forest of its arrays."""
        return Forest(**{name: arrays[name] for name in Forest.__dataclass_fields__})


@njit(cache=True)
def _leaf(vector, node, feature, threshold, left, right, missing_left, inclusive):
    while feature[node] != LEAF:
        x = vector[feature[node]]
        if np.isnan(x):
            goes_left = missing_left[node]
        elif inclusive:
            goes_left = x <= threshold[node]
        else:
            goes_left = x < threshold[node]
        node = left[node] if goes_left else right[node]
    return node


@njit(cache=True)
def _margins(X, base, feature, threshold, left, right, missing_left, value, root, out):
    for i in range(X.shape[0]):
        total = np.float32(base)
        for tree in range(len(root)):
            node = _leaf(X[i], root[tree], feature, threshold, left, right, missing_left, False)
            total = np.float32(total + value[node])
        out[i] = total


@njit(cache=True)
def _path_lengths(X, feature, threshold, left, right, missing_left, value, root, out):
    for i in range(X.shape[0]):
        total = 0.0
        for tree in range(len(root)):
            total += value[_leaf(X[i], root[tree], feature, threshold, left, right, missing_left, True)]
        out[i] = total / len(root)


@njit(cache=True)
def _sigmoids(x, slope, intercept, out):
    for i in range(len(x)):
        out[i] = 1.0 / (1.0 + math.exp(-(slope * x[i] + intercept)))


def margins(forest: Forest, base: float, X: Matrix) -> Doubles:
    """XGBoost's raw margins (log odds), float32 values."""
    out = np.empty(len(X))
    f = forest
    _margins(X, base, f.feature, f.threshold, f.left, f.right, f.missing_left, f.value, f.root, out)
    return out


def path_lengths(forest: Forest, X: Matrix) -> Doubles:
    """Mean path lengths of an isolation forest; short ones are anomalies."""
    out = np.empty(len(X))
    f = forest
    _path_lengths(X, f.feature, f.threshold, f.left, f.right, f.missing_left, f.value, f.root, out)
    return out


def sigmoids(x: Doubles, slope: float, intercept: float) -> Doubles:
    """1 / (1 + exp(-(slope x + intercept))), one scalar at a time so that a batch and a single value agree."""
    out = np.empty(len(x))
    _sigmoids(x, slope, intercept, out)
    return out


def joined(trees: Sequence[Mapping[str, npt.NDArray[Any]]]) -> Forest:
    """One forest of trees whose children are numbered from zero within each."""
    sizes = [len(tree["feature"]) for tree in trees]
    root = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)

    def run(name: str, kind: type) -> npt.NDArray[Any]:
        return np.concatenate([np.asarray(tree[name]) for tree in trees]).astype(kind)

    shift = np.repeat(root, sizes)
    return Forest(
        run("feature", np.int32),
        run("threshold", np.float32),
        run("left", np.int32) + shift,
        run("right", np.int32) + shift,
        run("missing_left", np.bool_),
        run("value", np.float32),
        root,
    )


def of_xgboost(model: Mapping[str, Any]) -> tuple[Forest, float]:
    """(forest, base margin) of XGBoost's JSON model of a binary classifier."""
    learner = model["learner"]
    trees = []
    for tree in learner["gradient_booster"]["model"]["trees"]:
        left, conditions = np.array(tree["left_children"]), np.array(tree["split_conditions"], np.float32)
        leaf = left < 0
        trees.append(
            {
                "feature": np.where(leaf, LEAF, np.array(tree["split_indices"])),
                "threshold": np.where(leaf, 0, conditions),
                "left": np.where(leaf, 0, left),
                "right": np.where(leaf, 0, np.array(tree["right_children"])),
                "missing_left": np.array(tree["default_left"]).astype(np.bool_),
                "value": np.where(leaf, conditions, 0),
            }
        )
    base = float(str(learner["learner_model_param"]["base_score"]).strip("[]"))
    return joined(trees), math.log(base / (1 - base))


def expected_path(n: float) -> float:
    """Mean path length of an unsuccessful search among n points: c(n) of the isolation forest."""
    if n <= 1:
        return 0.0
    if n <= 2:
        return 1.0
    return 2.0 * (math.log(n - 1.0) + float(np.euler_gamma)) - 2.0 * (n - 1.0) / n
