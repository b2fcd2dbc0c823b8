"""A payment's reasons on one core: exact contributions of both models, then its record; beside XGBoost's own.

The models have the size of the product's: 300 trees of depth 6, and an isolation forest of 100 x 256.
"""

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import xgboost

from benchmarks import models, report
from decisions.beside import AT_ONCE, explained
from decisions.explained import contributions
from decisions.record import Subject
from features.catalogue import NAMES
from training.boosted import Boosted
from training.package import model_of

FITTED_ON = 20_000


def _us(work: Callable[[], object], payments: int) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) / payments * 1e6


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    given = report.parser("reasons", __doc__, 2_000, "payments explained").parse_args(argv)
    random = np.random.default_rng(given.seed)
    X = random.normal(size=(FITTED_ON, len(NAMES))).astype(np.float32)
    fitted = models.fitted_to(X, random.random(FITTED_ON) < 0.02, given.seed)
    model = model_of(fitted, {"challenge": 0.5, "review": 0.7, "decline": 0.9})
    X = X[: given.size]
    of_margin, of_length = model.supervised, model.why_length
    assert of_length is not None
    assert isinstance(fitted.supervised, Boosted)
    booster = fitted.supervised.booster
    subjects = [Subject("topic", 0, i, f"{i:032x}", f"t-{i}", row.tobytes()) for i, row in enumerate(X)]
    pieces = [subjects[i : i + AT_ONCE] for i in range(0, len(subjects), AT_ONCE)]
    booster.set_param({"nthread": 1})
    theirs = booster.predict(xgboost.DMatrix(X), pred_contribs=True)[:, :-1]
    apart = float(np.abs(of_margin.contributions(X) - theirs).max())
    assert apart < 1e-6, f"contributions differ from the library's by {apart}"
    contributions(model, X[:AT_ONCE])
    runs, against = [], []
    for number in range(given.runs):
        figures = {
            "xgboost_us": _us(lambda: of_margin.contributions(X), len(X)),
            "isolation_forest_us": _us(lambda: of_length.contributions(X), len(X)),
            "us_per_payment": _us(lambda: [explained(piece, model) for piece in pieces], len(X)),
        }
        runs.append(figures)
        library = lambda: booster.predict(xgboost.DMatrix(X), pred_contribs=True)  # noqa: E731
        against.append({"xgboost_us": _us(library, len(X))})
        text = ", ".join(f"{name} {value:.0f}" for name, value in figures.items())
        print(f"run {number + 1}: {text}; XGBoost's pred_contribs {against[-1]['xgboost_us']:.0f}")
    report.finish("reasons", given.runs, report.medians(runs), {"pred_contribs": report.medians(against)})


if __name__ == "__main__":
    main(sys.argv[1:])
