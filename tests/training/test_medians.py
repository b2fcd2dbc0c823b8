"""Medians stand for missing values; a feature that nobody has gets zero, and nobody is warned of it."""

import warnings

import numpy as np

from training.data import known_medians


def test_medians_of_what_is_known():
    X = np.array([[1, np.nan, np.nan], [5, 2, np.nan], [9, 4, np.nan]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert known_medians(X).tolist() == [5, 3, 0]
