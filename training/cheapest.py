"""Cuts by money: of all ways to cut the scores of validation days into bands, the one that costs least."""

from collections import deque

import numpy as np

from decisions.bundle import SCALE
from decisions.outcome import OUTCOMES
from lakehouse.experiment_settings import Costs
from training.costs import Doubles, Flags, Ints, costs

CHALLENGE, REVIEW, DECLINE = (OUTCOMES.index(name) for name in ("challenge", "review", "decline"))


def _prefixes(fraud: Flags, amount: Doubles, of: Costs) -> Doubles:
    """(4, n + 1): what the first so many payments cost under each outcome."""
    each = [costs(np.full(len(fraud), outcome), fraud, amount, of) for outcome in range(len(OUTCOMES))]
    return np.concatenate([np.zeros((len(OUTCOMES), 1)), np.cumsum(each, axis=1)], axis=1)


def _places(scores: Doubles, fraud: Flags, amount: Doubles, stopped: int, reviews: int, of: Costs) -> list[int]:
    """[i, j, k] of payments by falling score: the first i declined, those up to j reviewed, up to k challenged.

    Bands part only where scores differ. Of equally cheap ways the one that stops fewer.
    """
    total = _prefixes(fraud, amount, of)
    parts = np.flatnonzero(np.concatenate([[True], scores[:-1] > scores[1:], [True]]))
    parts = parts[parts <= stopped]
    declined, reviewed, challenged = total[DECLINE] - total[REVIEW], total[REVIEW] - total[CHALLENGE], total[CHALLENGE]
    window: deque[int] = deque()
    two: tuple[float, int, int] | None = None
    best: tuple[float, int, int, int] | None = None
    for place in parts.tolist():
        while window and declined[window[-1]] > declined[place]:
            window.pop()
        window.append(place)
        while window[0] < place - reviews:
            window.popleft()
        cost = float(declined[window[0]] + reviewed[place])
        if two is None or cost < two[0]:
            two = (cost, window[0], place)
        whole = two[0] + float(challenged[place] - total[0][place])
        if best is None or whole < best[0]:
            best = (whole, two[1], two[2], place)
    assert best is not None
    return list(best[1:])


def cheapest(
    scores: Doubles, fraud: Flags, amount_minor: Ints, stopped_per_1000: float, reviews_per_1000: float, of: Costs
) -> dict[str, float]:
    """The cuts whose decisions cost least on these payments, by the settings `experiment.costs`.

    Of a thousand payments at most so many are not approved, and at most so many are reviewed: people's time is not
    for sale. A band that does not pay is as thin as scores are fine.
    """
    order = np.argsort(-scores, kind="stable")
    stopped, reviews = (int(len(scores) * share / 1000) for share in (stopped_per_1000, reviews_per_1000))
    falling = scores[order]
    places = _places(falling, fraud[order], amount_minor[order].astype(np.float64), stopped, reviews, of)
    found: dict[str, float] = {}
    begin, cut = 0, 1 + 1 / SCALE
    for name, end in zip(reversed(OUTCOMES[1:]), places, strict=True):
        below = round(cut - 1 / SCALE, 6)
        cut = min(float(falling[end - 1]), below) if end > begin else below
        found[name], begin = cut, end
    return {name: found[name] for name in OUTCOMES[1:]}
