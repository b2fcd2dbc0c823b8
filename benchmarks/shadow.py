"""What a challenger in shadow costs the engine: microseconds a payment, its own scores and everything around them.

The same topic is decided with and without it, one after the other; the difference of both, less the challenger's own
scores, is what shadow adds.
"""

import sys
from collections.abc import Sequence

import orjson

from benchmarks import models, place, report
from benchmarks.engine import RECEIVED_MS, RULES, control, in_force, once, vectors
from benchmarks.filling import fill
from decisions.control import encoded, prepared
from decisions.staging import BY_HAND, staged_record
from expectations.control import Version
from lakehouse import settings as conf
from lakehouse import topics
from lakehouse.settings import Settings
from lakehouse.signing import signer


def in_shadow(settings: Settings, champion: str, challenger: str) -> list[bytes]:
    """The records that stage a challenger behind its champion and put it into shadow."""
    folder, payload = conf.resolve(settings.keys.folder), orjson.dumps({"digest": challenger}).decode()
    before = orjson.dumps({"digest": champion}).decode()
    first = prepared("staging", before, {}, signer(folder / "author.pem"), signer(folder / "approver.pem"))
    now = {"staging": Version(1, first.digest, before)}
    asked = prepared("staging", payload, now, signer(folder / "author.pem"), signer(folder / "approver.pem"))
    ready = staged_record(challenger, RECEIVED_MS, BY_HAND, None)
    return [encoded(asked, RECEIVED_MS), ready, control(settings, "shadow", payload)]


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    made = report.parser("shadow", __doc__, 200_000, "payments in the topic")
    given = made.parse_args(argv)
    with place.place() as settings:
        X = vectors(settings, given.seed)
        champion, challenger = (models.store(settings, X, given.seed + n) for n in range(2))
        runs = []
        for number in range(given.runs):
            us: dict[str, float] = {}
            stages: dict[str, float] = {}
            for name in ("without", "with"):
                own = settings.model_copy(
                    update={
                        "kafka": settings.kafka.model_copy(update={"topic_prefix": f"run{number}{name}."}),
                        "engine": settings.engine.model_copy(
                            update={
                                "state_folder": settings.engine.state_folder / f"{number}{name}",
                                "snapshot_interval_s": 3600,
                            }
                        ),
                    }
                )
                topics.ensure(own)
                first = in_force(own, champion, RULES)
                first += in_shadow(own, champion, challenger) if name == "with" else []
                filled = fill(own, given.size, given.seed, first)
                speed, stages = once(own, filled.records, filled.payments)
                us[name] = 1e6 / speed["payments_per_s"]
            scores = stages["shadow_models"]
            runs.append(
                {
                    "us_without": us["without"],
                    "us_with": us["with"],
                    "us_challenger_scores": scores,
                    "us_challenger_records": stages["shadow_records"],
                    "us_added_beside_scores": us["with"] - us["without"] - scores,
                }
            )
            print({name: round(value, 2) for name, value in runs[-1].items()})
        report.finish("shadow", given.runs, report.medians(runs))


if __name__ == "__main__":
    main(sys.argv[1:])
