"""Sealed bronze to silver: records admitted, typed, masked and committed to every table of silver, per second."""

import sys
import time
from collections.abc import Sequence

from benchmarks import place, report
from benchmarks.engine import reference
from benchmarks.filling import fill
from bronze import job as bronze
from lakehouse import delta
from lakehouse.contracts import quality
from lakehouse.contracts import silver as silver_tables
from lakehouse.jobs import Context
from lakehouse.session import build_session
from lakehouse.storage import make_root
from silver import job as silver

HOLDING = (*silver_tables.BY_KIND.values(), silver_tables.QUARANTINE, silver_tables.DUPLICATES)
"""The tables of which one holds each record."""


def _once(context: Context, records: int) -> dict[str, float]:
    place.removed(context.root, *silver_tables.TABLES, quality.SCORES)
    began = time.perf_counter()
    silver.run(context)
    seconds = time.perf_counter() - began
    held = sum(delta.count(context.root, table) for table in HOLDING)
    assert held == records, (held, records)
    return {"rows_per_s": records / seconds}


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    options = report.parser("silver", __doc__, 200_000, "payments, each with an authorisation").parse_args(argv)
    with place.place() as settings:
        filled = fill(settings, options.size, options.seed, reference(settings))
        context = Context(settings, build_session(settings, "benchmark"), True, None)
        make_root(context.root)
        bronze.run(context)
        print(f"{filled.records:,} records in bronze; one run to warm up, {options.runs} counted", flush=True)
        runs = []
        for number in range(options.runs + 1):
            runs.append(_once(context, filled.records))
            print(f"run {number or 'to warm up'}: {runs[-1]['rows_per_s']:,.0f} rows/s", flush=True)
        report.finish("silver", options.runs, {**report.medians(runs[1:]), "records": filled.records})


if __name__ == "__main__":
    main(sys.argv[1:])
