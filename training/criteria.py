"""The declared criteria of a promotion, each with what was found and what is needed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lakehouse.experiment_settings import Experiment
from training.matured import Matured
from training.metrics import measured
from training.paired import Savings, savings

SEED = 0


class Criterion(NamedTuple):
    """One condition of a promotion."""

    name: str
    passed: bool
    found: str
    needed: str

    def text(self) -> str:
        """One line for people."""
        return f"{'pass' if self.passed else 'FAIL'}  {self.name}: {self.found}; needed: {self.needed}"


def judged(matured: Matured, rho: float, of: Experiment) -> list[Criterion]:
    """Money, segments, calibration and latency, in this order."""
    capped = savings(matured.pairs, of.costs, of.cap_minor)
    return [
        *_money(matured, capped, rho, of),
        _segments(matured, capped, of),
        _calibration(matured, of),
        _latency(matured, of),
    ]


def _money(matured: Matured, capped: Savings, rho: float, of: Experiment) -> list[Criterion]:
    found = capped.interval(of.alpha, rho)
    whole = savings(matured.pairs, of.costs, None).bootstrap(of.bootstrap_runs, of.alpha, SEED)
    told = (
        f"saves {found.mean:.3f} minor units a payment ({capped.share:.1%} of the cost), at every look between "
        f"{found.low:.3f} and {found.high:.3f}; amounts whole, at this look: {whole.mean:.3f} between {whole.low:.3f} "
        f"and {whole.high:.3f}"
    )
    differ = len(capped.by_card)
    return [
        Criterion(
            "evidence",
            differ >= of.least_differences,
            f"{capped.payments:,} matured payments, {int(matured.pairs.fraud.sum()):,} frauds, {differ:,} cards on "
            "which the models differ",
            f"at least {of.least_differences} such cards",
        ),
        Criterion("money", found.above_zero, told, "the whole interval above zero"),
    ]


def _segments(matured: Matured, capped: Savings, of: Experiment) -> Criterion:
    most = of.segment_margin * capped.champion_minor / max(1, capped.payments)
    worse, looked = [], 0
    for name, rows in matured.segments.items():
        if rows.sum() < of.segment_least_payments:
            continue
        looked += 1
        part = savings(matured.pairs.taken(rows), of.costs, of.cap_minor)
        if -part.mean > most:
            worse.append(f"{name} by {-part.mean:.3f}")
    found = f"dearer: {', '.join(worse)}" if worse else f"none of {looked} is"
    needed = f"none dearer by more than {most:.3f} minor units a payment, {of.segment_margin:.0%} of the mean cost"
    return Criterion("segments", not worse, found, needed)


def _calibration(matured: Matured, of: Experiment) -> Criterion:
    fraud = matured.pairs.fraud
    both = np.isfinite(matured.champion_score) & np.isfinite(matured.challenger_score)
    if not both.any():
        return Criterion("calibration", False, "no payment has a score of both", "scores of both")
    errors = [
        measured(score[both], fraud[both], 1.0)["calibration_error"]
        for score in (matured.challenger_score, matured.champion_score)
    ]
    return Criterion(
        "calibration",
        errors[0] <= errors[1] + of.calibration_margin,
        f"error {errors[0]:.4f}, the champion's {errors[1]:.4f}",
        f"at most {of.calibration_margin} above the champion's",
    )


def _latency(matured: Matured, of: Experiment) -> Criterion:
    us = matured.scoring_us
    mean = float(us.mean()) if len(us) else float("inf")
    return Criterion("latency", mean <= of.scoring_us, f"{mean:.1f} us a payment", f"at most {of.scoring_us:g} us")


def failed(criteria: Sequence[Criterion]) -> list[str]:
    """Names of the criteria that are not met."""
    return [one.name for one in criteria if not one.passed]
