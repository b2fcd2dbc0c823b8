"""How late labels of fraud come, by source, and how many are still to come: gold.label_maturity.

python -m gold.maturity                                  as of the last payment in silver
python -m gold.maturity --as-of 2026-01-31T00:00:00Z     as of any moment before it

Labels that stood at the moment; of a payment the first of every source, and the first that is trusted (`any`).
Nothing is written; gold.job keeps the table.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gold.as_of import AsOfRefused, reached_ms
from gold.delays import ANY, Curve, Ints, curve, delays, rows
from lakehouse import delta, jobs, label_ledger
from lakehouse import settings as conf
from lakehouse.contracts import silver
from lakehouse.label_settings import Labels, Source
from lakehouse.log import configure
from lakehouse.moments import DAY_MS, moment_ms

SEED = 0
"""Of the intervals: the same labels give the same table."""
SHOWN_D = (1, 3, 7, 14, 30)


@dataclass(frozen=True)
class Words:
    """First standing labels of fraud, one a payment."""

    paid_ms: Ints
    known_ms: Ints


NOTHING = Words(np.zeros(0, np.int64), np.zeros(0, np.int64))


def _millis(column: pa.ChunkedArray) -> Ints:
    found: Ints = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy() // 1000
    return found


def first_of_fraud(labels: pa.Table) -> Words:
    """The first label of fraud of each payment."""
    frauds = labels.filter(labels.column("is_fraud"))
    if frauds.num_rows == 0:
        return NOTHING
    first = frauds.group_by("transaction_id").aggregate([("known_ms", "min"), ("event_time", "min")])
    return Words(_millis(first.column("event_time_min")), first.column("known_ms_min").to_numpy())


def payments_by_day(root: str, as_of_ms: int) -> tuple[Ints, Ints]:
    """(days since 1970, payments that had arrived by the moment), by day of payment."""
    moment = pa.scalar(as_of_ms * 1000, pa.timestamp("us", "UTC"))
    found = delta.rows(root, silver.PAYMENTS, ["event_time"], pc.field("engine_clock") <= moment)
    if found.num_rows == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    days, counts = np.unique(_millis(found.column("event_time")) // DAY_MS, return_counts=True)
    return days, counts.astype(np.int64)


def curves(root: str, as_of_ms: int, settings: Labels) -> dict[str, Curve]:
    """The maturity of every source and of the first trusted label; nothing before there are payments."""
    days, payments = payments_by_day(root, as_of_ms)
    if len(days) == 0:
        return {}
    horizon = int(min(settings.horizon_d, max(1, as_of_ms // DAY_MS - days.min() - 1)))
    found = delta.rows(root, silver.LABELS, label_ledger.COLUMNS)
    labels = label_ledger.standing(found, as_of_ms) if found.num_rows else None
    words = {ANY: NOTHING} | dict.fromkeys(get_args(Source), NOTHING)
    if labels is not None:
        words[ANY] = first_of_fraud(label_ledger.believed(labels, label_ledger.Trust.of(settings)))
        for source in get_args(Source):
            words[source] = first_of_fraud(labels.filter(pc.equal(labels.column("source"), source)))
    return {
        name: curve(delays(w.paid_ms // DAY_MS, w.known_ms - w.paid_ms, days, payments, as_of_ms, horizon), SEED)
        for name, w in words.items()
    }


def label_maturity(root: str, as_of_ms: int, settings: Labels) -> list[dict[str, Any]]:
    """Rows of gold.label_maturity as of a moment."""
    return rows(curves(root, as_of_ms, settings), datetime.fromtimestamp(as_of_ms / 1000, UTC))


def _lines(found: dict[str, Curve], label_gap_d: int) -> list[str]:
    horizon = len(found[ANY].share) - 1
    ages = [age for age in sorted({*SHOWN_D, label_gap_d}) if 0 < age < horizon]
    lines = [
        f"{'source':14} {'labels':>7}  " + "  ".join(f"{f'by day {age}':>18}" for age in ages) + "   still to come"
    ]
    for name, one in found.items():
        if one.labels == 0:
            lines.append(f"{name:14} {0:>7}  none has arrived")
            continue
        cells = (f"{one.share[a]:6.1%} ({one.share_low[a]:.0%}-{one.share_high[a]:.0%})" for a in ages)
        expected, low, high = one.total_to_come
        shown = "  ".join(f"{cell:>18}" for cell in cells)
        lines.append(f"{name:14} {one.labels:>7}  {shown}   {expected:,.0f} ({low:,.0f}-{high:,.0f})")
    first = found[ANY]
    lines.append(f"Shares are of the labels that come within {horizon} days; in brackets 95 % intervals.")
    if first.labels and label_gap_d <= horizon:
        lines.append(
            f"training.label_gap_d is {label_gap_d}: {first.share[label_gap_d]:.1%} "
            f"({first.share_low[label_gap_d]:.1%}-{first.share_high[label_gap_d]:.1%}) of them are known by then."
        )
    return lines


def main(argv: Sequence[str]) -> int:
    """Print the maturity of labels."""
    parser = argparse.ArgumentParser(
        prog="python -m gold.maturity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--as-of", type=moment_ms, metavar="TIME", help="what had arrived by then counts")
    parser.add_argument("--json", action="store_true", help="the rows of gold.label_maturity, one a line")
    arguments = parser.parse_args(argv)

    def work() -> None:
        settings = conf.load(arguments.env)
        configure(settings, "gold")
        root = conf.lake_root(settings)
        reached = reached_ms(root)
        as_of_ms = reached if arguments.as_of is None else arguments.as_of
        found = curves(root, as_of_ms, settings.labels) if as_of_ms <= reached else {}
        if not found:
            raise AsOfRefused(
                f"{silver.PAYMENTS.name} has no payment as of that moment, or does not reach so far.",
                "Name a moment within it, or bring silver up to date first.",
            )
        if arguments.json:
            as_of = datetime.fromtimestamp(as_of_ms / 1000, UTC)
            print("\n".join(orjson.dumps(row).decode() for row in rows(found, as_of)))
        else:
            print("\n".join(_lines(found, settings.training.label_gap_d)))

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
