"""The history driver on Spark: silver to features.vectors in Delta, with labels, pairs and the final snapshot.

Beside it, in the same run, windows of the same kind in pandas: count and mean amount of card and merchant over 1, 7 and
30 days, from the same rows of silver. `pandas_ratio` compares features times rows per second.
"""

import shutil
import sys
import time
from collections.abc import Sequence

import pandas as pd

from benchmarks import place, report
from benchmarks.engine import reference
from benchmarks.filling import fill
from bronze import job as bronze
from features import job as features
from features import snapshot
from features.catalogue import NAMES
from lakehouse import delta
from lakehouse import settings as conf
from lakehouse.contracts.gold import VECTORS
from lakehouse.contracts.silver import LABELS, PAYMENTS
from lakehouse.jobs import Context
from lakehouse.session import build_session
from lakehouse.settings import Settings
from lakehouse.storage import make_root
from silver import job as silver

PANDAS_ROWS = 100_000
WINDOWS_D = (1, 7, 30)


def _once(context: Context, payments: int) -> dict[str, float]:
    folder = conf.resolve(context.settings.features.snapshot_folder)
    shutil.rmtree(VECTORS.path(context.root), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    features.run(context)
    seconds = time.perf_counter() - began
    assert delta.count(context.root, VECTORS) == payments
    assert len(snapshot.newest([folder])) == 1
    return {"payments_per_s": payments / seconds}


def in_pandas(rows: pd.DataFrame) -> tuple[int, float]:
    """(features, seconds): windows before each payment, the usual way."""
    rows = rows.sort_values("event_time").set_index("event_time")
    made = 0
    began = time.perf_counter()
    for entity in ("card_token", "merchant_id"):
        groups = rows.groupby(entity)["amount_base_minor"]
        for days in WINDOWS_D:
            window = groups.rolling(f"{days}D", closed="left")
            made += sum(len(found) > 0 for found in (window.count(), window.mean()))
    return made, time.perf_counter() - began


def _pandas(context: Context) -> dict[str, float]:
    rows = delta.rows(context.root, PAYMENTS, ["event_time", "card_token", "merchant_id", "amount_base_minor"])
    frame = rows.to_pandas().head(PANDAS_ROWS)
    made, seconds = in_pandas(frame)
    return {"features": made, "payments_per_s": len(frame) / seconds}


def _filled(settings: Settings, size: int, seed: int) -> tuple[Context, int]:
    """A lake with silver filled."""
    filled = fill(settings, size, seed, reference(settings))
    context = Context(settings, build_session(settings, "benchmark"), True, None)
    make_root(context.root)
    bronze.run(context)
    silver.run(context)
    print(f"silver holds {filled.payments:,} payments and {delta.count(context.root, LABELS):,} labels", flush=True)
    return context, filled.payments


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    given = report.parser("backfill", __doc__, 100_000, "payments").parse_args(argv)
    with place.place() as settings:
        context, payments = _filled(settings, given.size, given.seed)
        runs, beside = [], []
        for number in range(given.runs + 1):
            ours, theirs = _once(context, payments), _pandas(context)
            ratio = ours["payments_per_s"] * len(NAMES) / (theirs["payments_per_s"] * theirs["features"])
            which = number or "to warm up"
            print(f"run {which}: {ours['payments_per_s']:,.0f} payments/s, {ratio:,.0f} times pandas", flush=True)
            if number:
                runs.append({**ours, "pandas_ratio": ratio})
                beside.append(theirs)
        figures = {**report.medians(runs), "features": len(NAMES), "payments": payments}
        report.finish("backfill", given.runs, figures, {"pandas": report.medians(beside)})


if __name__ == "__main__":
    main(sys.argv[1:])
