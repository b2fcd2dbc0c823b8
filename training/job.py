"""gold.training_set -> XGBoost or a network, isolation forest, calibration; evaluated in time, signed, registered.

The evaluated model has seen nothing that was not known when its test days began. The registered one has the same
settings and is fitted again on every payment whose labels had time to arrive.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from decisions import bundle
from decisions.network import needed
from expectations.gate import refuse_held
from lakehouse import jobs
from lakehouse import settings as conf
from lakehouse.log import configure, logger
from lakehouse.moments import DAY_MS, day_floor
from lakehouse.runs import recorded
from lakehouse.settings import Settings, resolve
from lakehouse.signing import signer
from training import registry, report
from training.data import Dataset, read, read_exported, spans, text_of
from training.evaluate import Evaluation, HeldOut, evaluated
from training.fit import Doubles, Fitted
from training.package import packed
from training.pipeline import cuts_of, fitted_again, fitted_on, test_scores
from training.refusing import refuse_overlap, refuse_unfit
from training.rules_alone import RulesAlone, rules_alone, shipped
from training.split import Split, by_time
from training.truth import told


def _write_predictions(path: Path, data: Dataset, split: Split, scores: dict[str, Doubles]) -> None:
    columns = {
        "transaction_id": data.transaction_id.take(pa.array(split.test)),
        "event_ms": data.event_ms[split.test],
        **scores,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def train(
    settings: Settings,
    test_end_ms: int | None,
    predictions: Path | None,
    fitted_until_ms: int | None = None,
    folder: Path | None = None,
    now_ms: int | None = None,
    rules: Path | None = None,
    kind: str = bundle.XGBOOST_KIND,
    truth: Path | None = None,
) -> str:
    """Train on the lake's training set, or on an export of it; evaluate, sign, register; the digest of the bundle.

    `truth` names the patterns of frauds to the report, and to nothing else.
    """
    say, training = logger("training").info, settings.training
    root = conf.lake_root(settings)
    if folder is None:
        refuse_held(root, spans(root), settings.quality)
    if kind == bundle.NEURAL_KIND:
        needed()
    baseline, patterns = shipped(rules), None if truth is None else told(truth)
    author = signer(conf.resolve(settings.keys.folder) / "author.pem")
    registry.client(settings)
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    data = read(root) if folder is None else read_exported(folder)
    refuse_unfit(data, training.needed_features, now_ms)
    mature_until = day_floor(data.as_of_ms) - training.label_gap_d * DAY_MS
    end = mature_until if test_end_ms is None else test_end_ms
    split = by_time(data, end, training.test_d, training.label_gap_d, training.validation_d)
    refuse_overlap(data, split)
    say(
        "split",
        fit=len(split.fit),
        validation=len(split.validation),
        test=len(split.test),
        known_frauds=int(split.known[split.train].sum()),
        test_from=text_of(split.test_start_ms),
        test_to=text_of(split.test_end_ms),
    )
    began = time.monotonic()
    costs = settings.experiment.costs
    fitted = fitted_on(kind, data, split, training, costs, say)
    by_rules = rules_alone(baseline, data.X[split.test], data.amount_base_minor[split.test], data.event_ms[split.test])
    scores = test_scores(data, split, fitted, by_rules, training, say)
    say("evaluating")
    tested = HeldOut.of(data, split.test, by_rules.by_pattern, patterns)
    found = evaluated(scores, by_rules.outcome, tested, training.alert_budget_per_1000, costs, training.seed)
    if predictions is not None:
        _write_predictions(predictions, data, split, scores)
    fitted_until = mature_until if fitted_until_ms is None else min(mature_until, fitted_until_ms)
    say("fitting again on everything mature", until=text_of(fitted_until))
    final = fitted_again(data, fitted, fitted_until, training)
    about = {
        "name": settings.models.name,
        "data": {"table": "gold.training_set", "version": data.delta_version, "as_of_ms": data.as_of_ms},
        "split": {
            "train_start_ms": split.train_start_ms,
            "validation_start_ms": split.validation_start_ms,
            "train_end_ms": split.train_end_ms,
            "test_start_ms": split.test_start_ms,
            "test_end_ms": split.test_end_ms,
            "labels_complete": end <= mature_until,
            "fitted_until_ms": fitted_until,
        },
        "metrics": dict(found.models["ensemble"]),
        "seed": training.seed,
    }
    bands = cuts_of(data, split, fitted, scores["ensemble"], training, costs)
    store = resolve(settings.models.store)
    with tempfile.TemporaryDirectory() as scratch:
        digest = packed(store, Path(scratch), final, bands, data.X[split.test], about, author)
        titled = report.Told(settings.models.name, digest, _described(split, data, by_rules, settings, fitted_until))
        report.write(Path(scratch) / "report", titled, found, final, data.X[split.test], costs)
        _register(settings, digest, found, about, final, Path(scratch) / "report")
    say("done", seconds=round(time.monotonic() - began, 1), digest=digest)
    return digest


def _described(
    split: Split, data: Dataset, by_rules: RulesAlone, settings: Settings, fitted_until_ms: int
) -> dict[str, str]:
    """What a report says of its data, in words."""
    again = ", test days among them" if fitted_until_ms > split.test_start_ms else ""
    return {
        "training days": f"{text_of(split.train_start_ms)} to {text_of(split.train_end_ms)}",
        "payments and known frauds there": f"{len(split.train):,}, {int(split.known[split.train].sum()):,}",
        "test days": f"{text_of(split.test_start_ms)} to {text_of(split.test_end_ms)}",
        "payments and frauds there": f"{len(split.test):,}, {int(data.is_fraud[split.test].sum()):,}",
        "figures are of": "the same settings, fitted on the training days alone",
        "this bundle is fitted on": f"{text_of(split.train_start_ms)} to {text_of(fitted_until_ms)}{again}",
        "labels as of": text_of(data.as_of_ms),
        "training set": f"gold.training_set, version {data.delta_version}",
        "alert budget": f"{settings.training.alert_budget_per_1000:g} of a thousand payments, by score",
        "cuts of the bundle": f"by {settings.training.cuts} (training.cuts)",
        "rules that could not be heard": ", ".join(by_rules.unheard) or "none",
        "seed": str(settings.training.seed),
    }


def _register(
    settings: Settings,
    digest: str,
    found: Evaluation,
    about: dict[str, object],
    fitted: Fitted,
    written: Path,
) -> None:
    flat = {f"{model}.{name}": value for model, one in found.models.items() for name, value in one.items()}
    for name, (low, high) in found.intervals.items():
        flat |= {f"ensemble.{name}_low": low, f"ensemble.{name}_high": high}
    flat |= {f"pattern.{name}.recall_at_budget": one["recall_at_budget"] for name, one in found.patterns.items()}
    flat |= {f"rules_as_decided.{name}": value for name, value in found.rules.items()}
    flat = {name: value for name, value in flat.items() if value == value}
    described = {
        "kind": fitted.supervised.kind,
        **fitted.supervised.described(),
        **fitted.weights,
        "seed": settings.training.seed,
        "split": json.dumps(about["split"]),
    }
    manifest = json.loads((resolve(settings.models.store) / digest / bundle.MANIFEST).read_text())
    tags = {bundle.DIGEST_TAG: digest, "feature_set": manifest["feature_set"], "data": json.dumps(about["data"])}
    run_id, version = registry.recorded(
        settings, described, flat, tags, resolve(settings.models.store) / digest, digest, written
    )
    logger("training").info("registered", model=settings.models.name, version=version, run_id=run_id)


def main(argv: Sequence[str]) -> int:
    """Train a model and print the digest of its signed bundle as the last line."""
    parser = argparse.ArgumentParser(prog="python -m training.job", description=__doc__)
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--predictions", type=Path, metavar="FILE", help="Parquet file for the scores on the test days")
    parser.add_argument(
        "--test-end-ms",
        type=int,
        metavar="MS",
        help="end of the test days, epoch milliseconds (default: as_of less the label gap: complete labels)",
    )
    parser.add_argument(
        "--fitted-until-ms",
        type=int,
        metavar="MS",
        help="fit what is registered on payments before that only: later ones can then compare it with another model",
    )
    parser.add_argument(
        "--from-parquet", type=Path, metavar="FOLDER", help="an export of the training set: python -m gold.export"
    )
    parser.add_argument(
        "--kind",
        choices=sorted(bundle.KINDS),
        default=bundle.XGBOOST_KIND,
        help="of the supervised model (default %(default)s)",
    )
    parser.add_argument(
        "--rules", type=Path, metavar="FILE", help="the rules that the report compares with (default conf/rules.json)"
    )
    parser.add_argument(
        "--truth", type=Path, metavar="FILE", help="the simulator's truth: the report has recall by true pattern"
    )
    arguments = parser.parse_args(argv)

    def work() -> None:
        settings = conf.load(arguments.env)
        configure(settings, "training")
        with recorded(settings, "training.job"):
            digest = train(
                settings,
                arguments.test_end_ms,
                arguments.predictions,
                arguments.fitted_until_ms,
                arguments.from_parquet,
                rules=arguments.rules,
                kind=arguments.kind,
                truth=arguments.truth,
            )
        print(digest)

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
