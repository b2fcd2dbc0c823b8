"""From a score to an outcome: four bands; thresholds in force give the cuts, else the model's manifest."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from decisions.forests import Doubles
from expectations.rules.rule_set import OUTCOMES as OUTCOMES

RISKS = ("low", "medium", "high", "critical")
"""By band: below the first cut, from the first on, from the second on, from the third on."""
REJECTED = "rejected"
"""The verdict of admission; never the engine's judgement."""


def edges(cuts: Mapping[str, float]) -> Doubles:
    """(1, 3): the cuts in ascending order."""
    return np.array([[cuts[name] for name in OUTCOMES[1:]]])


def bands(scores: Doubles, edges: Doubles) -> npt.NDArray[np.int64]:
    """The band of every score, an index into OUTCOMES and RISKS; a score on a cut belongs to the higher band.

    `edges` has one row for all scores, or one for each.
    """
    found: npt.NDArray[np.int64] = np.sum(scores[:, None] >= edges, axis=1, dtype=np.int64)
    return found
