"""What a score earns when its highest take the outcomes that people and customers have time for."""

from typing import NamedTuple

import numpy as np

from decisions.outcome import bands, edges
from lakehouse.experiment_settings import Costs
from training.costs import Doubles, Flags, Ints, costs
from training.cutting import cuts

REVIEW = 2
"""Of OUTCOMES."""


class Money(NamedTuple):
    """Minor units of the base currency, over all payments; against approving everything."""

    prevented: float
    """Of the frauds' amounts, what no longer passes."""
    friction: float
    """What checks of genuine payments cost: customers who give up, call, or leave."""
    review: float
    """The reviewers' time."""

    @property
    def net(self) -> float:
        """What is left."""
        return self.prevented - self.friction - self.review


def outcomes(scores: Doubles, budget_per_1000: float) -> Ints:
    """The outcome of every payment when the alert budget is shared out by score: `training.cutting.cuts`."""
    return bands(scores, edges(cuts(scores, budget_per_1000)))


def earned(outcome: Ints, fraud: Flags, amount_minor: Ints, of: Costs) -> Money:
    """What outcomes earn; the assumptions are the settings `experiment.costs`."""
    amount = amount_minor.astype(np.float64)
    review = float((outcome == REVIEW).sum() * of.review_minor)
    cost = costs(outcome, fraud, amount, of) - np.where(outcome == REVIEW, float(of.review_minor), 0.0)
    return Money(float(amount[fraud].sum() - cost[fraud].sum()), float(cost[~fraud].sum()), review)
