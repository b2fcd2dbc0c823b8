"""What decisions cost: the part of a fraud that passes, and what checks do to honest customers."""

import numpy as np
import numpy.typing as npt

from expectations.rules.rule_set import OUTCOMES
from lakehouse.experiment_settings import Costs

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def costs(outcome: Ints, fraud: Flags, amount_minor: Doubles, of: Costs) -> Doubles:
    """The cost of every decision, minor units; `outcome` is an index into approve, challenge, review, decline.

    A fraud costs its amount as far as it passes; a genuine payment what the check does to its customer. Every review
    costs the reviewer.
    """
    assert OUTCOMES == ("approve", "challenge", "review", "decline")
    passes = np.array([1.0, of.challenge_passes, of.review_passes, 0.0])
    friction = np.array([0, of.challenge_genuine_minor, of.review_genuine_minor, of.decline_genuine_minor], np.float64)
    share = np.array([0.0, 0.0, 0.0, of.decline_genuine_share])
    work = np.array([0.0, 0.0, of.review_minor, 0.0])
    on_fraud = passes[outcome] * amount_minor
    on_genuine = friction[outcome] + share[outcome] * amount_minor
    found: Doubles = work[outcome] + np.where(fraud, on_fraud, on_genuine)
    return found
