"""The training set of a lake with a million payments, and both models fitted on it.

A synthetic world goes through bronze, silver and features once. Then, each several times: `set_s`, seconds of making
gold.training_set as gold.job does; `read_s`, of reading it as matrices; `models_s`, of XGBoost and the isolation forest
with their calibration on fitting and validation days, and both again on everything mature, as training.job does with
the default settings. `search_trials` settings of XGBoost are tried in it; `one_setting_s` is the same with one.
"""

import sys
import time
from collections.abc import Callable, Sequence

from benchmarks import place, report
from benchmarks.engine import reference
from benchmarks.filling import END_MS, fill
from bronze import job as bronze
from decisions.bundle import XGBOOST_KIND
from features import job as features
from features.catalogue import NAMES
from gold.training_set import Recipe, write
from lakehouse import delta
from lakehouse.contracts.gold import TRAINING_SET, VECTORS
from lakehouse.jobs import Context
from lakehouse.moments import DAY_MS, day_floor
from lakehouse.session import build_session
from lakehouse.settings import Settings
from lakehouse.storage import make_root
from silver import job as silver
from training.data import Dataset, read
from training.pipeline import fitted_again, fitted_on
from training.split import by_time


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def _lake(settings: Settings, size: int, seed: int) -> Context:
    """A lake with vectors of about so many payments, and their labels."""
    filled = fill(settings, size, seed, reference(settings))
    print(f"{filled.records:,} records on the log, {filled.payments:,} payments", flush=True)
    context = Context(settings, build_session(settings, "benchmark"), True, None)
    make_root(context.root)
    for name, run in (("bronze", bronze.run), ("silver", silver.run), ("features", features.run)):
        print(f"{name}: {_seconds(run, context):.1f} s", flush=True)
    return context


def _made(context: Context) -> None:
    place.removed(context.root, TRAINING_SET)
    write(context.spark, context.root, Recipe.now(context.root, END_MS, context.settings))


def _fitted(data: Dataset, settings: Settings, trials: int) -> None:
    """Both models as training.job fits them, evaluation apart."""
    training = settings.training.model_copy(update={"search_trials": trials})
    until = day_floor(data.as_of_ms) - training.label_gap_d * DAY_MS
    split = by_time(data, until, training.test_d, training.label_gap_d, training.validation_d)
    fitted = fitted_on(XGBOOST_KIND, data, split, training, settings.experiment.costs, _say)
    fitted_again(data, fitted, until, training)


def _once(context: Context) -> dict[str, float]:
    settings, root = context.settings, context.root
    found = {"set_s": _seconds(_made, context), "read_s": _seconds(read, root)}
    data = read(root)
    for name, trials in (("models_s", settings.training.search_trials), ("one_setting_s", 1)):
        found[name] = _seconds(_fitted, data, settings, trials)
    return found


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    size = "payments, 20,000 a day; splits need 22 days or more"
    given = report.parser("training", __doc__, 1_000_000, size).parse_args(argv)
    with place.place() as settings:
        context, runs = _lake(settings, given.size, given.seed), []
        for number in range(1, given.runs + 1):
            runs.append(_once(context))
            print(f"run {number}: " + ", ".join(f"{name} {value:.1f}" for name, value in runs[-1].items()), flush=True)
        data = read(context.root)
        assert len(data) == delta.count(context.root, VECTORS)
        more = {
            "payments": len(data),
            "features": len(NAMES),
            "frauds": int(data.is_fraud.sum()),
            "search_trials": settings.training.search_trials,
        }
        report.finish("training", given.runs, {**report.medians(runs), **more})


if __name__ == "__main__":
    main(sys.argv[1:])
