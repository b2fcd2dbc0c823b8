"""The eight patterns of fraud: what the shipped rules find, what a model finds, what both find together.

A synthetic world goes through the engine with `conf/rules.json` in force. The model is fitted on the first half with
the world's own truth (no label is late or wrong: its ceiling); both are judged on the second half. The model flags its
highest scores, as many as the alert budget lets people look at; the ensemble is what either flags. `precision` of a
pattern is that of the rules that serve it: frauds of any pattern among what they flag.

`at_false_positive_rate` is another threshold: payments that a rule flags first, then by score, as long as at most that
share of genuine payments is flagged; a share that is read off the judged half itself. Beside it the amount alone and a
tree of three questions, fitted on the first half too: where that tree does well, the world is too easy.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
from sklearn.metrics import average_precision_score

from benchmarks import models, place, report
from benchmarks.engine import control, in_force
from benchmarks.filling import END_MS
from decisions.engine import Engine
from decisions.intake import Message
from decisions.record import Body
from expectations.rules.rule_set import RuleSet, payload_of
from features import store
from features.catalogue import NAMES
from features.state import Matrix
from features.store import Place
from lakehouse import settings as conf
from lakehouse.codec import Strings
from lakehouse.experiment_settings import Costs
from lakehouse.settings import Settings
from lakehouse.texts import Texts
from simulator.intents import SCENARIOS
from simulator.options import Options
from simulator.truth import truth_of
from simulator.world import days, world
from training.baselines import small_tree
from training.boosted import Boosted
from training.ensemble import by_ranking
from training.evaluate import at_false_positive_rate
from training.fit import Fitted, anomaly, boosted, calibrated, isolated, margins_of
from training.money import earned
from training.package import model_of

Flags = npt.NDArray[np.bool_]
DAYS = 60
FRAUD_RATE = 0.004
"""Of payments; the card networks report 0.0005 to 0.01."""
BATCH = 2_000
FALSE_POSITIVE_RATE = 0.021
"""Of genuine payments: each is challenged, so about one in fifty customers is asked."""
CHALLENGE = 1
"""Of OUTCOMES."""


class Decided(NamedTuple):
    """Every decided payment: its pattern (index into SCENARIOS, 0 for genuine ones), vector, and rules that acted."""

    pattern: npt.NDArray[np.int64]
    vectors: Matrix
    fired: list[list[str]]


class Log(NamedTuple):
    """A synthetic world as records of topic `events`, and the pattern of every payment by transaction id."""

    values: list[bytes]
    scenario: dict[str, str | None]


def log_of(payments: int, seed: int) -> Log:
    """So many payments, some of them frauds."""
    options = Options(
        end_ms=END_MS, days=DAYS, payments_per_day=max(100, payments // DAYS), fraud_rate=FRAUD_RATE, seed=seed
    )
    made = world(options)
    scenario: dict[str, str | None] = {}
    values: list[bytes] = []
    for day in days(made):
        values += day.records.payload.to_list()
        rows = truth_of(day.records, made.ids)
        names = rows.column("scenario").to_pylist()
        scenario.update(zip(rows.column("transaction_id").to_pylist(), names, strict=True))
    return Log(values, scenario)


def bodies(engine: Engine, values: Sequence[bytes]) -> Iterator[Body]:
    """The decisions of an engine over records from offset 0 on."""
    for begin in range(0, len(values), BATCH):
        yield from engine.decide(
            [Message(begin + i, END_MS, value) for i, value in enumerate(values[begin : begin + BATCH])]
        )


def decided(settings: Settings, log: Log, seed: int, rules: str) -> Decided:
    """A world through the engine; its model was fitted on noise and decides nothing here."""
    noise = np.random.default_rng(seed).normal(size=(2000, len(NAMES))).astype(np.float32)
    first = [*in_force(settings, models.store(settings, noise, seed)), control(settings, "rules", rules)]
    engine = Engine.of(settings, store.new(settings, Place("", 0, 0)))
    pattern, vectors, fired = [], [], []
    for body in bodies(engine, first + log.values):
        raw, names = body.columns["vector"], body.columns["rules_fired"]
        assert isinstance(raw, Texts)
        assert isinstance(names, Strings)
        lines = zip(body.transaction_id, raw.to_list(), names.to_list(), strict=True)
        for transaction, vector, some in lines:
            if vector:
                pattern.append(SCENARIOS.index(log.scenario[transaction.decode()] or ""))
                vectors.append(vector)
                fired.append(some)
    matrix = np.frombuffer(b"".join(vectors), np.float32).reshape(-1, len(NAMES))
    return Decided(np.array(pattern), matrix, fired)


def shipped() -> str:
    """The payload of the rules that the product comes with."""
    return payload_of(orjson.loads((conf.home() / "conf" / "rules.json").read_bytes()))


def scores(found: Decided, half: int, seed: int) -> npt.NDArray[np.float64]:
    """Of the second half, by the product's fit on the first: early stopping on its last fifth, then on all of it."""
    fraud, X = found.pattern > 0, found.vectors
    rows, held_out = np.arange(half), np.arange(half * 4 // 5, half)
    booster, setting, trees = boosted(X, fraud, rows[: len(rows) - len(held_out)], held_out, seed, 1, print)
    isolation, expected, medians = isolated(X, rows, seed)
    calibration = {
        "xgboost": calibrated(margins_of(booster, X[held_out]), fraud[held_out]),
        "isolation_forest": calibrated(anomaly(isolation, expected, medians, X[held_out]), fraud[held_out]),
    }
    fitted = Fitted(Boosted(booster, setting, trees), isolation, expected, medians, calibration)
    apart = model_of(fitted, {}).scores(X[held_out])
    share_of_model = by_ranking(apart.supervised, apart.isolation_forest, fraud[held_out])
    whole = replace(fitted, supervised=fitted.supervised.again(X, fraud, rows, seed), share=share_of_model)
    return model_of(whole, {}).scores(X[half:]).ensemble


def at_rate(found: Decided, half: int, model: npt.NDArray[np.float64], costs: Costs, seed: int) -> dict[str, Any]:
    """What rules and model find at FALSE_POSITIVE_RATE, money by payment, and the baselines."""
    pattern, X = found.pattern[half:], found.vectors
    fraud, amount = pattern > 0, X[half:, NAMES.index("amount_minor")].astype(np.float64)
    by_rules = np.array([bool(some) for some in found.fired[half:]])
    tree = small_tree(X, found.pattern > 0, np.arange(half), np.arange(half, len(X)), seed)
    ways = {"ensemble": model + by_rules, "model": model, "tree": tree, "amount_only": amount}
    told: dict[str, Any] = {}
    for name, one in ways.items():
        flagged = at_false_positive_rate(one, fraud, FALSE_POSITIVE_RATE)
        money = earned(np.where(flagged, CHALLENGE, 0), fraud, amount.astype(np.int64), costs)
        precision, recall = share(flagged, fraud), share(fraud, flagged)
        told[name] = {
            "average_precision": round(float(average_precision_score(fraud, one)), 4),
            "recall": recall,
            "false_positive_rate": share(~fraud, flagged),
            "precision": precision,
            "accuracy": round(float((flagged == fraud).mean()), 5),
            "f1": round(2 * precision * recall / (precision + recall), 4) if precision + recall else 0.0,
            "net_minor_per_payment": round(money.net / len(fraud), 2),
        }
        if name == "ensemble":
            told["recall_by_pattern"] = {
                scenario: share(pattern == at, flagged) for at, scenario in enumerate(SCENARIOS[1:], 1)
            }
    return told


def figures(
    found: Decided, half: int, model: npt.NDArray[np.float64], rules: RuleSet, per_1000: float
) -> dict[str, Any]:
    """Recall and precision by pattern and way."""
    pattern, fired = found.pattern[half:], found.fired[half:]
    fraud = pattern > 0
    serves = {rule.name: rule.pattern for rule in rules.rules}
    served = [{serves[name] for name in some} for some in fired]
    by_rules = np.array([bool(some) for some in fired])
    by_model = np.zeros(len(fraud), np.bool_)
    by_model[np.argsort(-model, kind="stable")[: max(1, int(len(fraud) * per_1000 / 1000))]] = True
    ways = {"rules": by_rules, "model": by_model, "ensemble": by_rules | by_model}
    out: dict[str, Any] = {
        "base_rate": round(float(fraud.mean()), 5),
        "false_positive_rate": {way: round(float(flags[~fraud].mean()), 5) for way, flags in ways.items()},
        "recall": {way: share(fraud, flags) for way, flags in ways.items()},
        "precision": {way: share(flags, fraud) for way, flags in ways.items()},
    }
    for at, name in enumerate(SCENARIOS[1:], 1):
        mine, own = pattern == at, np.array([name in some for some in served])
        out[name] = {
            "payments": int(mine.sum()),
            "recall": share(mine, own),
            "precision": share(own, fraud),
            **{f"recall_{way}": share(mine, flags) for way, flags in ways.items()},
        }
    return out


def share(of: Flags, that: Flags) -> float:
    """Which part of some is also that; 0 of nothing."""
    return round(float(that[of].mean()), 4) if of.any() else 0.0


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    given = report.parser("patterns", __doc__, 200_000, "payments").parse_args(argv)
    rules = shipped()
    with tempfile.TemporaryDirectory(prefix="fraudlake-benchmark-") as folder, place.apart(Path(folder)) as settings:
        found = decided(settings, log_of(given.size, given.seed), given.seed, rules)
        half = len(found.pattern) // 2
        model = scores(found, half, given.seed)
        budget = settings.training.alert_budget_per_1000
        told = figures(found, half, model, RuleSet.of(rules), budget)
        told["at_false_positive_rate"] = at_rate(found, half, model, settings.experiment.costs, given.seed)
    assert 0 < told["base_rate"] <= 0.005, "the world has another share of fraud than was asked for"
    for name in SCENARIOS[1:]:
        print(f"{name:20} " + "  ".join(f"{key} {value}" for key, value in told[name].items()))
    for name, one in told["at_false_positive_rate"].items():
        print(f"at a false-positive rate of {FALSE_POSITIVE_RATE:.1%}: {name:20} {one}")
    report.finish("patterns", 1, told)


if __name__ == "__main__":
    main(sys.argv[1:])
