"""Why a payment was not simply approved: rules, lists and the exact contributions of both models, from the log.

    python -m decisions.reasons --decision DECISION_ID
    python -m decisions.reasons --transaction TRANSACTION_ID --json

The vector is the one in the decision's record, the model the bundle that the decision names; nothing is made again
but the contributions. For decisions that have no `reasons` record, and for more than such a record says. Exit code 0:
found; 1: topic `decisions` has no such decision, or no model scored it: admission rejected it, or it was decided on a
rung below the models (`rules_only`, `static_policy`).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from decisions import bundle
from decisions.explained import contributions, reasons
from decisions.reason_codes import FAMILIES, SENTENCES
from decisions.replay import given
from features.catalogue import FEATURES, NAMES
from lakehouse import jobs
from lakehouse import settings as conf
from lakehouse.errors import RangeMissing
from lakehouse.log import configure
from lakehouse.registry import registry
from lakehouse.runs import recorded
from lakehouse.settings import Settings, resolve
from lakehouse.signing import trust
from lakehouse.single import read

SHOWN = 10
_DECISION = registry().latest("decision")


def found(settings: Settings, name: str, value: str) -> dict[str, Any]:
    """The decision whose field `name` is `value`; RangeMissing where the topic has none that was scored."""
    for record in given(settings, 0, None):
        # Decoding is the slow part, and one record in very many is wanted.
        if value.encode() in record:
            decision = read(_DECISION, record)
            if decision[name] == value and decision["score"] is not None:
                return decision
    raise RangeMissing(
        f"Topic decisions holds no scored decision with {name} {value}.",
        "Older ones are in silver.decisions, with their vectors; one that was rejected, or decided without a model, "
        "has no score.",
    )


def why(settings: Settings, decision: dict[str, Any]) -> dict[str, Any]:
    """Everything that can be said of a decision's outcome."""
    folder, store = resolve(settings.keys.folder), resolve(settings.models.store)
    whole = decision["score_isolation_forest"] is not None
    model = bundle.load(store, decision["model_digest"], trust(folder), whole)
    if not whole:
        model = replace(model, isolation=None)
    X = np.frombuffer(decision["vector"], np.float32).reshape(1, -1)
    contributed = contributions(model, X)
    (reason,) = reasons(contributed)
    shares = zip(contributed.supervised[0], contributed.isolation_forest[0], contributed.score[0], strict=True)
    features: list[dict[str, Any]] = [
        {"feature": name, "family": feature.family, "value": None if np.isnan(x) else float(x), **_numbers(*three)}
        for name, feature, x, three in zip(NAMES, FEATURES, X[0], shares, strict=True)
    ]
    named = ("decision_id", "transaction_id", "outcome", "risk", "score", "score_with_rules", "rung", "model_digest")
    codes = [*decision["reason_codes"], *reason.codes]
    return {
        **{name: decision[name] for name in (*named, "rules_fired", "lists_hit", "reason_codes")},
        "model_codes": reason.codes,
        "sentences": {code: SENTENCES[code] for code in codes if code in SENTENCES},
        "expected_score": contributed.expected_score,
        "families": {
            family: _numbers(*(sum(f[unit] for f in features if f["family"] == family) for unit in _UNITS))
            for family in FAMILIES
        },
        "features": sorted(features, key=lambda f: -abs(f["score"])),
    }


_UNITS = ("xgboost_log_odds", "isolation_forest_steps", "score")


def _numbers(*three: float) -> dict[str, float]:
    return dict(zip(_UNITS, map(float, three), strict=True))


def as_text(said: dict[str, Any]) -> str:
    """For people."""
    lines = [
        f"{said['transaction_id']}: {said['outcome']}, score {said['score']:.6f}, with rules "
        f"{said['score_with_rules']:.6f}; an unknown payment has {said['expected_score']:.6f}",
        *(f"rule {name}" for name in said["rules_fired"]),
        *(f"list {name}" for name in said["lists_hit"]),
        *(f"{code}: {sentence}" for code, sentence in said["sentences"].items()),
        f"{'added by family':32} {'score':>10} {'log odds':>10} {'steps':>10}",
        *(_line(name, numbers) for name, numbers in said["families"].items()),
        f"{'strongest features':32}",
        *(_line(f["feature"], f) for f in said["features"][:SHOWN]),
    ]
    return "\n".join(lines)


def _line(name: str, numbers: dict[str, Any]) -> str:
    log_odds, steps, score = (numbers[unit] for unit in _UNITS)
    return f"{name:32} {score:+10.6f} {log_odds:+10.6f} {steps:+10.6f}"


def main(argv: Sequence[str]) -> int:
    """Say why."""
    parser = argparse.ArgumentParser(
        prog="python -m decisions.reasons", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--decision", metavar="ID", help="the decision's id")
    wanted.add_argument("--transaction", metavar="ID", help="the payment's transaction_id")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    arguments = parser.parse_args(argv)

    def work() -> None:
        settings = conf.load(arguments.env)
        configure(settings, "reasons")
        with recorded(settings, "decisions.reasons"):
            if arguments.decision is not None:
                decision = found(settings, "decision_id", arguments.decision)
            else:
                decision = found(settings, "transaction_id", arguments.transaction)
            said = why(settings, decision)
        print(orjson.dumps(said).decode() if arguments.json else as_text(said))

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
