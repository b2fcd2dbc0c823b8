"""Why a model gave its scores, from the vectors it scored; what a `reasons` record says.

Of each model the contributions are exact in its own unit: XGBoost's margin in log odds, the isolation forest's mean
path length in steps. The score is weights x sigmoids of both, so it has no exact shares of its own: what each model
moved it away from its expectation is shared out in proportion to its contributions. These shares keep every sign and
order within a model, and with the score of both expectations they sum to the score.
"""

from typing import NamedTuple

import numpy as np

from decisions.bundle import SCALE, Model
from decisions.forests import Doubles, Matrix, sigmoids
from decisions.reason_codes import CODES, FAMILIES
from features.catalogue import FEATURES, NAMES

MOST_CODES, MOST_FEATURES = 3, 5
LEAST = 0.01
"""What added less than a hundredth of the scale is no reason."""
_NEAR = 1e-6
"""Closer than this to its expectation a model's chord is its tangent, to more digits than doubles have."""
_OF_FAMILY = np.array([[f.family == family for family in FAMILIES] for f in FEATURES], np.float64)


class Contributions(NamedTuple):
    """(payments, features) each: in log odds, in steps of path length, in the score."""

    supervised: Doubles
    isolation_forest: Doubles
    score: Doubles
    expected_score: float


class Reason(NamedTuple):
    """Of one payment."""

    codes: list[str]
    features: list[str]
    added: dict[str, float]
    """By family."""


def _in_score(raw: Doubles, expected: float, calibration: tuple[float, float], weight: float) -> tuple[Doubles, float]:
    """(contributions to the score, score of the expectation) of contributions to a model's raw output."""
    slope, intercept = calibration
    moved = raw.sum(1)
    there = sigmoids(expected + moved, slope, intercept)
    here = float(sigmoids(np.array([expected]), slope, intercept)[0])
    near = np.abs(moved) < _NEAR
    chord = np.where(near, slope * here * (1 - here), (there - here) / np.where(near, 1.0, moved))
    return raw * (weight * chord)[:, None], weight * here


def contributions(model: Model, X: Matrix) -> Contributions:
    """What every feature added, of vectors (n, features)."""
    manifest = model.manifest
    calibration, weights = manifest["calibration"], manifest["weights"]
    margin, expected = model.supervised.contributions(X), model.supervised.expected
    if model.isolation is None or model.why_length is None:
        # Below the highest rung the supervised model's score is the score.
        score, first = _in_score(margin, expected, calibration[model.kind], 1.0)
        return Contributions(margin, np.zeros_like(margin), score, first)
    trees = len(model.isolation.root)
    length = model.why_length.contributions(model.filled(X)) / trees
    per_step = -1 / manifest["isolation_expected_path"]
    one, first = _in_score(margin, expected, calibration[model.kind], weights[model.kind])
    other, second = _in_score(
        length * per_step,
        model.why_length.expected / trees * per_step,
        calibration["isolation_forest"],
        weights["isolation_forest"],
    )
    return Contributions(margin, length, one + other, first + second)


def reasons(found: Contributions) -> list[Reason]:
    """Codes, features and shares by family of every payment."""
    families = np.rint(found.score @ _OF_FAMILY * SCALE) / SCALE
    out = []
    for shares, features in zip(families, found.score, strict=True):
        named = [CODES[FAMILIES[at]] for at in np.argsort(-shares, kind="stable")[:MOST_CODES] if shares[at] >= LEAST]
        strongest = np.argsort(-features, kind="stable")[:MOST_FEATURES]
        added = dict(zip(FAMILIES, shares.tolist(), strict=True))
        out.append(Reason(named, [NAMES[at] for at in strongest if features[at] > 0], added))
    return out
