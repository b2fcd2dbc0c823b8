"""The engine from topic to topic on one core: payments decided per second, all features and both models, by stage."""

import sys
import time
from collections.abc import Sequence

import numpy as np
import orjson

from benchmarks import models, place, report
from benchmarks.filling import END_MS, fill, options
from decisions import bundle, job
from decisions.control import encoded, prepared
from decisions.engine import Engine
from decisions.intake import Message
from features import store
from features.catalogue import NAMES
from features.state import Matrix
from features.store import Place
from lakehouse import broker, keys, topics
from lakehouse import settings as conf
from lakehouse.latency import prepare_for_latency
from lakehouse.settings import Settings
from lakehouse.signing import signer, trust
from lakehouse.texts import Texts
from simulator.world import days, world

VECTORS_FOR_FITTING = 20_000


def control(settings: Settings, scope: str, payload: str) -> bytes:
    """The control event that puts a payload into force as the first version of its scope."""
    folder = conf.resolve(settings.keys.folder)
    event = prepared(scope, payload, {}, signer(folder / "author.pem"), signer(folder / "approver.pem"))
    return encoded(event, END_MS - 10**10)


def reference(settings: Settings) -> list[bytes]:
    """The control event that puts the reference tables into force."""
    return [control(settings, "reference", (conf.home() / "conf" / "reference.json").read_text())]


def in_force(settings: Settings, digest: str) -> list[bytes]:
    """Control events that put reference tables and a model into force."""
    model = orjson.dumps({"digest": digest}).decode()
    return [*reference(settings), control(settings, "model", model)]


def vectors(settings: Settings, seed: int) -> Matrix:
    """Real vectors of a small world, through an engine with a model that was fitted on noise."""
    noise = np.random.default_rng(seed).normal(size=(2000, len(NAMES))).astype(np.float32)
    folder = conf.resolve(settings.keys.folder)
    models_folder = conf.resolve(settings.models.store)
    values = in_force(settings, models.store(settings, noise, seed))
    for day in days(world(options(VECTORS_FOR_FITTING, seed + 1))):
        values += day.records.payload.to_list()
    state = store.new(settings, Place("", 0, 0))
    made = Engine(state, keys.source(settings).keyring(), lambda d: bundle.load(models_folder, d, trust(folder)))
    raw = []
    for begin in range(0, len(values), 2000):
        part = [Message(begin + i, END_MS, value) for i, value in enumerate(values[begin : begin + 2000])]
        for body in made.decide(part):
            column = body.columns["vector"]
            assert isinstance(column, Texts)
            raw += [vector for vector in column.to_list() if vector]
    return np.frombuffer(b"".join(raw), np.float32).reshape(-1, len(NAMES))


def _decisions(settings: Settings) -> int:
    """Records on topic `decisions`."""
    return broker.watermarks(settings, topics.topic_name(settings, topics.DECISIONS), 0)[1]


def _once(settings: Settings, end: int, payments: int) -> tuple[dict[str, float], dict[str, float]]:
    before = _decisions(settings)
    process = job.Process(settings)
    process.take_office()
    prepare_for_latency()  # as the engine's own process does
    process.engine.stages.seconds.clear()
    began = time.perf_counter()
    while process.engine.state.place.next_offset < end:
        process.once()
    process.office.writer.flush()
    seconds = time.perf_counter() - began
    written = _decisions(settings) - before - 1
    assert written == payments, (written, payments)
    process.close()
    by_stage = {name: round(s / payments * 1e6, 2) for name, s in process.engine.stages.seconds.items()}
    return {"payments_per_s": payments / seconds}, by_stage


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    given = report.parser("engine", __doc__, 200_000, "payments in the topic").parse_args(argv)
    with place.place() as settings:
        digest = models.store(settings, vectors(settings, given.seed), given.seed)
        runs = []
        for number in range(given.runs):
            own = settings.model_copy(
                update={
                    "kafka": settings.kafka.model_copy(update={"topic_prefix": f"run{number}."}),
                    "engine": settings.engine.model_copy(
                        update={"state_folder": settings.engine.state_folder / str(number), "snapshot_interval_s": 3600}
                    ),
                }
            )
            topics.ensure(own)
            filled = fill(own, given.size, given.seed, in_force(own, digest))
            speed, stages = _once(own, filled.records, filled.payments)
            print(f"{speed['payments_per_s']:,.0f} payments/s; us a payment by stage: {stages}")
            runs.append({**speed, **stages})
        figures = report.medians(runs)
        rate = figures.pop("payments_per_s")
        report.finish("engine", given.runs, {"payments_per_s": rate, "us_per_payment": figures})


if __name__ == "__main__":
    main(sys.argv[1:])
