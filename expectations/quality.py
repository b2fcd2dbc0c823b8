r"""Quality of what arrived: the scores in force, and the release of an interval that they hold back.

python -m expectations.quality show
python -m expectations.quality release --table silver.payments --dimension validity \
        --from-position 100 --to-position 2000 --why 'a test feed; its records are known to be refused'
"""

import argparse
import getpass
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa

from expectations.dimensions import DIMENSIONS
from expectations.gate import READ_BY_GOLD, held
from expectations.trend import scored
from lakehouse import delta, jobs, trail
from lakehouse import settings as conf
from lakehouse.contracts import quality
from lakehouse.errors import QualityHeld
from lakehouse.files import arrow_schema
from lakehouse.log import configure
from lakehouse.settings import Settings
from lakehouse.spans import Span

_SHOWN = ("topic_id", "partition", "offset", "window_start_offset", "table_name", "dimension", "score", "state")


def show(settings: Settings) -> list[str]:
    """A line for the newest score of every table and dimension, then one for every interval that is held back."""
    root = conf.lake_root(settings)
    newest = {}
    for row in sorted(delta.rows(root, quality.SCORES, _SHOWN).to_pylist(), key=lambda r: r["offset"]):
        newest[row["partition"], row["table_name"], row["dimension"]] = row
    lines = [
        f"{table:24} {dimension:13} {row['score']:.4f} {row['state']:8} offsets {row['window_start_offset']} to "
        f"{row['offset'] + 1} of partition {partition}"
        for (partition, table, dimension), row in sorted(newest.items())
    ]
    threshold = settings.quality.hold_below
    for span in scored(root):
        lines += [f"held: {one.refusal(threshold)}" for one in held(root, span, settings.quality)]
    return lines


def release(
    settings: Settings, table: str, dimension: str, partition: int, start: int, end: int, by: str, why: str
) -> str:
    """Release the offsets [start, end) of a table and dimension; the release's id. QualityHeld where none is held."""
    from lakehouse import storage
    from lakehouse.session import build_session

    root = conf.lake_root(settings)
    found = [span for span in scored(root) if span.partition == partition]
    mine = [
        one
        for span in found
        for one in held(root, Span(span.topic_id, partition, start, end), settings.quality)
        if (one.table, one.dimension) == (table, dimension)
    ]
    if not mine:
        raise QualityHeld(
            f"Nothing of {table}, {dimension}, is held back at offsets {start} to {end} of partition {partition}.",
            "`python -m expectations.quality show` lists what is.",
        )
    row = {
        "release_id": str(uuid.uuid4()),
        "topic_id": mine[0].span.topic_id,
        "partition": partition,
        "start_offset": start,
        "end_offset": end,
        "table_name": table,
        "dimension": dimension,
        "released_at": datetime.now(UTC),
        "released_by": by,
        "reason": why,
    }
    of: trail.Details = {"partition": partition, "start_offset": start, "end_offset": end, "by": by}
    trail.record(settings, "quality.released", f"{table}, {dimension}", of)
    storage.ensure(root, quality.RELEASES)
    rows = pa.Table.from_pylist([row], arrow_schema(quality.RELEASES))
    frame = build_session(settings, "quality").createDataFrame(rows)
    storage.merge_by_key(frame, root, quality.RELEASES)
    return str(row["release_id"])


def _position(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is no offset")
    return int(text)


def _said(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("say something")
    return text.strip()


def main(argv: Sequence[str]) -> int:
    """Show the scores, or release an interval."""
    parser = argparse.ArgumentParser(
        prog="python -m expectations.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    showing = actions.add_parser("show", help="the newest scores, and what is held back")
    releasing = actions.add_parser("release", help="let gold and training use an interval whose score is too low")
    releasing.add_argument("--table", required=True, choices=READ_BY_GOLD)
    releasing.add_argument("--dimension", required=True, choices=DIMENSIONS)
    releasing.add_argument("--from-position", required=True, type=_position, metavar="OFFSET")
    releasing.add_argument("--to-position", required=True, type=_position, metavar="OFFSET")
    releasing.add_argument("--partition", default=0, type=_position)
    releasing.add_argument("--why", required=True, type=_said, help="the reason, kept with the release")
    releasing.add_argument("--by", default=getpass.getuser(), type=_said, help="who releases (default: the user)")
    for action in (showing, releasing):
        action.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    arguments = parser.parse_args(argv)

    def work() -> None:
        settings = conf.load(arguments.env)
        configure(settings, "quality")
        if arguments.action == "show":
            print("\n".join(show(settings)) or "nothing has been scored yet")
            return
        start, end = arguments.from_position, arguments.to_position
        made = release(
            settings, arguments.table, arguments.dimension, arguments.partition, start, end, arguments.by, arguments.why
        )
        print(f"released as {made}: {arguments.table}, {arguments.dimension}, offsets {start} to {end}")

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
