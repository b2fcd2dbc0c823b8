"""The audit of a lake without decisions: topic, bronze, silver, vectors and named features, all there is of each.

The lake is made by the jobs from a topic with about so many events; then the auditor looks at it as a process of its
own, with the digest key. It must find nothing.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks import place, report
from benchmarks.engine import reference
from benchmarks.filling import fill
from bronze import job as bronze
from features import job as features
from gold.job import Gold
from gold.named import NAMED
from lakehouse import settings as conf
from lakehouse import storage
from lakehouse.contracts.gold import VECTORS
from lakehouse.intervals import Flow, drive
from lakehouse.jobs import Context
from lakehouse.session import build_session
from lakehouse.settings import Settings
from silver import job as silver


def _made(settings: Settings, events: int, seed: int) -> int:
    """Make the lake; the records in its topic. Half of them are payments, the others what was said of them later."""
    filled = fill(settings, events // 2, seed, reference(settings))
    context = Context(settings, build_session(settings, "benchmark"), True, None)
    storage.make_root(context.root)
    for job in (bronze, silver, features):
        job.run(context)
    storage.ensure(context.root, NAMED)
    drive(context, [Flow(VECTORS, NAMED, settings.silver.batch_records, Gold(context).name)], 1)
    context.spark.stop()
    return filled.records


def _once() -> tuple[dict[str, float], int]:
    """(seconds and peak memory of an audit, rows that it looked at)."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "audit", "--json"], cwd=conf.home(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    found = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert found["clean"], found["findings"]
    assert not found["not_compared"], found["not_compared"]
    rows = sum(table["rows"] for hop in found["hops"] for table in hop["tables"])
    return {"seconds": seconds, "peak_mib": usage.ru_maxrss / 1024}, rows


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    options = report.parser("audit", __doc__, 1_000_000, "events in the topic").parse_args(argv)
    with place.place() as settings:
        records = _made(settings, options.size, options.seed)
        print(f"{records:,} records in the topic; one run to warm up, {options.runs} counted", flush=True)
        runs = []
        for number in range(options.runs + 1):
            run, rows = _once()
            print(f"run {number or 'to warm up'}: {run['seconds']:.1f} s, {run['peak_mib']:,.0f} MiB", flush=True)
            if number:
                runs.append(run)
        figures = report.medians(runs)
        more = {"events": records, "rows": rows, "events_per_s": round(records / figures["seconds"])}
        report.finish("audit", options.runs, {**figures, **more})


if __name__ == "__main__":
    main(sys.argv[1:])
