"""How well scores rank payments and cards, with a weight for each: AUC, average precision, card precision."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

CARDS_A_DAY = 100
"""Cards that investigators look at in a day: the Fraud Detection Handbook's (Le Borgne and others 2022, chapter 4)."""


class Ranked(NamedTuple):
    """Payments by falling score, and where runs of equal scores end."""

    order: Ints
    fraud: Flags
    ends: Ints

    @staticmethod
    def of(scores: Doubles, fraud: Flags) -> "Ranked":
        """The ranking of scores."""
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        return Ranked(order, fraud[order], np.append(np.flatnonzero(np.diff(falling)), len(scores) - 1))

    def auc_and_precision(self, weights: Doubles) -> tuple[float, float]:
        """(AUC ROC, average precision) with a weight a payment, ties as in scikit-learn; NaN with one class only."""
        weights = weights[self.order]
        found = np.cumsum(np.where(self.fraud, weights, 0.0))[self.ends]
        wrong = np.cumsum(np.where(self.fraud, 0.0, weights))[self.ends]
        if found[-1] == 0 or wrong[-1] == 0:
            return float("nan"), float("nan")
        gained, step = np.diff(found, prepend=0.0), np.diff(wrong, prepend=0.0)
        auc = float((step * (found - gained / 2)).sum() / (found[-1] * wrong[-1]))
        flagged = found + wrong
        precision = np.divide(found, flagged, out=np.zeros(len(found)), where=flagged > 0)
        return auc, float((gained * precision).sum() / found[-1])


class CardDay(NamedTuple):
    """The cards of one day by falling highest score of their payments."""

    card: Ints
    fraud: Flags


def card_days(scores: Doubles, fraud: Flags, card: Ints, day: Ints) -> list[CardDay]:
    """The cards of every day, in order of time."""
    found = []
    for one in np.unique(day):
        rows = np.flatnonzero(day == one)
        cards, at = np.unique(card[rows], return_inverse=True)
        highest, any_fraud = np.full(len(cards), -np.inf), np.zeros(len(cards), np.bool_)
        np.maximum.at(highest, at, scores[rows])
        np.logical_or.at(any_fraud, at, fraud[rows])
        order = np.argsort(-highest, kind="stable")
        found.append(CardDay(cards[order], any_fraud[order]))
    return found


def card_precision(days: list[CardDay], of_card: Doubles, of_day: Doubles, cards_a_day: int = CARDS_A_DAY) -> float:
    """Share of compromised cards among the highest of each day, as many as are looked at; mean over days.

    A card that was found is blocked: it is not looked at on later days. `of_card` and `of_day` are weights by card
    code and by number of the day (ones: the plain figure). Handbook, chapter 4, card precision top-k.
    """
    blocked = np.zeros(len(of_card), np.bool_)
    total = weight = 0.0
    for number, one in enumerate(days):
        open_ = ~blocked[one.card]
        cards, fraud = one.card[open_], one.fraud[open_]
        counted = of_card[cards]
        before = np.cumsum(counted) - counted
        looked_at = np.flatnonzero((before < cards_a_day) & (counted > 0))
        found = looked_at[fraud[looked_at]]
        if of_day[number] and len(looked_at):
            total += of_day[number] * float(counted[found].sum()) / float(counted[looked_at].sum())
            weight += of_day[number]
        blocked[cards[found]] = True
    return float(total / weight) if weight else float("nan")
