"""A small real model on random vectors, signed and stored, for tests that need one."""

from dataclasses import replace
from functools import cache

import numpy as np

from features.catalogue import NAMES
from lakehouse.signing import signer
from training.boosted import Boosted
from training.fit import Fitted, anomaly, calibrated, isolated, margins_of, refitted
from training.network import SETTINGS
from training.network import refitted as refitted_network
from training.package import packed


def vectors(seed, n):
    """Random float32 vectors with missing values, and labels that follow from two of their columns."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, len(NAMES))).astype(np.float32)
    fraud = X[:, 0] + X[:, 1] + random.normal(size=n) > 2.5
    X[random.random(X.shape) < 0.1] = np.nan
    return X, fraud


@cache
def fitted(seed=0, n=4000, trees=30):
    """Both models fitted on random vectors."""
    X, fraud = vectors(seed, n)
    rows = np.arange(n)
    booster = refitted(X, fraud, rows, {"max_depth": 4, "learning_rate": 0.2}, trees, seed)
    isolation, expected, medians = isolated(X, rows, seed)
    calibration = {
        "xgboost": calibrated(margins_of(booster, X), fraud),
        "isolation_forest": calibrated(anomaly(isolation, expected, medians, X), fraud),
    }
    return Fitted(Boosted(booster, {"max_depth": 4}, trees), isolation, expected, medians, calibration)


@cache
def fitted_network(seed=0, n=2000, epochs=3):
    """The same with a neural network in XGBoost's place."""
    X, fraud = vectors(seed, n)
    network = refitted_network(X, fraud, np.arange(n), SETTINGS[0], epochs, seed)
    known = fitted(seed)
    calibration = {**known.calibration, "neural": calibrated(network.margins(X), fraud)}
    return replace(known, supervised=network, calibration=calibration)


def stored(store, scratch, keys_folder, seed=0, cuts=None, made=None, **about):
    """Digest of a signed bundle in the store."""
    scratch.mkdir(parents=True, exist_ok=True)
    cuts = cuts or {"challenge": 0.3, "review": 0.5, "decline": 0.8}
    made = made or fitted(seed)
    author, tested_on = signer(keys_folder / "author.pem"), vectors(seed + 1, 50)[0]
    return packed(store, scratch, made, cuts, tested_on, {"name": "test", **about}, author)


def altered(settings, digest, name):
    """Flip one bit of a file of a bundle; what mends it."""
    path = settings.models.store / digest / name
    sound = path.read_bytes()
    raw = bytearray(sound)
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    return lambda: path.write_bytes(sound)
