"""What every feature added to a tree ensemble's output: exact Shapley values of the trees' own expectation.

The game is that of path-dependent TreeSHAP (Lundberg et al. 2020, algorithm 1), as XGBoost's `pred_contribs`: where a
feature is not known, a payment goes both ways, by the share of training weight that went each. Of one leaf that game is
a product over the features of its path, and the Shapley value of feature i is the integral over t from 0 to 1 of

    value x (o_i - z_i) x product over j != i of (z_j + t (o_j - z_j))

with z_j the share that goes towards the leaf by feature j, and o_j whether the payment does. The integrand is a
polynomial in t of a degree below the tree's depth, so Gauss-Legendre with half as many nodes is exact. One walk down
multiplies, one walk up sums: nodes x quadrature nodes instead of leaves x depth squared.

The same kernel explains XGBoost's margin (log odds) and the isolation forest's mean path length.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from decisions.forests import Doubles, Forest, Matrix, expected_path

NOBODY = -1


@dataclass(frozen=True)
class Explainer:
    """A forest with what does not depend on the payment; arrays by node, as in the forest."""

    forest: Forest
    parent: npt.NDArray[np.int32]
    above: npt.NDArray[np.int32]
    """The nearest node on the way from the root that the same feature led to; NOBODY where there is none."""
    share: Doubles
    """z: the share of the weight that goes here by this node's feature, on the whole way from the root."""
    at: Doubles
    weight: Doubles
    """Nodes and weights of the quadrature on [0, 1]."""
    expected: float
    """The sum over trees of their mean output."""

    def contributions(self, X: Matrix) -> Doubles:
        """(n, features): what each added to the sum of the trees; rows sum to that sum less `expected`."""
        f, n = self.forest, len(X)
        found = np.zeros((n, X.shape[1]))
        ends = np.append(f.root[1:], len(f.child)).astype(np.int32)
        split = f.feature, f.threshold, f.child, f.missing_left, f.value, f.root, ends
        # A copy that may be written to, whatever X is: the kernel is compiled for one kind of array, by `make setup`.
        own = np.array(X, np.float32, order="C")
        _explained(own, found, *split, self.parent, self.above, self.share, self.at, self.weight)
        return found


@njit(cache=True, nogil=True)
def _explained(
    X, found, feature, threshold, child, missing_left, value, root, ends, parent, above, share, at, weight
):  # fmt: skip
    most = 0
    for tree in range(len(root)):
        most = max(most, ends[tree] - root[tree])
    points = len(at)
    come = np.zeros(most, np.bool_)
    inverse, product, below = np.empty((most, points)), np.empty((most, points)), np.empty((most, points))
    for tree in range(len(root)):
        first, n = root[tree], ends[tree] - root[tree]
        for row in range(len(X)):
            come[0] = True
            for q in range(points):
                product[0, q] = weight[q]
                below[0, q] = 0.0
            for k in range(n):
                node = first + k
                if child[node] == node:
                    for q in range(points):
                        below[k, q] = value[node] * product[k, q]
                    continue
                x = X[row, feature[node]]
                left = (x < threshold[node]) | ((x != x) & missing_left[node])
                for side in range(2):
                    c = child[node] - first + side
                    z = share[first + c]
                    before = above[first + c]
                    here = left == (side == 0)
                    if before != NOBODY:
                        here = here and come[before - first]
                    come[c] = here
                    goes = (1.0 if here else 0.0) - z
                    for q in range(points):
                        factor = z + at[q] * goes
                        inverse[c, q] = goes / factor
                        product[c, q] = product[k, q] * factor
                        below[c, q] = 0.0
                    if before != NOBODY:
                        b = before - first
                        other = (1.0 if come[b] else 0.0) - share[before]
                        for q in range(points):
                            product[c, q] /= share[before] + at[q] * other
            for c in range(n - 1, 0, -1):
                node = first + c
                k = parent[node] - first
                before = above[node]
                total = 0.0
                for q in range(points):
                    total += below[c, q] * inverse[c, q]
                    below[k, q] += below[c, q]
                if before != NOBODY:
                    for q in range(points):
                        total -= below[c, q] * inverse[before - first, q]
                found[row, feature[parent[node]]] += total


@njit(cache=True)
def _means(child, value, cover, expected):
    # From the last node on: children stand behind their parents.
    for node in range(len(child) - 1, -1, -1):
        c = child[node]
        if c == node:
            expected[node] = value[node]
        else:
            expected[node] = (cover[c] * expected[c] + cover[c + 1] * expected[c + 1]) / (cover[c] + cover[c + 1])


@njit(cache=True)
def _shares(feature, child, cover, parent, above, share):
    for node in range(len(child)):
        if child[node] == node:
            continue
        before, step = node, NOBODY
        while before != NOBODY and parent[before] != NOBODY:
            if feature[parent[before]] == feature[node]:
                step = before
                break
            before = parent[before]
        whole = cover[child[node]] + cover[child[node] + 1]
        for c in range(child[node], child[node] + 2):
            parent[c] = node
            above[c] = step
            share[c] = cover[c] / whole * (share[step] if step != NOBODY else 1.0)


def explainer(forest: Forest, cover: Doubles) -> Explainer:
    """The explainer of a forest whose nodes had `cover` of the training weight."""
    n = len(forest.child)
    parent, above = np.full(n, NOBODY, np.int32), np.full(n, NOBODY, np.int32)
    share, expected = np.ones(n), np.zeros(n)
    _shares(forest.feature, forest.child, cover, parent, above, share)
    _means(forest.child, forest.value, cover, expected)
    at, weight = np.polynomial.legendre.leggauss(max(1, (int(forest.depth.max()) + 1) // 2))
    return Explainer(forest, parent, above, share, (at + 1) / 2, weight / 2, float(expected[forest.root].sum()))


@njit(cache=True)
def _isolation_covers(child, value, expected, cover):
    depth = np.zeros(len(child))
    for node in range(len(child)):
        if child[node] != node:
            depth[child[node]] = depth[child[node] + 1] = depth[node] + 1
        else:
            rest = value[node] - depth[node]
            points = 1
            while points < len(expected) and expected[points] - rest < rest - expected[points - 1]:
                points += 1
            cover[node] = points
    for node in range(len(child) - 1, -1, -1):
        if child[node] != node:
            cover[node] = cover[child[node]] + cover[child[node] + 1]


def covers_of_isolation(forest: Forest, whole: float) -> Doubles:
    """Training points of every node of an isolation forest whose trees had points of the expected path `whole`.

    They follow from the leaves: the value of one is its depth and `expected_path` of its points, which grows by far
    more from one number to the next than a float32 rounds.
    """
    expected = [expected_path(1)]
    while expected[-1] < whole:
        expected.append(expected_path(len(expected) + 1))
    cover = np.zeros(len(forest.child))
    _isolation_covers(forest.child, forest.value, np.array(expected), cover)
    return cover


def covers_of_xgboost(model: Mapping[str, Any], forest: Forest) -> Doubles:
    """The training weight (sum of second derivatives) of every node of XGBoost's JSON model, in the forest's order."""
    cover = np.zeros(len(forest.child))
    for tree, first in zip(model["learner"]["gradient_booster"]["model"]["trees"], forest.root.tolist(), strict=True):
        old = [0]
        left, right = tree["left_children"], tree["right_children"]
        for at, number in enumerate(old):
            cover[first + at] = tree["sum_hessian"][number]
            if left[number] >= 0:
                old += [left[number], right[number]]
    return cover
