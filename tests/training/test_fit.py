"""Fitting on the columns that tell payments apart gives a model over all of them."""

import numpy as np
import xgboost as xgb

from training.fit import margins_of, placed, refitted, varied

NAN = np.nan


def test_a_column_tells_payments_apart_by_its_values_or_by_being_there():
    X = np.array([[1, 1, NAN, 1, NAN], [1, 2, NAN, NAN, 3], [1, 1, NAN, 1, 3]], np.float32)
    assert varied(X).tolist() == [1, 3, 4]
    assert varied(X[:, [0, 2]]).tolist() == [0]


def test_a_model_of_some_columns_scores_the_same_over_all(seed):
    random = np.random.default_rng(seed)
    X = np.full((500, 9), NAN, np.float32)
    X[:, [2, 5, 7]] = random.normal(size=(500, 3))
    X[random.random((500, 9)) < 0.1] = NAN
    X[:, 4] = 6
    fraud = np.nan_to_num(X[:, 5]) + np.nan_to_num(X[:, 7]) > 1
    columns = varied(X)
    narrow = xgb.train({"objective": "binary:logistic"}, xgb.DMatrix(X[:, columns], fraud), 20)
    whole = placed(narrow, columns, 9)
    assert np.array_equal(margins_of(narrow, X[:, columns]), margins_of(whole, X))
    assert set(whole.get_score()) == {"f2", "f5", "f7"}
    found = refitted(X, fraud, np.arange(500), {"max_depth": 3}, 10, seed)
    assert found.num_features() == 9
