"""gold.training_set as Parquet files with a manifest, for training elsewhere or from the warehouse's copy.

python -m gold.export --to FOLDER                the training set as it is
python -m gold.export --to FOLDER --version 12   as it was at a Delta version

`python -m training.job --from-parquet FOLDER` makes the same model of it, to the byte.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
import pyarrow.compute as pc

from expectations.gate import refuse_held
from gold.training_set import spans_until
from lakehouse import delta, exported, jobs, sourced
from lakehouse import settings as conf
from lakehouse.contracts.gold import TRAINING_SET
from lakehouse.errors import Terminal
from lakehouse.log import configure
from lakehouse.runs import recorded
from lakehouse.settings import Settings


class NothingToExport(Terminal):
    """There is no training set, or not at that version."""


def export(settings: Settings, folder: Path, version: int | None) -> dict[str, object]:
    """Write the training set into a folder; what was written. QualityHeld where an interval of it is held back."""
    root = conf.lake_root(settings)
    reader = delta.opened(root, TRAINING_SET) if delta.exists(root, TRAINING_SET) else None
    if reader is not None and version is not None:
        if not 0 <= version <= reader.version():
            raise NothingToExport(f"{TRAINING_SET.name} has versions 0 to {reader.version()}, not {version}.")
        reader.load_as_version(version)
    rows = None if reader is None else delta.dataset(reader).to_table()
    if reader is None or rows is None or rows.num_rows == 0:
        raise NothingToExport(f"{TRAINING_SET.name} is empty.", "Run: python -m gold.job --available-now")
    if missing := set(TRAINING_SET.column_names) - set(rows.column_names):
        raise NothingToExport(
            f"Version {reader.version()} of {TRAINING_SET.name}, of an earlier release, has no "
            f"{', '.join(sorted(missing))}.",
            "Make it anew: python -m gold.as_of --as-of TIME",
        )
    as_of = pc.max(rows.column("as_of")).as_py()
    as_of_ms = int(as_of.timestamp() * 1000)
    refuse_held(root, spans_until(root, as_of_ms), settings.quality)
    about = {
        "version": reader.version(),
        "as_of_ms": as_of_ms,
        "feature_set": rows.column("feature_set")[0].as_py(),
        "sources": sourced.sources(root, TRAINING_SET, reader.version()),
    }
    digest = exported.write(folder, TRAINING_SET, rows, delta.PLACE, about)
    return {"folder": str(folder), "rows": rows.num_rows, "digest": digest, **about}


def main(argv: Sequence[str]) -> int:
    """Export, and print what was written as one line of JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m gold.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="an empty one, or one to be made")
    parser.add_argument("--version", type=int, metavar="VERSION", help="of gold.training_set (default: the newest)")
    arguments = parser.parse_args(argv)

    def work() -> None:
        settings = conf.load(arguments.env)
        configure(settings, "gold")
        with recorded(settings, "gold.export", "export", version=arguments.version):
            written = export(settings, arguments.to, arguments.version)
        print(orjson.dumps(written).decode())

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
