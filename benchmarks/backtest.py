"""A backtest from silver: payments a second with features rebuilt, both models, 30 rules in force and 30 others.

The report is part of the time. `changed_model_payments_per_s` is the same with another model beside the one in force:
every payment is scored twice. Features are made from an empty state.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence

from benchmarks import models, place, report
from benchmarks.engine import RULES, in_force, rule_set, vectors
from benchmarks.filling import fill
from bronze import job as bronze
from decisions.shelf import Shelf
from decisions.stages import Stages
from expectations.rules.rule_set import RuleSet
from lakehouse import settings as conf
from lakehouse.jobs import Context
from lakehouse.session import build_session
from lakehouse.settings import Settings
from lakehouse.storage import make_root
from silver import job as silver
from training.backtest import Policies, asked, backtest, known
from training.backtest_report import Report
from training.interval import interval
from training.policy import Changes


def once(settings: Settings, changes: Changes, payments: int) -> tuple[float, Mapping[str, float]]:
    """(payments a second, us a payment by stage) of one backtest over everything."""
    stages = Stages()
    began = time.perf_counter()
    root = conf.lake_root(settings)
    over = interval(root, None, None)
    of = known(root, over.as_of_ms, settings, None)
    found = backtest(settings, over, Policies(Changes(), changes), of, lambda _offset: None, stages)
    stages.begin()
    told = Report.of(asked(over, of, {}), found, settings.experiment, settings.training.seed)
    stages.done("report")
    seconds = time.perf_counter() - began
    assert told.payments == payments, (told.payments, payments)
    assert sum(told.original["rungs"].values()) == told.original["rungs"]["full"]
    return payments / seconds, {name: round(s / payments * 1e6, 2) for name, s in stages.seconds.items()}


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    made = report.parser("backtest", __doc__, 200_000, "payments in silver")
    made.add_argument("--rules", type=int, default=RULES, help=f"active rules (default {RULES})")
    given = made.parse_args(argv)
    with place.place() as settings:
        fitted_on = vectors(settings, given.seed)
        digest, other = (models.store(settings, fitted_on, seed) for seed in (given.seed, given.seed + 1))
        filled = fill(settings, given.size, given.seed, in_force(settings, digest, given.rules))
        context = Context(settings, build_session(settings, "benchmark"), True, None)
        make_root(context.root)
        bronze.run(context)
        silver.run(context)
        context.spark.stop()
        rules = RuleSet.of(rule_set(given.rules).replace('"score":0.05', '"score":0.1'))
        ways = {
            "payments_per_s": Changes(rules=rules),
            "changed_model_payments_per_s": Changes(rules=rules, model=Shelf.of(settings).loaded(other)),
        }
        runs = []
        for number in range(given.runs + 1):
            figures: dict[str, float] = {}
            for name, changes in ways.items():
                figures[name], stages = once(settings, changes, filled.payments)
                told = f"{name} {figures[name]:,.0f}, us by stage {dict(stages)}"
                print(f"run {number or 'to warm up'}: {told}, load {os.getloadavg()[0]:.1f}", flush=True)
                if name == "payments_per_s":
                    of_first = stages
            if number:
                runs.append({**figures, **of_first})
        medians = report.medians(runs)
        rates = {name: medians.pop(name) for name in ways}
        report.finish("backtest", given.runs, {**rates, "us_per_payment": medians, "payments": filled.payments})


if __name__ == "__main__":
    main(sys.argv[1:])
