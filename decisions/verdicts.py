"""What models, rules and the ladder make of accepted payments; a row a payment, each judged on its own.

A payment starts on the rung that it is given, and goes to a lower one where the model in force has no anomaly model or
gives it a score that is no number. Rules that fail take all payments that are judged together to the lowest rung.
"""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from decisions import ladder
from decisions.accepted import Accepted
from decisions.bundle import Model
from decisions.forests import Doubles, Matrix
from decisions.ladder import RULES_ONLY, STATIC, WHOLE, WITHOUT_ANOMALY, held_back, static_outcome
from decisions.outcome import OUTCOMES, RISKS, edges
from decisions.ruling import Ruling, Settled, ruled
from decisions.stages import Stages
from expectations.control import InForce
from lakehouse.crypto import Tokens
from lakehouse.settings import Ladder
from lakehouse.texts import Flags, Ints

SCORES = ("score", "score_xgboost", "score_isolation_forest", "score_with_rules")


class Scorer(NamedTuple):
    """A model, and the rows of the payments that it scores."""

    model: Model | None
    rows: Ints


@dataclass
class Verdicts:
    """Outcome, risk ("" where none) and rung of every payment; scores (4, n) by SCORES, zero where `has` is false."""

    rung: Ints
    outcome: list[str]
    risk: list[str]
    score: Doubles
    has: Flags
    ruling: Ruling | None
    ruled: Ints
    """Rows that the ruling is about."""
    fault: str
    """Why no rule was heard where some should have been."""
    propensity: Doubles | None = None
    """With which probability exploration lets a payment like each through, zero where never; None where it is off."""
    explored_from: dict[int, str] = field(default_factory=dict)
    """By row the outcome without exploration of those that it let through."""


def best_rung(model: Model | None) -> int:
    """The highest rung on which a model can decide."""
    if model is None:
        return RULES_ONLY
    return WITHOUT_ANOMALY if model.isolation is None else WHOLE


class Scored(NamedTuple):
    """Payments behind the models: the rung that each reached, and the scores (4, n), without what rules add."""

    rung: Ints
    score: Doubles
    cuts: Doubles
    """(n, 3), between the bands where no thresholds are in force."""


def verdicts(
    payments: Accepted,
    scorers: Sequence[Scorer],
    in_force: InForce,
    tokens: Sequence[Tokens],
    settings: Ladder,
    rung: Ints,
    stages: Stages,
) -> Verdicts:
    """The verdicts over accepted payments, each scored by one of the scorers; `rung` is the highest it may reach."""
    reached = _scored_by(scorers, payments.vectors, rung)
    stages.done("models")
    found = judged(payments, reached, in_force, tokens, settings)
    stages.done("rules")
    return found


def judged(
    payments: Accepted, reached: Scored, in_force: InForce, tokens: Sequence[Tokens], settings: Ladder
) -> Verdicts:
    """The verdicts over payments that models have scored."""
    rung, score = reached.rung.copy(), reached.score.copy()
    rows = np.flatnonzero(rung < STATIC)
    ruling, fault = None, ""
    if len(rows):
        some = payments if len(rows) == len(rung) else payments.taken(rows)
        try:
            ruling = ruled(some, score[0, rows], in_force, reached.cuts[rows], tokens)
        except Exception as error:
            # Rules and lists are what people write: whatever is wrong with them must not end the engine.
            fault, rows = _told(error), rows[:0]
            rung = np.full_like(rung, STATIC)
    outcome, risk = [""] * len(rung), [""] * len(rung)
    if ruling is not None:
        _fill(rows, ruling.settled, score, outcome, risk)
    _lowered(outcome, payments, settings, rung)
    has = _has(rung)
    return Verdicts(rung, outcome, risk, np.where(has, score, 0.0), has, ruling, rows, fault)


def _fill(rows: Ints, settled: Settled, score: Doubles, outcome: list[str], risk: list[str]) -> None:
    score[3, rows] = settled.score
    for row, which, band in zip(rows.tolist(), settled.outcome.tolist(), settled.band.tolist(), strict=True):
        outcome[row], risk[row] = OUTCOMES[which], RISKS[band]


def again(payments: Accepted, model: Model, settings: Ladder, first: Verdicts) -> Verdicts:
    """What another model makes of the same payments, beside what rules and lists said of them the first time."""
    rung, score, cuts = scored(model, payments.vectors, np.zeros(len(payments.vectors), np.int64))
    outcome, risk = [""] * len(rung), [""] * len(rung)
    if first.ruling is None:
        rung = np.full_like(rung, STATIC)
    else:
        rows = first.ruled
        _fill(rows, first.ruling.heard.settled(score[0, rows], cuts[rows]), score, outcome, risk)
    _lowered(outcome, payments, settings, rung)
    return Verdicts(rung, outcome, risk, np.where(_has(rung), score, 0.0), _has(rung), None, first.ruled, first.fault)


def _has(rung: Ints) -> Flags:
    return np.stack([rung < RULES_ONLY, rung < RULES_ONLY, rung == WHOLE, rung < STATIC])


def scored(model: Model | None, X: Matrix, rung: Ints) -> Scored:
    """What a model makes of vectors; `rung` is the highest that each payment may reach."""
    rung, score = np.maximum(rung, best_rung(model)), np.zeros((len(SCORES), len(X)))
    rows = np.flatnonzero(rung < RULES_ONLY)
    if model is None or not len(rows):
        return Scored(rung, score, _cuts(model, rung))
    found = model.scores(X if len(rows) == len(X) else X[rows])
    whole = np.isfinite(found.ensemble) & np.isfinite(found.isolation_forest) & (rung[rows] == WHOLE)
    sound = np.isfinite(found.supervised)
    rung[rows] = np.where(sound, np.where(whole, WHOLE, WITHOUT_ANOMALY), RULES_ONLY)
    score[0, rows] = np.where(whole, found.ensemble, np.where(sound, found.supervised, 0.0))
    score[1, rows], score[2, rows] = found.supervised, found.isolation_forest
    return Scored(rung, score, _cuts(model, rung))


def _scored_by(scorers: Sequence[Scorer], X: Matrix, rung: Ints) -> Scored:
    """`scored` of every payment by its own scorer; each scores all of its payments at once."""
    if len(scorers) == 1:
        return scored(scorers[0].model, X, rung)
    whole = Scored(rung.copy(), np.zeros((len(SCORES), len(X))), np.empty((len(X), len(OUTCOMES) - 1)))
    for model, rows in scorers:
        found = scored(model, X[rows], rung[rows])
        whole.rung[rows], whole.score[:, rows], whole.cuts[rows] = found
    return whole


def _told(error: Exception) -> str:
    """What and where, never the values that were at hand."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"


def _cuts(model: Model | None, rung: Ints) -> Doubles:
    """Of every payment the cuts that count where no thresholds are in force: below the models not the model's own."""
    lowest = edges(ladder.CUTS)
    own = lowest if model is None else edges(model.manifest["cuts"])
    return np.where((rung < RULES_ONLY)[:, None], own, lowest)


def _lowered(outcome: list[str], payments: Accepted, settings: Ladder, rung: Ints) -> None:
    """Fill what the static policy decides, and hold back approvals of large amounts below the highest rung."""
    below = np.flatnonzero((rung > WHOLE) | payments.capped)
    if not len(below):
        return
    channels = payments.batch.texts("channel").take(below).to_list()
    amounts = payments.amount_base_minor[below].tolist()
    for row, amount, channel in zip(below.tolist(), amounts, channels, strict=True):
        if rung[row] == STATIC:
            outcome[row] = static_outcome(settings, amount, channel.decode())
        else:
            outcome[row] = held_back(outcome[row], amount, settings.approve_up_to_minor)
