"""Fitting: XGBoost with early stopping and a small search, an isolation forest, and their calibration."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import orjson
import xgboost as xgb
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from decisions.forests import LEAF, Forest, expected_path, joined, path_lengths
from training.data import Matrix, known_medians

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Progress = Callable[[str], None]

GENUINE_PER_FRAUD = 20
"""Genuine payments kept for each fraud when fitting, at a weight that makes up for the others: beyond it average
precision hardly moved, and time grows with the rows."""
LEAST_GENUINE = 20_000
MAX_TREES = 500
PATIENCE = 40
COARSE_BINS = 128
"""Of settings that name no `max_bin`."""
FINE_BINS = 1024
"""Frauds that begin beyond the last hundredth of a feature's values need cuts there: bins hold equal shares of rows."""
SHARE = 0.7
"""Of the supervised model in the ensemble: the product's default; a bundle carries its own."""
ISOLATION_TREES, ISOLATION_SAMPLE = 100, 256
"""Liu, Ting and Zhou 2008, section 4."""
ISOLATION_ROWS, MEDIAN_ROWS = 25_600, 10_000
"""Rows that the trees draw their samples from, a sample each, and rows that say what a missing value stands for."""


class Supervised(Protocol):
    """A fitted model of what fraud looks like: `training.boosted`, `training.network`."""

    @property
    def kind(self) -> str:
        """Of `decisions.bundle.KINDS`."""

    def content(self) -> bytes:
        """Its file in a bundle."""

    def margins(self, X: Matrix) -> Doubles:
        """Log odds of vectors."""

    def described(self) -> dict[str, Any]:
        """The settings that fit it again, for manifest and registry."""

    def again(self, X: Matrix, fraud: Flags, rows: npt.NDArray[Any], seed: int) -> "Supervised":
        """The same settings on other rows."""

    def importance(self, X: Matrix) -> Doubles:
        """(features,): how much each matters, in shares of one; of a network, to these vectors."""


@dataclass(frozen=True)
class Fitted:
    """Both models, and what puts their scores on one scale."""

    supervised: Supervised
    isolation: Forest
    isolation_expected_path: float
    medians: Matrix
    calibration: dict[str, tuple[float, float]]
    """By kind of model."""
    share: float = SHARE
    """Of the supervised model's calibrated score in the ensemble."""

    @property
    def weights(self) -> dict[str, float]:
        """Of the calibrated scores in the ensemble."""
        return {self.supervised.kind: self.share, "isolation_forest": round(1 - self.share, 6)}


def sampled(fraud: Flags, rows: npt.NDArray[np.int64], seed: int) -> tuple[npt.NDArray[np.int64], Doubles]:
    """(rows kept, weights): every fraud and a seeded sample of genuine payments that stand for all of them."""
    bad, good = rows[fraud[rows]], rows[~fraud[rows]]
    wanted = max(LEAST_GENUINE, GENUINE_PER_FRAUD * len(bad))
    if wanted >= len(good):
        return rows, np.ones(len(rows))
    kept = np.sort(np.random.default_rng(seed).choice(good, wanted, replace=False))
    chosen = np.sort(np.concatenate([bad, kept]))
    return chosen, np.where(fraud[chosen], 1.0, len(good) / wanted)


def searched(seed: int, trials: int) -> list[dict[str, Any]]:
    """The settings to try, the default first; seeded."""
    space: Mapping[str, list[float]] = {
        "max_depth": [3, 4, 5, 6],
        "learning_rate": [0.05, 0.08, 0.1],
        "min_child_weight": [1, 5, 20],
        "subsample": [0.7, 1.0],
        "colsample_bytree": [0.2, 0.4, 0.6],
        "reg_lambda": [1, 10],
        "max_bin": [COARSE_BINS, FINE_BINS],
    }
    default = {
        "max_depth": 3,
        "learning_rate": 0.08,
        "min_child_weight": 5,
        "subsample": 0.7,
        "colsample_bytree": 0.4,
        "reg_lambda": 1,
        "max_bin": FINE_BINS,
    }
    random = np.random.default_rng(seed)
    found = [default]
    while len(found) < trials:
        one = {name: values[int(random.integers(len(values)))] for name, values in space.items()}
        if one not in found:
            found.append(one)
    return found


def _fixed(seed: int) -> dict[str, Any]:
    # base_score 0.5: XGBoost 3 would estimate it from the labels, which costs average precision on rare classes.
    return {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "base_score": 0.5,
        "eval_metric": "aucpr",
        "seed": seed,
        "verbosity": 0,
    }


def varied(X: Matrix) -> npt.NDArray[np.int64]:
    """Columns that can tell payments apart: several values, or one and missing. Of none of them: the first column."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = np.nanmin(X, axis=0), np.nanmax(X, axis=0)
    found = np.flatnonzero((low < high) | (~np.isnan(low) & np.isnan(X).any(axis=0)))
    return found if len(found) else np.zeros(1, np.int64)


def placed(booster: xgb.Booster, columns: npt.NDArray[np.int64], width: int) -> xgb.Booster:
    """A booster that was fitted on some columns, as one over all `width` of them: the same scores."""
    model = orjson.loads(booster.save_raw("json"))
    learner = model["learner"]
    learner["learner_model_param"]["num_feature"] = str(width)
    for tree in learner["gradient_booster"]["model"]["trees"]:
        tree["split_indices"] = columns[tree["split_indices"]].tolist()
        tree["tree_param"]["num_feature"] = str(width)
    whole = xgb.Booster()
    whole.load_model(bytearray(orjson.dumps(model)))
    return whole


def boosted(
    X: Matrix,
    fraud: Flags,
    fit: npt.NDArray[np.int64],
    validation: npt.NDArray[np.int64],
    seed: int,
    trials: int,
    say: Progress,
) -> tuple[xgb.Booster, dict[str, Any], int]:
    """(booster, its settings, its number of trees): the best of the trials by average precision on validation days."""
    rows, weights = sampled(fraud, fit, seed)
    columns = varied(X[rows])
    known, unseen = X[np.ix_(rows, columns)], X[np.ix_(validation, columns)]
    matrices: dict[int, tuple[xgb.DMatrix, xgb.DMatrix]] = {}
    best: tuple[float, xgb.Booster, dict[str, Any], int] | None = None
    settings = searched(seed, trials)
    for number, setting in enumerate(settings, start=1):
        bins = setting["max_bin"]
        if bins not in matrices:
            train = xgb.QuantileDMatrix(known, fraud[rows], weight=weights, max_bin=bins)
            matrices[bins] = train, xgb.QuantileDMatrix(unseen, fraud[validation], ref=train, max_bin=bins)
        train, held_out = matrices[bins]
        booster = xgb.train(
            {**_fixed(seed), **setting},
            train,
            MAX_TREES,
            evals=[(held_out, "validation")],
            early_stopping_rounds=PATIENCE,
            verbose_eval=False,
        )
        trees = booster.best_iteration + 1
        score = float(average_precision_score(fraud[validation], booster.predict(held_out, iteration_range=(0, trees))))
        say(f"XGBoost {number}/{len(settings)}: average precision {score:.3f} on validation days, {trees} trees")
        if best is None or score > best[0]:
            best = (score, booster[:trees], setting, trees)
    assert best is not None
    return placed(best[1], columns, X.shape[1]), best[2], best[3]


def refitted(
    X: Matrix, fraud: Flags, rows: npt.NDArray[np.int64], setting: Mapping[str, Any], trees: int, seed: int
) -> xgb.Booster:
    """The same settings and number of trees on more rows."""
    chosen, weights = sampled(fraud, rows, seed)
    setting = {"max_bin": COARSE_BINS, **setting}
    columns = varied(X[chosen])
    known = X[np.ix_(chosen, columns)]
    train = xgb.QuantileDMatrix(known, fraud[chosen], weight=weights, max_bin=setting["max_bin"])
    booster = xgb.train({**_fixed(seed), **setting}, train, trees, verbose_eval=False)
    return placed(booster, columns, X.shape[1])


def isolated(X: Matrix, rows: npt.NDArray[np.int64], seed: int) -> tuple[Forest, float, Matrix]:
    """(isolation forest as flat arrays, its expected path length, medians that stand for missing values)."""
    medians = known_medians(X[rows[:: max(1, len(rows) // MEDIAN_ROWS)]]).astype(np.float32)
    sample = rows[:: max(1, len(rows) // ISOLATION_ROWS)]
    filled = np.where(np.isnan(X[sample]), medians, X[sample])
    forest = IsolationForest(
        n_estimators=ISOLATION_TREES, max_samples=min(ISOLATION_SAMPLE, len(sample)), random_state=seed
    )
    fitted = forest.fit(filled)
    trees = []
    for estimator, columns in zip(fitted.estimators_, fitted.estimators_features_, strict=True):
        tree = estimator.tree_
        leaf = tree.children_left < 0
        depth = np.zeros(tree.node_count)
        for node in range(tree.node_count):
            if not leaf[node]:
                depth[tree.children_left[node]] = depth[tree.children_right[node]] = depth[node] + 1
        rest = np.array([expected_path(float(n)) for n in tree.n_node_samples])
        trees.append(
            {
                "feature": np.where(leaf, LEAF, columns[np.maximum(tree.feature, 0)]),
                "threshold": _above(tree.threshold),
                "left": np.maximum(tree.children_left, 0),
                "right": np.maximum(tree.children_right, 0),
                "missing_left": np.zeros(tree.node_count, np.bool_),
                "value": np.where(leaf, depth + rest, 0),
            }
        )
    return joined(trees), expected_path(float(fitted._max_samples)), medians


def _above(threshold: Doubles) -> npt.NDArray[np.float32]:
    """float32 thresholds for which x < t decides every float32 x as x <= the float64 threshold does."""
    narrow = threshold.astype(np.float32)
    return np.where(narrow.astype(np.float64) > threshold, narrow, np.nextafter(narrow, np.float32(np.inf)))


def calibrated(raw: Doubles, fraud: Flags) -> tuple[float, float]:
    """(slope, intercept) of Platt scaling (Platt 1999): sigmoid(slope x raw + intercept); the slope is positive.

    A positive slope keeps the order of the raw scores; a model that ranks the wrong way round is left flat.
    """
    scale = float(raw.std()) or 1.0
    found = LogisticRegression(C=1e6, solver="newton-cholesky", tol=1e-9, max_iter=1000).fit(
        (raw / scale).reshape(-1, 1), fraud
    )
    slope, intercept = float(found.coef_[0, 0]) / scale, float(found.intercept_[0])
    return (slope, intercept) if slope > 0 else (1e-9, float(np.log(fraud.mean() / (1 - fraud.mean()))))


def anomaly(isolation: Forest, expected: float, medians: Matrix, X: Matrix) -> Doubles:
    """The raw score of the isolation forest: minus the mean path length over the expected one."""
    return -path_lengths(isolation, np.where(np.isnan(X), medians, X)) / expected


def margins_of(booster: xgb.Booster, X: Matrix) -> Doubles:
    """XGBoost's raw margins (log odds)."""
    margins: Doubles = booster.predict(xgb.DMatrix(X), output_margin=True).astype(np.float64)
    return margins
