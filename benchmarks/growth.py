"""What a slice of the log costs the lake when the tables are small, and when they are ten times as large.

Slices of equal size go through bronze, silver, features and gold, one scheduled pass each; `growth` is the cost of the
last slices, when the tables hold ten times as much, over that of the first ones. Gold is all but its scores: there is
neither a registry nor a champion here.
"""

import statistics
import sys
import time
from collections.abc import Sequence

from benchmarks import place, report
from benchmarks.engine import reference
from benchmarks.filling import options, send
from bronze import job as bronze
from features import job as features
from gold.job import Gold
from gold.named import NAMED
from lakehouse import broker, delta, storage, topics
from lakehouse.contracts import gold
from lakehouse.contracts import silver as silver_tables
from lakehouse.intervals import Flow, drive
from lakehouse.jobs import Context
from lakehouse.session import build_session
from lakehouse.storage import make_root
from silver import job as silver
from simulator.world import days, world

FIRST, TIMES = 3, 10
"""The first two slices warm up; the next `FIRST` are compared with the last `FIRST` of ten times as many."""
WARM_UP = 2


def _gold(context: Context) -> None:
    """A pass of gold without the flow that asks the registry."""
    for table in (NAMED, gold.DECISIONS, gold.TRAINING_SET, gold.FRAUD_DAILY, gold.LABEL_MATURITY):
        storage.ensure(context.root, table)
    steps = Gold(context)
    drive(context, [Flow(gold.VECTORS, NAMED, context.settings.silver.batch_records, steps.name)], 1, steps.derive)


ROOMS = {"bronze": bronze.run, "silver": silver.run, "features": features.run, "gold": _gold}


def _taken(context: Context) -> dict[str, float]:
    """Seconds of a pass, by room."""
    found = {}
    for name, run in ROOMS.items():
        began = time.perf_counter()
        run(context)
        found[name] = time.perf_counter() - began
    return found


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    parser = report.parser("growth", __doc__, 20_000, "payments a slice")
    given = parser.parse_args(argv)
    slices = (WARM_UP + FIRST) * TIMES
    with place.place() as settings:
        name = topics.topic_name(settings, topics.EVENTS)
        writer = broker.producer(settings, linger_ms=20, compression="lz4")
        whole = [
            value
            for day in days(world(options(given.size * slices, given.seed)))
            for value in day.records.payload.to_list()
        ]
        send(writer, name, reference(settings))
        context = Context(settings, build_session(settings, "benchmark"), True, None)
        make_root(context.root)
        step, passes = len(whole) // slices, []
        for number in range(slices):
            send(writer, name, whole[number * step : (number + 1) * step])
            writer.flush(60)
            passes.append(_taken(context))
            told = ", ".join(f"{room} {seconds:.2f} s" for room, seconds in passes[-1].items())
            print(f"slice {number + 1} of {slices}, {step:,} records: {told}", flush=True)
        assert delta.count(context.root, silver_tables.PAYMENTS) > 0
    early, late = passes[WARM_UP : WARM_UP + FIRST], passes[-FIRST:]
    figures = {}
    for room in ROOMS:
        before, after = (statistics.median(one[room] for one in some) for some in (early, late))
        figures[room] = {
            "seconds_first": round(before, 3),
            "seconds_last": round(after, 3),
            "growth": round(after / before, 3),
        }
    report.finish("growth", 1, figures)


if __name__ == "__main__":
    main(sys.argv[1:])
