"""What a model has to beat: a tuned logistic regression and a small tree on the same vectors, and the amount alone."""

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.tree import DecisionTreeClassifier

from features.catalogue import NAMES
from training.data import Matrix, known_medians
from training.fit import Flags, Progress, sampled

Doubles = npt.NDArray[np.float64]

STRENGTHS = (0.003, 0.03, 0.3)
"""Inverse regularisation strengths that are tried."""
TREE_DEPTH = 3
LARGEST = float(np.finfo(np.float32).max)
"""In place of an infinite value."""
MISSING_SHARE = 0.01
"""A feature that is missing more often than this gets a flag of its own."""


class Prepared:
    """Vectors made fit for a linear model: signed logarithms, medians for what is missing and flags for it, scaled."""

    def __init__(self, X: Matrix) -> None:
        with np.errstate(all="ignore"):
            squeezed = self._squeezed(X)
            self.median = known_medians(squeezed)
            self.flagged = np.flatnonzero(np.isnan(X).mean(axis=0) > MISSING_SHARE)
        plain = self._plain(X)
        self.mean, deviation = plain.mean(axis=0), plain.std(axis=0)
        self.scale = np.where(deviation > 0, 1 / np.where(deviation > 0, deviation, 1), 0)
        """One over the standard deviation; zero for a column that never varied."""

    @staticmethod
    def _squeezed(X: Matrix) -> Doubles:
        wide = X.astype(np.float64)
        return np.sign(wide) * np.log1p(np.minimum(np.abs(wide), LARGEST))

    def _plain(self, X: Matrix) -> Doubles:
        squeezed = self._squeezed(X)
        missing = np.isnan(squeezed)
        return np.hstack([np.where(missing, self.median, squeezed), missing[:, self.flagged]])

    def __call__(self, X: Matrix) -> Doubles:
        """The matrix for the linear model."""
        scaled: Doubles = (self._plain(X) - self.mean) * self.scale
        return scaled


def logistic(
    X: Matrix,
    fraud: Flags,
    fit: npt.NDArray[np.int64],
    validation: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.int64],
    seed: int,
    say: Progress,
) -> Doubles:
    """Probabilities for the rows `wanted` by the strength that ranked the validation days best, fitted on both."""
    rows, weights = sampled(fraud, fit, seed)
    prepared = Prepared(X[rows])
    matrix, held_out = prepared(X[rows]), prepared(X[validation])
    best, best_score = STRENGTHS[0], -1.0
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=300, tol=1e-3).fit(matrix, fraud[rows], weights)
        score = float(average_precision_score(fraud[validation], model.predict_proba(held_out)[:, 1]))
        say(f"logistic regression, C {strength}: average precision {score:.3f} on validation days")
        if score > best_score:
            best, best_score = strength, score
    everything, weights = sampled(fraud, np.concatenate([fit, validation]), seed)
    final = LogisticRegression(C=best, max_iter=300, tol=1e-3).fit(prepared(X[everything]), fraud[everything], weights)
    probabilities: Doubles = final.predict_proba(prepared(X[wanted]))[:, 1]
    return probabilities


def small_tree(
    X: Matrix, fraud: Flags, fit: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64], seed: int
) -> Doubles:
    """Probabilities for the rows `wanted` by one tree of TREE_DEPTH questions, such as people write down as a rule."""
    rows, weights = sampled(fraud, fit, seed)
    tree = DecisionTreeClassifier(max_depth=TREE_DEPTH, random_state=seed).fit(X[rows], fraud[rows], weights)
    probabilities: Doubles = tree.predict_proba(X[wanted])[:, 1]
    return probabilities


def amount_only(X: Matrix) -> Doubles:
    """The amount as a score."""
    return X[:, NAMES.index("amount_minor")].astype(np.float64)
