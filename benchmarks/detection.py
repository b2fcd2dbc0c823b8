"""Detection on recorded payments, by the protocol of the Fraud Detection Handbook, beside what the book published.

The recording in `--data` goes through the engine's driver; the product's own training (`training.pipeline`) learns from
the payments up to the end of the book's training week, with the labels that had arrived when the test week begins, and
the engine's own scorer judges the test week. Test week, filter and metrics are the book's. The configuration is that of
`conf/base.yml` with what CONFIGURATION says, chosen on weeks before the test week. Figures are means over seeds, on the
test week with the bootstrap interval of the first of them; `against` holds the book's models on the book's features,
made again here, and the published figures.

Without the recording there is nothing to do, and it says so.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import handbook, place, report
from benchmarks.handbook import FOLDS, NAMES, PUBLISHED, TEST_START, WEEK_D, Days
from benchmarks.replayed import Replayed, replayed
from decisions.bundle import XGBOOST_KIND
from lakehouse.moments import DAY_MS
from lakehouse.settings import Settings
from simulator.replay import FILE
from training.bootstrap import intervals
from training.package import model_of
from training.pipeline import fitted_again, fitted_on
from training.ranking import Doubles, Ints, Ranked, card_days, card_precision
from training.split import by_time

CONFIGURATION: Mapping[str, Any] = {
    "search_trials": 1,
    "ensemble": "ranking",
    "validation_d": WEEK_D,
    "test_d": WEEK_D,
    "label_gap_d": WEEK_D,
}
"""One setting instead of a search; weights of the ensemble by validation days; the book's weeks."""
WARM_UP_D = 37
"""The longest window and the label delay: before that, no fraud rate looks back over all of its window."""
HISTORY_D = 90
SEEDS = 5


class Bench:
    """A replayed recording and the book's protocol over it."""

    def __init__(self, found: Replayed, days: Days, settings: Settings, history_d: int) -> None:
        self.found, self.days, self._history_d = found, days, history_d
        self._settings, self._costs = settings.training, settings.experiment.costs

    def test(self, day: str) -> Ints:
        """Rows of the test week that begins on a day."""
        data = self.found.data
        return handbook.test_rows(self.days.of, data.card, data.is_fraud, self.days.number(day))

    def scores(self, day: str, seed: int) -> Doubles:
        """Scores of that test week by the product, trained with what was known when it began."""
        start = self.days.start_ms(self.days.number(day))
        data = self.found.data
        rows = data.between(start - (self._history_d + WEEK_D) * DAY_MS, start + WEEK_D * DAY_MS)
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        known = replace(
            data,
            X=data.X[part],
            transaction_id=data.transaction_id[part],
            event_ms=data.event_ms[part],
            is_fraud=data.fraud_known_at(start)[part],
            available_ms=data.available_ms[part],
            card=data.card[part],
            amount_base_minor=data.amount_base_minor[part],
            as_of_ms=start,
        )
        settings = self._settings.model_copy(update={**CONFIGURATION, "seed": seed})
        split = by_time(known, start + WEEK_D * DAY_MS, WEEK_D, WEEK_D, settings.validation_d)
        fitted = fitted_on(
            XGBOOST_KIND, known, split, settings, self._costs, lambda line: print(f"  {line}", flush=True)
        )
        final = fitted_again(known, fitted, split.train_end_ms, settings)
        return model_of(final, {}).scores(data.X[self.test(day)]).ensemble

    def measured(self, day: str, scores: Doubles) -> dict[str, float]:
        """The book's three metrics of scores on a test week."""
        rows, data = self.test(day), self.found.data
        return handbook.measured(scores, data.is_fraud[rows], data.card[rows], self.days.of[rows])

    def intervals(self, day: str, scores: Doubles, seed: int) -> dict[str, tuple[float, float]]:
        """95 % intervals of the metrics, by bootstrap over cards and days."""
        rows, data = self.test(day), self.found.data
        fraud, card, numbers = data.is_fraud[rows], data.card[rows], self.days.of[rows]
        ranked, by_day = Ranked.of(scores, fraud), card_days(scores, fraud, card, numbers)

        def statistics(of_card: Doubles, of_day: Doubles) -> dict[str, float]:
            auc, precision = ranked.auc_and_precision(of_card[card] * of_day[numbers - numbers.min()])
            return {"auc": auc, "ap": precision, "cp100": card_precision(by_day, of_card, of_day)}

        return intervals(statistics, int(data.card.max()) + 1, WEEK_D, seed)

    def theirs(self, folder: Path, day: str, of_folds: bool) -> dict[str, dict[str, float]]:
        """The book's XGBoost and random forest on the book's features and weeks; nothing without these features."""
        recording, data = self.found.recording, self.found.data
        X = handbook.reference_features(folder, recording.number, recording.amount_minor)
        if X is None:
            return {}
        start = self.days.number(day)
        train = np.flatnonzero((self.days.of >= start - 2 * WEEK_D) & (self.days.of < start - WEEK_D))
        rows = self.test(day)
        if np.isnan(X[train]).any() or np.isnan(X[rows]).any():
            return {}
        mean, deviation = X[train].mean(axis=0), X[train].std(axis=0)
        scaled = (X - mean) / deviation
        fraud = data.is_fraud[train]
        models = {
            "xgboost": handbook.their_xgboost(scaled[train], fraud, *((50, 3) if of_folds else (100, 6)), seed=0),
            "random_forest": handbook.their_forest(scaled[train], fraud, 20 if of_folds else None, seed=0),
        }
        return {name: self.measured(day, model(scaled[rows])) for name, model in models.items()}


def mean(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric."""
    return {name: round(float(np.mean([one[name] for one in found])), 4) for name in NAMES}


def _line(name: str, found: Mapping[str, float]) -> str:
    return f"{name:34} " + "  ".join(f"{metric} {found[metric]:.4f}" for metric in NAMES)


def _first_day(folder: Path) -> str:
    first = pc.min(pq.read_table(folder / FILE, columns=["tx_datetime"]).column(0)).as_py()
    found: date = first.date() + timedelta(days=WARM_UP_D)
    return found.isoformat()


def _reproduced(bench: Bench, folder: Path, test: str, folds: Sequence[str]) -> dict[str, Any]:
    """The book's models made again: on the test week, and their mean on the folds."""
    found: dict[str, Any] = {name: dict(one) for name, one in bench.theirs(folder, test, False).items()}
    of_folds = [bench.theirs(folder, day, True) for day in folds]
    for name in found:
        found[name] = {metric: round(value, 4) for metric, value in found[name].items()}
        if all(name in one for one in of_folds):
            found[name]["folds"] = mean([one[name] for one in of_folds])
            print(_line(f"book's {name}, folds, again", found[name]["folds"]), flush=True)
        print(_line(f"book's {name}, test week, again", found[name]), flush=True)
    return found


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    parser = report.parser("detection", __doc__, HISTORY_D, "days of history to learn from, at most")
    parser.set_defaults(runs=SEEDS, seed=0)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the recording; without it nothing is done")
    parser.add_argument(
        "--test-start", default=TEST_START, metavar="DAY", help=f"first test day (default {TEST_START})"
    )
    parser.add_argument(
        "--folds", nargs="*", default=list(FOLDS), metavar="DAY", help=f"first test days of folds ({', '.join(FOLDS)})"
    )
    given = parser.parse_args(argv)
    if given.data is None or not (given.data / FILE).exists():
        print(f"Skipped: --data names no folder with {FILE}.")
        return
    seeds = range(given.seed, given.seed + given.runs)
    with tempfile.TemporaryDirectory(prefix="fraudlake-benchmark-") as folder, place.apart(Path(folder)) as settings:
        found = replayed(settings, given.data, WARM_UP_D)
        bench = Bench(found, Days(found, _first_day(given.data)), settings, given.size)
    by_day: dict[str, dict[str, float]] = {}
    for day in [given.test_start, *given.folds]:
        runs = []
        for seed in seeds:
            scores = bench.scores(day, seed)
            runs.append(bench.measured(day, scores))
            print(_line(f"test week {day}, seed {seed}", runs[-1]), flush=True)
            if day == given.test_start and seed == seeds[0]:
                spread = bench.intervals(day, scores, seed)
        by_day[day] = mean(runs)
    folds = mean([by_day[day] for day in given.folds]) if given.folds else {}
    again = _reproduced(bench, given.data, given.test_start, given.folds)
    if folds:
        print(_line("folds, mean", folds))
    print(_line(f"test week {given.test_start}, mean", by_day[given.test_start]))
    for name, (low, high) in spread.items():
        print(f"  {name}: 95 % interval {low:.3f} to {high:.3f} over cards and days")
    figures = {
        **by_day[given.test_start],
        "interval": {name: [round(x, 4) for x in bounds] for name, bounds in spread.items()},
        "folds": folds,
    }
    against = {"published": PUBLISHED, "reproduced": again}
    report.finish("detection", given.runs, figures, against)


if __name__ == "__main__":
    main(sys.argv[1:])
