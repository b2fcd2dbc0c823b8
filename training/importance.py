"""How far what a model rests on has moved: the champion's importances and those of its settings fitted today.

The distance is half the sum of absolute differences of each feature's share of the total gain: 0 the same, 1 nothing in
common. Its limit comes from the data: two models of the same settings on two halves of the cards differ by what chance
alone makes, and by more of it than two models on all of them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from decisions import bundle
from features.catalogue import NAMES
from training.data import Dataset
from training.fit import refitted
from training.measures import Measure

Doubles = npt.NDArray[np.float64]


def shares(booster: xgb.Booster) -> Doubles:
    """(features,): share of the total gain; all zero for a model that splits nowhere."""
    gain = np.zeros(len(NAMES))
    for name, value in booster.get_score(importance_type="total_gain").items():
        gain[int(name[1:])] = value
    whole = gain.sum()
    return gain / whole if whole else gain


def distance(one: Doubles, other: Doubles) -> float:
    """Half the sum of absolute differences."""
    return float(np.abs(one - other).sum() / 2)


def of_bundle(store: Path, digest: str) -> Doubles:
    """The importances of a bundle that was verified before."""
    booster = xgb.Booster()
    booster.load_model(bytearray((store / digest / bundle.XGBOOST).read_bytes()))
    return shares(booster)


def moved(champion: Doubles, manifest: Mapping[str, Any], data: Dataset, until_ms: int, seed: int) -> Measure:
    """The champion's distance to a model of its settings, fitted on every payment before `until_ms`."""
    settings = dict(manifest["xgboost"])
    trees = int(settings.pop("trees"))
    rows = data.between(int(data.event_ms[0]), until_ms)

    def fitted(rows: npt.NDArray[np.int64]) -> Doubles:
        return shares(refitted(data.X, data.is_fraud, rows, settings, trees, seed))

    halves = [fitted(rows[data.card[rows] % 2 == half]) for half in (0, 1)]
    return Measure("model", "importance", distance(champion, fitted(rows)), None, distance(*halves), len(rows))
