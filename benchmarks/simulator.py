"""Options to log: events of a synthetic history made, encoded and acknowledged by the broker per second."""

import sys
import time
from collections.abc import Sequence

from benchmarks import place, report
from lakehouse import broker, topics
from lakehouse.settings import Settings
from simulator.history import Files, send_history
from simulator.options import MINUTE_MS, Options

PAYMENTS_PER_DAY = 3_500
END_MS = 28_000_000 * MINUTE_MS
"""Of the world: fixed, so that every run makes the same bytes."""


def _once(settings: Settings, options: Options, prefix: str) -> dict[str, float]:
    own = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"topic_prefix": prefix})})
    topics.ensure(own)
    name = topics.topic_name(own, topics.EVENTS)
    acknowledged: list[int] = []
    began = time.perf_counter()
    send_history(own, options, Files(None, None), lambda total: acknowledged.append, time.perf_counter)
    seconds = time.perf_counter() - began
    grown = sum(broker.watermarks(own, name, partition)[1] for partition in range(own.kafka.partitions))
    topics.delete(own)
    assert grown == acknowledged[-1], f"topic {name} holds {grown:,} records, {acknowledged[-1]:,} were acknowledged"
    return {"events_per_s": grown / seconds}


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    given = report.parser("simulator", __doc__, 210_000, "payments of a run, 3,500 a day").parse_args(argv)
    options = Options(END_MS, days=max(1, given.size // PAYMENTS_PER_DAY), seed=given.seed)
    with place.place() as settings:
        print(f"{options.days} days of {PAYMENTS_PER_DAY:,} payments; one short run to warm up, {given.runs} counted")
        _once(settings, Options(END_MS, days=1, payments_per_day=200), "warm-up.")
        runs = [_once(settings, options, f"run-{number}.") for number in range(given.runs)]
        for run in runs:
            print(f"{run['events_per_s']:,.0f} events/s")
        report.finish("simulator", given.runs, report.medians(runs))


if __name__ == "__main__":
    main(sys.argv[1:])
