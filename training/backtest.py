"""What other rules, another model or other thresholds would have made of the past: the engine's own code, from silver.

    python -m training.backtest --rules new-rules.json --start 2026-01-01T00:00:00Z --end 2026-02-01T00:00:00Z
    python -m training.backtest --model challenger --thresholds 0.3 0.5 0.8 --original now --json

Every payment whose record moved the engine's clock into [start, end) is decided twice: by what was in force at it, and
with the changes; what is not given is as it was. Features are rebuilt from silver as of just before each payment.
Labels are as known now: payments older than `training.label_gap_d` are matured, the others count only where no label is
needed. Exit code 0: here is the report; 2: it could not be made, and why.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from decisions.bundle import Model
from decisions.exploration import key_of
from decisions.keeping import folders
from decisions.past import Past, in_force_behind
from decisions.rule_control import checked, file_payload
from decisions.shelf import Shelf
from decisions.stages import Stages
from expectations.control import payload_digest
from expectations.rules.rule_set import OUTCOMES, RuleSet, payload_of
from expectations.rules.thresholds import cuts_of
from expectations.switching import END
from features.bases import refuse_holes
from lakehouse import delta, jobs, keys
from lakehouse import settings as conf
from lakehouse.contracts import silver
from lakehouse.errors import BundleRefused, FraudlakeError
from lakehouse.label_ledger import COLUMNS, Trust, findings
from lakehouse.log import configure
from lakehouse.moments import DAY_MS, moment_ms
from lakehouse.runs import recorded
from lakehouse.settings import Settings
from training.aliases import Aliases
from training.backtest_report import Asked, Report
from training.effects import Collected, Effects, Known
from training.interval import Interval, interval
from training.policy import Changes, Judge
from training.truth import told

PROGRESS_S = 2.0
THEN, NOW = "then", "now"
_HEX = 64


class Policies(NamedTuple):
    """What is compared: the original against what was in force at each payment, the changes against the original."""

    original: Changes
    changes: Changes


def known(root: str, as_of_ms: int, settings: Settings, truth: Path | None) -> Known:
    """What is known of payments now."""
    found = findings(delta.rows(root, silver.LABELS, COLUMNS), as_of_ms, Trust.of(settings.labels))
    frauds = found.filter(found.column("is_fraud")).column("transaction_id").combine_chunks()
    return Known(frauds, as_of_ms - settings.training.label_gap_d * DAY_MS, None if truth is None else told(truth))


def effects(past: Past, judge: Judge, of: Known) -> Effects:
    """What both policies make of the payments of the past."""
    collected = Collected(of)
    for stretch in past.stretches():
        before, after = judge.both(stretch)
        fault = before.fault or after.fault
        if fault:
            raise FraudlakeError(f"Rules failed on payments from offset {int(stretch.offset[0])} on: {fault}.")
        collected.add(stretch, before, after)
        judge.stages.done("collect")
    return collected.whole()


def backtest(
    settings: Settings, over: Interval, policies: Policies, of: Known, moved: Callable[[int], None], stages: Stages
) -> Effects:
    """Every payment of an interval decided twice; `moved` is told the positions on the way."""
    root = conf.lake_root(settings)
    refuse_holes(root, over.span)
    stages.begin()
    past = Past(settings, root, over.span, folders(settings), stages, moved)
    draws = key_of(keys.source(settings).keyring())
    judge = Judge(Shelf.of(settings), settings.ladder, draws, *policies, stages)
    return effects(past, judge, of)


def changes(given: argparse.Namespace, settings: Settings) -> tuple[Changes, dict[str, Any]]:
    """(what is changed, how a report names it); refusals say what is wrong with a file or model."""
    rules = model = cuts = None
    told: dict[str, Any] = {}
    if given.rules is not None:
        checked(given.rules)
        payload = file_payload(given.rules)
        rules = RuleSet.of(payload)
        told["rules"] = f"{Path(given.rules).name} ({payload_digest(payload)[:12]})"
    if given.model is not None:
        digest = _digest(given.model, settings)
        model = Shelf.of(settings).loaded(digest)
        told["model"] = digest
    if given.thresholds is not None:
        cuts = cuts_of(payload_of({"cuts": dict(zip(OUTCOMES[1:], given.thresholds, strict=True))}))
        told["thresholds"] = dict(cuts)
    return Changes(rules, model, cuts), told


def _digest(name: str, settings: Settings) -> str:
    """The digest of a bundle that is named by it, by an alias of the registry, or by a version of it."""
    if len(name) == _HEX and not set(name) - set("0123456789abcdef"):
        return name
    found = Aliases(settings).named(name)
    if found is None or found.digest is None:
        raise BundleRefused(
            f"The registry has no model {settings.models.name} {name} with a bundle.",
            "Give a digest, a version's number or an alias: champion, challenger.",
        )
    return found.digest


def _telling(end: int) -> Callable[[int], None]:
    said = time.monotonic()

    def moved(at: int) -> None:
        nonlocal said
        if time.monotonic() - said > PROGRESS_S:
            said = time.monotonic()
            print(f"at offset {at:,} of {end:,}", file=sys.stderr)

    return moved


def asked(over: Interval, of: Known, changed: Mapping[str, Any], *models: Model | None) -> Asked:
    """What a report is about; `models` are those that decide everywhere, on either side."""
    span = over.span
    splits = [model.manifest.get("split", {}) for model in models if model is not None]
    until = max((split["fitted_until_ms"] for split in splits if "fitted_until_ms" in split), default=None)
    return Asked(over.start_ms, over.end_ms, span.start, span.end, over.as_of_ms, of.matured_before_ms, changed, until)


def run(given: argparse.Namespace, settings: Settings) -> Report:
    """The report of what the command line asks for."""
    root = conf.lake_root(settings)
    over = interval(root, given.start, given.end)
    what, told = changes(given, settings)
    then = Changes()
    if given.original == NOW:
        everything = replace(over.span, end=END)
        then = Changes.to(in_force_behind(settings, root, everything), Shelf.of(settings))
        told["original"] = "rules, model and thresholds that are in force now"
    of = known(root, over.as_of_ms, settings, given.truth)
    found = backtest(settings, over, Policies(then, what), of, _telling(over.span.end), Stages())
    print(f"{len(found):,} payments decided, {int(found.matured.sum()):,} of them compared", file=sys.stderr)
    return Report.of(asked(over, of, told, then.model, what.model), found, settings.experiment, settings.training.seed)


def main(argv: Sequence[str]) -> int:
    """Take an interval again, and report."""
    parser = argparse.ArgumentParser(
        prog="python -m training.backtest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--rules", metavar="FILE", help="JSON, as for `decisions.control rules activate`")
    parser.add_argument("--model", metavar="NAME_OR_DIGEST", help="a bundle's digest, or a version or alias of it")
    cuts = tuple(name.upper() for name in OUTCOMES[1:])
    parser.add_argument("--thresholds", type=float, nargs=len(cuts), metavar=cuts, help="other cuts of the score")
    parser.add_argument("--start", type=moment_ms, metavar="TIME", help="with its zone (default: the first payment)")
    parser.add_argument("--end", type=moment_ms, metavar="TIME", help="exclusive (default: the end of silver)")
    parser.add_argument(
        "--original",
        choices=(THEN, NOW),
        default=THEN,
        help="beside which the changes are seen: what was in force at each payment, or the rules, model and thresholds "
        f"that are in force now (default: {THEN})",
    )
    parser.add_argument("--truth", type=Path, metavar="FILE", help="the simulator's truth: tells frauds' patterns")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    given = parser.parse_args(argv)
    reports: list[Report] = []

    def work() -> None:
        settings = conf.load(given.env)
        configure(settings, "backtest")
        named = {name: getattr(given, name) for name in ("rules", "model")}
        with recorded(settings, "training.backtest", "backtest", **named):
            reports.append(run(given, settings))
        print(reports[0].as_json() if given.json else reports[0].as_text())

    if jobs.guarded(work) or not reports:
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
