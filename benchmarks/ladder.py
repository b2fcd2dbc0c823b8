"""Every rung of the ladder on the same payments: which frauds are stopped, and who else is bothered.

A synthetic world goes through the engine once a rung, with `conf/rules.json` in force and the rung told as in a replay.
The model is fitted on the first half with the world's own truth; the second half is judged. The cuts give the model's
bands the alert budget of that half. A payment is stopped when it is not approved. `with_limit` is what happens: below
the highest rung nothing above `ladder.approve_up_to_minor` is approved; the others are of the rung alone, without that
limit. `of_amount` is the share of what the frauds are worth, `genuine` that of genuine payments stopped.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import models, patterns, place, report
from benchmarks.engine import control, in_force
from benchmarks.patterns import Flags, share
from decisions.engine import Engine
from decisions.ladder import APPROVE, RUNGS
from features import store
from features.store import Place
from lakehouse import settings as conf
from lakehouse.settings import Settings
from lakehouse.signing import signer
from lakehouse.texts import Ints
from simulator.intents import SCENARIOS
from training.cutting import cuts
from training.package import model_of, packed


class Told(NamedTuple):
    """What a rung made of the accepted payments, in log order."""

    stopped: Flags
    amount: Ints


def on_rung(settings: Settings, values: Sequence[bytes], rung: str) -> Told:
    """All payments, decided on one rung."""
    engine = Engine.of(settings, store.new(settings, Place("", 0, 0)), lambda _: rung)
    stopped, amount = [], []
    for body in patterns.bodies(engine, values):
        accepted = body.valid["vector"]
        outcomes = np.array(body.texts("outcome"))
        stopped.append(outcomes[accepted] != APPROVE.encode())
        amounts = body.columns["amount_base_minor"]
        assert isinstance(amounts, np.ndarray)
        amount.append(amounts[accepted])
    return Told(np.concatenate(stopped), np.concatenate(amount))


def figures(told: Told, pattern: Ints, half: int) -> dict[str, float]:
    """Recall and precision over the second half."""
    stopped, amount, fraud = told.stopped[half:], told.amount[half:], pattern[half:] > 0
    return {
        "recall": share(fraud, stopped),
        "precision": share(stopped, fraud),
        "of_amount": round(float(amount[fraud & stopped].sum() / max(1, amount[fraud].sum())), 4),
        "genuine": share(~fraud, stopped),
    }


def by_pattern(told: Told, pattern: Ints, half: int) -> dict[str, float]:
    """Recall of every pattern over the second half."""
    return {name: share(pattern[half:] == at, told.stopped[half:]) for at, name in enumerate(SCENARIOS[1:], 1)}


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    given = report.parser("ladder", __doc__, 200_000, "payments").parse_args(argv)
    rules = patterns.shipped()
    with tempfile.TemporaryDirectory(prefix="fraudlake-benchmark-") as folder, place.apart(Path(folder)) as settings:
        log = patterns.log_of(given.size, given.seed)
        found = patterns.decided(settings, log, given.seed, rules)
        half = len(found.pattern) // 2
        fitted = models.fitted_to(found.vectors[:half], found.pattern[:half] > 0, given.seed)
        scores = model_of(fitted, {}).scores(found.vectors[half:]).ensemble
        digest = packed(
            *(conf.resolve(settings.models.store), Path(folder), fitted),
            cuts(scores, settings.training.alert_budget_per_1000),
            *(found.vectors[:50], {"name": "benchmark"}),
            signer(conf.resolve(settings.keys.folder) / "author.pem"),
        )
        values = [*in_force(settings, digest), control(settings, "rules", rules), *log.values]
        no_limit = settings.ladder.model_copy(update={"approve_up_to_minor": 10**15})
        told: dict[str, dict[str, Any]] = {}
        for rung in RUNGS:
            alone = on_rung(settings.model_copy(update={"ladder": no_limit}), values, rung)
            limited = figures(on_rung(settings, values, rung), found.pattern, half)
            own = figures(alone, found.pattern, half)
            told[rung] = {**own, "with_limit": limited, "by_pattern": by_pattern(alone, found.pattern, half)}
            for title, some in ((rung, own), ("  with the limit", limited), ("  by pattern", told[rung]["by_pattern"])):
                print(f"{title:16} " + "  ".join(f"{key} {value}" for key, value in some.items()), flush=True)
    assert told["full"]["recall"] > 0, "nothing was found"
    report.finish("ladder", 1, told)


if __name__ == "__main__":
    main(sys.argv[1:])
