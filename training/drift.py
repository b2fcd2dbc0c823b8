"""Watches what models stand on: features, scores, rates, calibration and importances, against the champion's reference.

python -m training.drift             every window since the last run, up to the newest whole day
python -m training.drift --json      the alarms as JSON lines

Each figure has limits from the windows of the reference (training/null.py): of scores and calibration from those that
the champion did not learn from, where there are enough. Rows go to quality.drift; those that are
there are not made again. Exit code 1: an alarm in a window that is new; 2: it could not look.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from decisions import bundle
from decisions.bundle import Model
from decisions.champion import needed
from lakehouse import delta, jobs
from lakehouse import settings as conf
from lakehouse.contracts.quality import DRIFT
from lakehouse.log import configure, logger
from lakehouse.moments import day_floor, moment_ms
from lakehouse.runs import recorded
from lakehouse.settings import Settings, resolve
from lakehouse.signing import trust
from training.promotion import learnt_until_ms, seen_until_ms
from training.watch import Row, Watch, newest


def champion(settings: Settings) -> Model:
    """The verified champion; ControlRefused before there is one."""
    digest = needed(conf.lake_root(settings))
    return bundle.load(resolve(settings.models.store), digest, trust(resolve(settings.keys.folder)))


def watched(
    settings: Settings, model: Model, until_ms: int | None, reference_end_ms: int | None, importances: bool
) -> list[Row]:
    """Measure what is new of a champion and write it; the new rows."""
    end_ms = seen_until_ms(model) if reference_end_ms is None else reference_end_ms
    rows = list(Watch(settings, model, day_floor(end_ms), learnt_until_ms(model)).rows(until_ms, importances))
    if rows:
        delta.append(conf.lake_root(settings), DRIFT, rows)
    for row in rows:
        if row["alarm"]:
            told = {name: row[name] for name in ("subject", "measure", "value", "low", "high")}
            logger("drift").warning("drift", window_end=f"{row['window_end']:%Y-%m-%d}", **told)
    return rows


def _exported(path: Path, rows: Sequence[Row]) -> None:
    """Figures of the newest windows for Prometheus's textfile collector."""
    metrics = CollectorRegistry()
    alarms = Gauge("fraudlake_drift_alarms", "Alarms in the newest window of each measure", registry=metrics)
    alarms.set(sum(row["alarm"] for row in rows))
    values = Gauge("fraudlake_drift", "A measure of the newest window", ("subject", "measure"), registry=metrics)
    for row in rows:
        values.labels(row["subject"], row["measure"]).set(row["value"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(path), metrics)


def _lines(rows: Sequence[Row]) -> list[str]:
    alarms = [row for row in rows if row["alarm"]]
    lines = [
        f"{row['window_end']:%Y-%m-%d} {row['subject']:36} {row['measure']:14} {row['value']:.4g}, "
        f"expected {'below' if row['low'] is None else f'''{row['low']:.4g} to'''} {row['high']:.4g}"
        for row in alarms
    ]
    windows = len({row["window_end"] for row in rows})
    return [*lines, f"{len(rows)} measures of {windows} windows, {len(alarms)} alarms"]


def main(argv: Sequence[str]) -> int:
    """Measure what is new; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.drift", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--until", type=moment_ms, metavar="TIME", help="windows that end by then (default: all)")
    parser.add_argument(
        "--reference-end", type=moment_ms, metavar="TIME", help="default: the end of the champion's fit and test days"
    )
    parser.add_argument("--without-importance", action="store_true", help="do not fit again for importances")
    parser.add_argument("--metrics", type=Path, metavar="FILE", help="for Prometheus's textfile collector")
    parser.add_argument("--json", action="store_true", help="alarms as JSON lines")
    arguments = parser.parse_args(argv)
    found: list[list[Row]] = []

    def work() -> None:
        settings = conf.load(arguments.env)
        configure(settings, "drift")
        with recorded(settings, "training.drift") as run:
            model = champion(settings)
            rows = watched(settings, model, arguments.until, arguments.reference_end, not arguments.without_importance)
            run.exit_code = int(any(row["alarm"] for row in rows))
        if arguments.metrics is not None:
            _exported(arguments.metrics, newest(conf.lake_root(settings), model.digest))
        lines = [orjson.dumps(row).decode() for row in rows if row["alarm"]] if arguments.json else _lines(rows)
        print("\n".join(lines))
        found.append(rows)

    if jobs.guarded(work) or not found:
        return 2
    return int(any(row["alarm"] for row in found[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
