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
BLOCK = 64
"""Rows that walk through a tree together: they and the tree stay in the nearest cache, and their steps overlap."""


@dataclass(frozen=True)
class Forest:
    """Nodes of all trees in one run. Siblings are neighbours: a step goes to `child` or to the node after it.

    Left is below `threshold`, or missing where `missing_left`. A leaf is its own child and has its value in `value`.
    """

    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    child: npt.NDArray[np.int32]
    missing_left: npt.NDArray[np.bool_]
    value: npt.NDArray[np.float32]
    root: npt.NDArray[np.int32]
    depth: npt.NDArray[np.int32]
    """Steps to the deepest leaf, by tree."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by name."""
        return dict(self.__dict__)

    @staticmethod
    def of(arrays: Mapping[str, npt.NDArray[Any]]) -> "Forest":
        """The forest of its arrays."""
        return Forest(**{name: arrays[name] for name in Forest.__dataclass_fields__})


@njit(cache=True)
def _leaves(X, begin, rows, root, depth, feature, threshold, child, missing_left, node):
    # Without a branch in the loop: nobody can predict which way a payment goes.
    node[:rows] = root
    for _ in range(depth):
        for i in range(rows):
            k = node[i]
            x = X[begin + i, feature[k]]
            left = (x < threshold[k]) | ((x != x) & missing_left[k])
            node[i] = child[k] + ((not left) & (child[k] != k))


@njit(cache=True)
def _summed(X, total, feature, threshold, child, missing_left, value, root, depth):
    # `total` has the type that is summed in; rows are summed tree by tree, whatever their block.
    node = np.empty(BLOCK, np.int32)
    for begin in range(0, len(total), BLOCK):
        rows = min(BLOCK, len(total) - begin)
        for tree in range(len(root)):
            _leaves(X, begin, rows, root[tree], depth[tree], feature, threshold, child, missing_left, node)
            for i in range(rows):
                total[begin + i] += value[node[i]]


@njit(cache=True)
def _sigmoids(x, slope, intercept, out):
    for i in range(len(x)):
        out[i] = 1.0 / (1.0 + math.exp(-(slope * x[i] + intercept)))


def _sums(forest: Forest, X: Matrix, total: npt.NDArray[Any]) -> Doubles:
    f = forest
    _summed(np.ascontiguousarray(X), total, f.feature, f.threshold, f.child, f.missing_left, f.value, f.root, f.depth)
    return total.astype(np.float64)


def margins(forest: Forest, base: float, X: Matrix) -> Doubles:
    """XGBoost's raw margins (log odds), float32 values."""
    return _sums(forest, X, np.full(len(X), base, np.float32))


def path_lengths(forest: Forest, X: Matrix) -> Doubles:
    """Mean path lengths of an isolation forest; short ones are anomalies."""
    return _sums(forest, X, np.zeros(len(X))) / len(forest.root)


def sigmoids(x: Doubles, slope: float, intercept: float) -> Doubles:
    """1 / (1 + exp(-(slope x + intercept))), one scalar at a time so that a batch and a single value agree."""
    out = np.empty(len(x))
    _sigmoids(x, slope, intercept, out)
    return out


def _in_steps(tree: Mapping[str, npt.NDArray[Any]]) -> tuple[list[int], list[int], int]:
    """(old number and child of each node, depth), renumbered level by level so that siblings are neighbours."""
    left, right, leaf = tree["left"].tolist(), tree["right"].tolist(), (tree["feature"] == LEAF).tolist()
    old, depth = [0], 0
    child: list[int] = []
    level = [0]
    while level:
        following: list[int] = []
        for node in level:
            if leaf[node]:
                child.append(len(child))
            else:
                child.append(len(old) + len(following))
                following += [left[node], right[node]]
        old += following
        level = following
        depth += bool(following)
    return old, child, depth


def joined(trees: Sequence[Mapping[str, npt.NDArray[Any]]]) -> Forest:
    """One forest of trees with `left` and `right` children, numbered from zero within each; left is below."""
    runs: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in Forest.__dataclass_fields__}
    begin = 0
    for tree in trees:
        old, child, depth = _in_steps(tree)
        runs["feature"].append(np.maximum(tree["feature"][old], 0))
        runs["threshold"].append(tree["threshold"][old])
        runs["child"].append(np.array(child) + begin)
        runs["missing_left"].append(tree["missing_left"][old])
        runs["value"].append(tree["value"][old])
        runs["root"].append(np.array([begin]))
        runs["depth"].append(np.array([depth]))
        begin += len(old)
    kinds = {"threshold": np.float32, "value": np.float32, "missing_left": np.bool_}
    return Forest(**{name: np.concatenate(run).astype(kinds.get(name, np.int32)) for name, run in runs.items()})


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
