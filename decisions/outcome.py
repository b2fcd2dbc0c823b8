"""From a score to an outcome: four bands; thresholds in force give the cuts, else the model's manifest."""

from collections.abc import Mapping

import numpy as np

from decisions.forests import Doubles
from expectations.rules.rule_set import OUTCOMES as OUTCOMES

RISKS = ("low", "medium", "high", "critical")
"""By band: below the first cut, from the first on, from the second on, from the third on."""
REJECTED = "rejected"
"""The verdict of admission; never the engine's judgement."""
FULL = "full"
"""The rung of the ladder on which every part works."""
STATE_CAPPED = "state_capped"
"""The rung on which the state held as many keys as it may: features of whoever is new are missing."""


def bands(scores: Doubles, cuts: Mapping[str, float]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The band of every score, an index into OUTCOMES and RISKS; a score on a cut belongs to the higher band."""
    return np.searchsorted(np.array([cuts[name] for name in OUTCOMES[1:]]), scores, side="right")
