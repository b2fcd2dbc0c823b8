"""The engine from topic to topic: payments a second under 30 rules, all features and both models, and us by stage."""

import os
import sys
import time
from collections.abc import Sequence

import numpy as np
import orjson

from benchmarks import models, place, report
from benchmarks.filling import END_MS, fill, options
from decisions import job
from decisions.beside import EXPLAINED, PASSED_OVER
from decisions.control import encoded, prepared
from decisions.engine import Engine
from decisions.intake import Message
from decisions.staging import BY_HAND, staged_record
from features import store
from features.catalogue import NAMES
from features.state import Matrix
from features.store import Place
from lakehouse import settings as conf
from lakehouse import topics
from lakehouse.latency import prepare_for_latency
from lakehouse.settings import Settings
from lakehouse.signing import signer
from lakehouse.texts import Texts
from simulator.world import days, world

VECTORS_FOR_FITTING = 20_000
RULES = 30


RECEIVED_MS = END_MS - 10**10


def control(settings: Settings, scope: str, payload: str) -> bytes:
    """The control event that puts a payload into force as the first version of its scope."""
    folder = conf.resolve(settings.keys.folder)
    event = prepared(scope, payload, {}, signer(folder / "author.pem"), signer(folder / "approver.pem"))
    return encoded(event, RECEIVED_MS)


def reference(settings: Settings) -> list[bytes]:
    """The control event that puts the reference tables into force."""
    return [control(settings, "reference", (conf.home() / "conf" / "reference.json").read_text())]


def in_force(settings: Settings, digest: str, rules: int = 0) -> list[bytes]:
    """The records that put reference tables, a model and so many active rules into force."""
    model = orjson.dumps({"digest": digest}).decode()
    staged = [control(settings, "staging", model), staged_record(digest, RECEIVED_MS, BY_HAND, None)]
    acting = [control(settings, "rules", rule_set(rules))] if rules else []
    return [*reference(settings), *staged, control(settings, "model", model), *acting]


def rule_set(size: int) -> str:
    """So many active rules: the committed ones, and others of their size that add to the score."""
    committed = orjson.loads((conf.home() / "conf" / "rules.json").read_text())["rules"]
    made = [{**rule, "state": "active"} for rule in committed]
    # What a bank challenges on an ordinary day: about one payment in thirty.
    made.append(
        {
            **committed[0],
            "id": "unusual-amount",
            "sql": "card_amount_zscore_life > 2.5 AND card_life_tx_count >= 5",
            "reason_code": "UNUSUAL_AMOUNT",
            "tests": {
                "matching": [{"card_amount_zscore_life": 3, "card_life_tx_count": 5}],
                "not_matching": [{"card_amount_zscore_life": 2, "card_life_tx_count": 4}],
            },
        }
    )
    for i in range(size - len(made)):
        limit, share, hours = 2 + i % 5, 1.5 + i % 4, 20 + i % 3
        made.append(
            {
                **committed[0],
                "id": f"generated-{i}",
                "sql": f"{_COUNTS[i % len(_COUNTS)]} > {limit} AND hour_utc > {hours} AND channel IN ('ecom', 'moto') "
                f"AND (card_amount_sum_24h > {share} * card_life_amount_mean OR merchant_country IN ('NG', 'RU'))",
                "action": {"score": 0.05},
                "reason_code": f"GENERATED_{i}",
                "tests": {
                    "matching": [
                        {_COUNTS[i % len(_COUNTS)]: 10, "hour_utc": 23, "merchant_country": "NG", "channel": "ecom"}
                    ],
                    "not_matching": [{}],
                },
            }
        )
    return orjson.dumps({"rules": made[:size]}, option=orjson.OPT_SORT_KEYS).decode()


_COUNTS = ("card_tx_count_1h", "customer_tx_count_24h", "device_cards_distinct_30d", "ip_cards_distinct_1h")


def vectors(settings: Settings, seed: int) -> Matrix:
    """Real vectors of a small world, through an engine with a model that was fitted on noise."""
    noise = np.random.default_rng(seed).normal(size=(2000, len(NAMES))).astype(np.float32)
    values = in_force(settings, models.store(settings, noise, seed))
    for day in days(world(options(VECTORS_FOR_FITTING, seed + 1))):
        values += day.records.payload.to_list()
    state = store.new(settings, Place("", 0, 0))
    made = Engine.of(settings, state)
    raw = []
    for begin in range(0, len(values), 2000):
        part = [Message(begin + i, END_MS, value) for i, value in enumerate(values[begin : begin + 2000])]
        for body in made.decide(part):
            column = body.columns["vector"]
            assert isinstance(column, Texts)
            raw += [vector for vector in column.to_list() if vector]
    return np.frombuffer(b"".join(raw), np.float32).reshape(-1, len(NAMES))


def once(settings: Settings, end: int, payments: int) -> tuple[dict[str, float], dict[str, float]]:
    process = job.Process(settings)
    process.take_office()
    prepare_for_latency()  # as the engine's own process does
    process.engine.stages.seconds.clear()
    counters = job.DECISIONS, EXPLAINED, PASSED_OVER
    before = [one._value.get() for one in counters]
    began = time.perf_counter()
    while process.engine.state.place.next_offset < end:
        process.once()
    process.office.writer.flush()
    seconds = time.perf_counter() - began
    process.close()
    written, explained, passed_over = (one._value.get() - at for one, at in zip(counters, before, strict=True))
    assert written == payments, (written, payments)
    adverse = explained + passed_over
    by_stage = {name: round(s / payments * 1e6, 2) for name, s in process.engine.stages.seconds.items()}
    figures = {
        "payments_per_s": payments / seconds,
        "not_approved": adverse / payments,
        "of_these_explained_meanwhile": explained / adverse if adverse else 1.0,
    }
    return figures, by_stage


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    made = report.parser("engine", __doc__, 200_000, "payments in the topic")
    made.add_argument("--rules", type=int, default=RULES, help=f"active rules (default {RULES})")
    made.add_argument(
        "--delivery", choices=("idempotent", "transactional"), default="idempotent", help="engine.delivery"
    )
    given = made.parse_args(argv)
    with place.place() as settings:
        digest = models.store(settings, vectors(settings, given.seed), given.seed)
        runs = []
        for number in range(given.runs):
            own = settings.model_copy(
                update={
                    "kafka": settings.kafka.model_copy(update={"topic_prefix": f"run{number}."}),
                    "engine": settings.engine.model_copy(
                        update={
                            "state_folder": settings.engine.state_folder / str(number),
                            "snapshot_interval_s": 3600,
                            "delivery": given.delivery,
                        }
                    ),
                }
            )
            topics.ensure(own)
            filled = fill(own, given.size, given.seed, in_force(own, digest, given.rules))
            speed, stages = once(own, filled.records, filled.payments)
            print(
                f"{speed['payments_per_s']:,.0f} payments/s under {given.rules} rules, {given.delivery}; "
                f"{speed['not_approved']:.1%} not approved, "
                f"{speed['of_these_explained_meanwhile']:.0%} of these explained meanwhile; "
                f"load {os.getloadavg()[0]:.1f}; us a payment by stage: {stages}"
            )
            runs.append({**speed, **stages})
        figures = report.medians(runs)
        rates = {name: figures.pop(name) for name in speed}
        report.finish("engine", given.runs, {**rates, "us_per_payment": figures})


if __name__ == "__main__":
    main(sys.argv[1:])
