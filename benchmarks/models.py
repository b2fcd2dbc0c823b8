"""A model of full size for benchmarks: 300 trees of depth 6 and an isolation forest of 100 x 256, on random vectors."""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lakehouse import settings as conf
from lakehouse.settings import Settings
from lakehouse.signing import signer
from training.boosted import Boosted
from training.fit import Fitted, anomaly, calibrated, isolated, margins_of, refitted
from training.package import packed

TREES, DEPTH = 300, 6
Vectors = npt.NDArray[np.float32]


def fitted_to(X: Vectors, fraud: npt.NDArray[np.bool_], seed: int) -> Fitted:
    """Both models and their calibration, fitted to all rows."""
    rows = np.arange(len(X))
    setting = {"max_depth": DEPTH, "learning_rate": 0.1, "min_child_weight": 1}
    booster = refitted(X, fraud, rows, setting, TREES, seed)
    isolation, expected, medians = isolated(X, rows, seed)
    calibration = {
        "xgboost": calibrated(margins_of(booster, X), fraud),
        "isolation_forest": calibrated(anomaly(isolation, expected, medians, X), fraud),
    }
    return Fitted(Boosted(booster, setting, TREES), isolation, expected, medians, calibration)


def store(settings: Settings, X: Vectors, seed: int) -> str:
    """Digest of a signed bundle in the settings' store, fitted on vectors and random labels of 2 %."""
    fitted = fitted_to(X, np.random.default_rng(seed).random(len(X)) < 0.02, seed)
    cuts = {"challenge": 0.5, "review": 0.7, "decline": 0.9}
    author = signer(conf.resolve(settings.keys.folder) / "author.pem")
    with tempfile.TemporaryDirectory() as scratch:
        return packed(
            conf.resolve(settings.models.store), Path(scratch), fitted, cuts, X[:50], {"name": "benchmark"}, author
        )
