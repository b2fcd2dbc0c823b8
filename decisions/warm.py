"""The kernels of this room, called once on one tree."""

import numpy as np

from decisions.contributions import covers_of_isolation, explainer
from decisions.forests import LEAF, joined, margins, path_lengths, sigmoids


def warm() -> None:
    """Compile or load them."""
    leaf = {"feature": [LEAF], "threshold": [0], "left": [0], "right": [0], "missing_left": [False], "value": [1]}
    forest = joined([{name: np.array(values) for name, values in leaf.items()}])
    X = np.zeros((1, 1), np.float32)
    sigmoids(margins(forest, 0.0, X), 1.0, 0.0)
    path_lengths(forest, X)
    explainer(forest, covers_of_isolation(forest, 0.0)).contributions(X)
