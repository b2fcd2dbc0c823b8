"""The history driver on Spark: silver to features.vectors in Delta, with labels, pairs and the final snapshot.

Beside it, in the same run, the 14 features of the Fraud Detection Handbook in pandas, from the same rows of silver,
read beforehand: `pandas_ratio` is features times rows per second against the handbook's way, group after group;
`pandas_one_pass_ratio` against the same windows over all groups at once.
"""

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

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

WINDOWS_D = (1, 7, 30)
DELAY_D = 7
LAST_NIGHT_HOUR = 6
SATURDAY = 5


def _once(context: Context, payments: int) -> dict[str, float]:
    folder = conf.resolve(context.settings.features.snapshot_folder)
    place.removed(context.root, VECTORS)
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    features.run(context)
    seconds = time.perf_counter() - began
    assert delta.count(context.root, VECTORS) == payments
    assert snapshot.newest([folder])
    return {"payments_per_s": payments / seconds}


def _of_customer(rows: pd.DataFrame) -> pd.DataFrame:
    """Number and mean of the amounts of one customer in windows that hold the payment itself."""
    found = {}
    for days in WINDOWS_D:
        window = rows["amount_base_minor"].rolling(f"{days}D")
        found[f"customer_count_{days}d"], found[f"customer_mean_{days}d"] = window.count(), window.mean()
    return pd.DataFrame(found)


def _of_merchant(rows: pd.DataFrame) -> pd.DataFrame:
    """Number and share of frauds of one merchant in windows that end DELAY_D days before the payment, as labels do."""
    found = {}
    late = rows["is_fraud"].rolling(f"{DELAY_D}D")
    late_count, late_frauds = late.count(), late.sum()
    for days in WINDOWS_D:
        longer = rows["is_fraud"].rolling(f"{DELAY_D + days}D")
        count = longer.count() - late_count
        found[f"merchant_count_{days}d"] = count
        found[f"merchant_risk_{days}d"] = ((longer.sum() - late_frauds) / count).fillna(0)
    return pd.DataFrame(found)


def in_pandas(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """The handbook's 14 features of payments in order of time, its way: one customer, one merchant after the other."""
    times = rows["event_time"]
    found = {"weekend": times.dt.weekday >= SATURDAY, "night": times.dt.hour <= LAST_NIGHT_HOUR}
    rows = rows.set_index("event_time")
    for entity, made_by in (("customer_token", _of_customer), ("merchant_id", _of_merchant)):
        made = pd.concat([made_by(some) for _, some in rows.groupby(entity)])
        found |= {name: made[name] for name in made.columns}
    return found


def in_one_pass(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """The same with rolling windows over all groups at once, as fast as pandas goes."""
    times = rows["event_time"]
    found = {"weekend": times.dt.weekday >= SATURDAY, "night": times.dt.hour <= LAST_NIGHT_HOUR}
    rows = rows.set_index("event_time")
    amounts, frauds = rows.groupby("customer_token")["amount_base_minor"], rows.groupby("merchant_id")["is_fraud"]
    late = frauds.rolling(f"{DELAY_D}D")
    late_count, late_frauds = late.count(), late.sum()
    for days in WINDOWS_D:
        window, longer = amounts.rolling(f"{days}D"), frauds.rolling(f"{DELAY_D + days}D")
        count = longer.count() - late_count
        found[f"customer_count_{days}d"], found[f"customer_mean_{days}d"] = window.count(), window.mean()
        found[f"merchant_count_{days}d"] = count
        found[f"merchant_risk_{days}d"] = ((longer.sum() - late_frauds) / count).fillna(0)
    return found


def _pandas(context: Context) -> dict[str, float]:
    """Seconds are of the features alone: reading the rows is not counted."""
    names = ["event_time", "transaction_id", "customer_token", "merchant_id", "amount_base_minor"]
    rows = delta.rows(context.root, PAYMENTS, names).to_pandas().sort_values("event_time", ignore_index=True)
    labels = delta.rows(context.root, LABELS, ["transaction_id", "is_fraud"]).to_pandas()
    frauds = set(labels.loc[labels["is_fraud"], "transaction_id"])
    rows["is_fraud"] = rows["transaction_id"].isin(frauds).astype(int)
    figures = {"features": 14.0}
    for name, way in (("payments_per_s", in_pandas), ("one_pass_payments_per_s", in_one_pass)):
        began = time.perf_counter()
        found = way(rows)
        figures[name] = len(rows) / (time.perf_counter() - began)
        assert len(found) == figures["features"]
        assert all(len(column) == len(rows) for column in found.values())
    return figures


def _filled(settings: Settings, size: int, seed: int, data: Path | None) -> tuple[Context, int]:
    """A lake with silver filled."""
    filled = fill(settings, size, seed, reference(settings), data)
    context = Context(settings, build_session(settings, "benchmark"), True, None)
    make_root(context.root)
    bronze.run(context)
    silver.run(context)
    print(f"silver holds {filled.payments:,} payments and {delta.count(context.root, LABELS):,} labels", flush=True)
    return context, filled.payments


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    parser = report.parser("backfill", __doc__, 400_000, "payments")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="recorded payments instead of a synthetic world")
    given = parser.parse_args(argv)
    with place.place() as settings:
        context, payments = _filled(settings, given.size, given.seed, given.data)
        beside, runs = _pandas(context), []
        print(", ".join(f"{name} of pandas {value:,.0f}" for name, value in beside.items()), flush=True)
        for number in range(given.runs + 1):
            ours = _once(context, payments)
            print(f"run {number or 'to warm up'}: {ours['payments_per_s']:,.0f} payments/s", flush=True)
            if number:
                runs.append(ours)
        figures = report.medians(runs)
        scale = figures["payments_per_s"] * len(NAMES) / beside["features"]
        ratios = {
            "pandas_ratio": round(scale / beside["payments_per_s"], 2),
            "pandas_one_pass_ratio": round(scale / beside["one_pass_payments_per_s"], 2),
        }
        more = {"features": len(NAMES), "payments": payments}
        report.finish("backfill", given.runs, {**figures, **ratios, **more}, {"pandas": beside})


if __name__ == "__main__":
    main(sys.argv[1:])
