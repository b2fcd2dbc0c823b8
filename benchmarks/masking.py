"""The masking pass alone, on every core: sealed payments opened, decoded, digested, tokenised, a Fernet record each."""

import os
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks import place, report
from benchmarks.filling import fill
from bronze import job as bronze
from lakehouse import delta, keys
from lakehouse.contracts.bronze import EVENTS
from lakehouse.jobs import Context
from lakehouse.registry import registry
from lakehouse.session import build_session
from lakehouse.settings import Settings
from lakehouse.storage import make_root
from lakehouse.worker_daemon import settle
from silver.masking import Masker

BATCH_ROWS = 50_000


def _payments(settings: Settings, size: int, seed: int) -> list[pa.RecordBatch]:
    """Rows of bronze that hold payments, as Spark hands them to a worker."""
    fill(settings, size, seed)
    context = Context(settings, build_session(settings, "benchmark"), True, None)
    make_root(context.root)
    bronze.run(context)
    of_payments = pc.field("schema_id") == registry().latest("payment").id
    rows = delta.rows(context.root, EVENTS, EVENTS.column_names, of_payments)
    context.spark.stop()
    return list(rows.combine_chunks().to_batches(BATCH_ROWS))


_settings: list[Settings] = []
_batches: list[pa.RecordBatch] = []
_maskers: dict[int, Masker] = {}
"""By run: each begins as a task of Spark's does, having met nobody's key."""


def _ready(settings: Settings, path: str) -> None:
    # Workers read their files themselves; they fork from a daemon that has loaded everything.
    with pa.memory_map(path) as held:
        _batches.extend(pa.ipc.open_file(held).read_all().to_batches())
    settle()
    _settings.append(settings)


def _masked(run: int, number: int) -> tuple[int, float]:
    """Rows masked, and the processor seconds of it."""
    batch = _batches[number]
    began = time.process_time()
    if run not in _maskers:
        _maskers[run] = Masker(keys.source(_settings[0]), registry().latest("payment"), {}, 1)
    masked, looked_at = _maskers[run].masked(batch)
    seconds = time.process_time() - began
    assert looked_at.column("broken").null_count == masked.num_rows
    return masked.num_rows, seconds


def _once(pool: Pool, run: int, batches: Sequence[pa.RecordBatch]) -> dict[str, float]:
    began = time.perf_counter()
    done = pool.starmap(_masked, [(run, number) for number in range(len(batches))], chunksize=1)
    seconds = time.perf_counter() - began
    records = sum(rows for rows, _ in done)
    assert records == sum(batch.num_rows for batch in batches)
    return {"records_per_s": records / seconds, "core_us_per_record": sum(spent for _, spent in done) * 1e6 / records}


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    options = report.parser("masking", __doc__, 200_000, "payments").parse_args(argv)
    with place.place() as settings:
        batches = _payments(settings, options.size, options.seed)
        path = str(Path(settings.lake.root) / "batches.arrow")
        with pa.ipc.new_file(path, batches[0].schema) as file:
            for batch in batches:
                file.write_batch(batch)
        with get_context("spawn").Pool(os.cpu_count(), _ready, (settings, path)) as pool:
            runs = [_once(pool, run, batches) for run in range(options.runs + 1)][1:]
        for run in runs:
            print(f"{run['records_per_s']:,.0f} records/s, {run['core_us_per_record']:.1f} core-us each")
        report.finish("masking", options.runs, {**report.medians(runs), "cores": os.cpu_count()})


if __name__ == "__main__":
    main(sys.argv[1:])
