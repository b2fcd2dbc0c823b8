"""All features over all entities, in order, one process, one core; what a key takes, and what a snapshot takes.

`growth_ratio` is the cost of a payment after ten times the history: days 270 to 300 of a steady stream against days
30 to 60.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import place, report
from benchmarks.records import Stream
from decisions.keeping import Keeper
from features import snapshot, store
from features.catalogue import NAMES
from features.entities import CLUSTER, ENTITIES
from features.flow import Flow
from features.inputs import Placed
from features.records import empty
from features.store import Place, spec_of
from lakehouse.latency import prepare_for_latency
from lakehouse.settings import Settings

BATCH = 1000
PAYMENTS_A_KEY = 8
DAYS = 30
GROWN = 10
TOPIC_ID = "benchmark"


def _seconds(flow: Flow, batches: Iterator[Placed]) -> Iterator[tuple[int, float]]:
    """(payments, seconds) of every batch; making it is not counted."""
    nobody = Placed(empty(0), empty(0).event_ms, empty(0).event_ms)
    for batch in batches:
        began = time.perf_counter()
        vectors = flow.take(batch, nobody)
        yield len(vectors), time.perf_counter() - began
        assert vectors.shape[1] == len(NAMES)


def _once(settings: Settings, size: int, seed: int) -> tuple[float, Flow]:
    """(microseconds a payment, the flow afterwards)."""
    flow = Flow(spec_of(settings))
    found = list(_seconds(flow, Stream(size, size // PAYMENTS_A_KEY, DAYS, seed).batches(BATCH)))
    assert sum(n for n, _ in found) == size
    return sum(s for _, s in found) / size * 1e6, flow


def growth(settings: Settings, size: int, seed: int) -> float:
    """Cost of a payment in the last month of ten over that in the second."""
    stream = Stream(size, size // PAYMENTS_A_KEY // GROWN, DAYS * GROWN, seed)
    found = [s for _, s in _seconds(Flow(spec_of(settings)), stream.batches(BATCH))]
    month = len(found) // GROWN
    return sum(found[-month:]) / sum(found[month : 2 * month])


def kept(settings: Settings, flow: Flow) -> dict[str, float]:
    """Seconds to write and to restore a snapshot, and milliseconds for which the engine stands still."""
    state = replace(store.new(settings, Place(TOPIC_ID, 0, 1)), flow=flow)
    keeper = Keeper(settings, 0)
    prepare_for_latency()
    began = time.perf_counter()
    pause_s = keeper.save(state)
    keeper.reap(wait=True)
    written = time.perf_counter()
    (path,) = snapshot.newest([Path(settings.engine.state_folder)])
    again = store.load(path, settings, TOPIC_ID)
    restored = time.perf_counter()
    assert [s.keys for s in again.flow.states.values()] == [s.keys for s in flow.states.values()]
    path.unlink()
    return {"snapshot_s": written - began, "restore_s": restored - written, "pause_ms": pause_s * 1000}


def bytes_per_key(flow: Flow) -> dict[str, float]:
    """Bytes of the state by entity; what pairs take is counted with their first entity, rings with their customers."""
    held = {entity.name: flow.states[entity.name].bytes_held() for entity in ENTITIES}
    for name, state in flow.states.items():
        if name not in held:
            held[CLUSTER.member if name == CLUSTER.name else name.split("_")[0]] += state.bytes_held()
    return {name: held[name] / flow.states[name].keys for name in held}


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    given = report.parser("features", __doc__, 400_000, "payments").parse_args(argv)
    runs = []
    with tempfile.TemporaryDirectory(prefix="fraudlake-benchmark-") as folder, place.apart(Path(folder)) as settings:
        for number in range(given.runs):
            cost, flow = _once(settings, given.size, given.seed + number)
            run = {"us_per_payment": cost, **kept(settings, flow)}
            runs.append(run)
            print(", ".join(f"{name} {value:.3g}" for name, value in run.items()), flush=True)
        grown = growth(settings, given.size, given.seed)
    entities = bytes_per_key(flow)
    keys = {entity.name: flow.states[entity.name].keys for entity in ENTITIES}
    figures = {
        **report.medians(runs),
        "growth_ratio": round(grown, 3),
        "bytes_per_key": round(sum(entities[name] * keys[name] for name in keys) / sum(keys.values())),
        "features": len(NAMES),
        "keys": sum(keys.values()),
        "entities": {name: {"bytes_per_key": round(entities[name]), "keys": keys[name]} for name in keys},
    }
    report.finish("features", given.runs, figures)


if __name__ == "__main__":
    main(sys.argv[1:])
