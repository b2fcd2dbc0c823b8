"""The flat walkers say what the libraries say."""

import models
import numpy as np
import pytest
import xgboost as xgb
from sklearn.ensemble import IsolationForest

from decisions.forests import expected_path, margins, of_xgboost, path_lengths, sigmoids
from training.fit import anomaly, isolated


def test_margins_equal_the_librarys(seed):
    import orjson

    made = models.fitted(seed % 1000)
    X, _ = models.vectors(seed, 3000)
    forest, base = of_xgboost(orjson.loads(made.supervised.content()))
    theirs = made.supervised.booster.predict(xgb.DMatrix(X), output_margin=True)
    assert np.abs(margins(forest, base, X) - theirs).max() < 1e-6


def test_the_isolation_forest_ranks_and_scores_as_the_librarys(seed):
    X, _ = models.vectors(seed, 3000)
    filled = np.nan_to_num(X)
    forest, expected, medians = isolated(filled, np.arange(3000), 0)
    ours = anomaly(forest, expected, medians, filled)
    theirs = IsolationForest(n_estimators=100, max_samples=256, random_state=0).fit(filled).score_samples(filled)
    # score_samples is -2 ** (-path / expected); ours is the exponent.
    assert np.allclose(-np.exp2(ours), theirs, atol=1e-6)


def test_a_row_alone_scores_the_same_bits_as_in_a_batch(seed):
    import orjson

    made = models.fitted()
    X, _ = models.vectors(seed, 500)
    forest, base = of_xgboost(orjson.loads(made.supervised.content()))
    whole, lengths = margins(forest, base, X), path_lengths(made.isolation, np.nan_to_num(X))
    for row in range(0, 500, 37):
        one = X[row : row + 1]
        assert margins(forest, base, one)[0] == whole[row]
        assert path_lengths(made.isolation, np.nan_to_num(one))[0] == lengths[row]
    assert sigmoids(whole, 2.0, 1.0)[7] == sigmoids(whole[7:8], 2.0, 1.0)[0]


@pytest.mark.parametrize(("n", "path"), [(1, 0.0), (2, 1.0), (256, 10.2448)])
def test_the_expected_path_is_that_of_the_paper(n, path):
    assert expected_path(n) == pytest.approx(path, abs=1e-3)
