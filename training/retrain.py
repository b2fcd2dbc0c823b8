"""A new challenger from the newest training set; what acts is never changed here.

python -m training.retrain                        train, and register what comes of it as the challenger
python -m training.retrain --on-drift             only where the newest windows of quality.drift raised an alarm
python -m training.retrain --from-parquet FOLDER  from an export of the training set

It becomes a champion by two people's signatures alone (decisions.control). Exit code 0: trained, or no need to.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from decisions.champion import needed
from lakehouse import jobs
from lakehouse import settings as conf
from lakehouse.log import configure, logger
from lakehouse.runs import recorded
from lakehouse.settings import Settings
from training.job import train
from training.watch import newest


def alarms(root: str, model_digest: str) -> list[str]:
    """`subject measure` of every alarm in the newest window of each measure, for one champion."""
    return [f"{row['subject']} {row['measure']}" for row in newest(root, model_digest) if row["alarm"]]


def retrained(settings: Settings, on_drift: bool, folder: Path | None) -> str | None:
    """Digest of the new challenger; None where there was no need. ControlRefused before there is a champion."""
    root = conf.lake_root(settings)
    challenged = needed(root)
    if on_drift:
        found = alarms(root, challenged)
        logger("training").info("alarms of the drift watch", alarms=len(found), first=", ".join(found[:3]))
        if not found:
            return None
    return train(settings, None, None, folder=folder)


def main(argv: Sequence[str]) -> int:
    """Train a challenger and print the digest of its signed bundle as the last line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.retrain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--on-drift", action="store_true", help="only where the drift watch raised an alarm")
    parser.add_argument("--from-parquet", type=Path, metavar="FOLDER", help="an export: python -m gold.export")
    arguments = parser.parse_args(argv)

    def work() -> None:
        settings = conf.load(arguments.env)
        configure(settings, "training")
        with recorded(settings, "training.retrain"):
            digest = retrained(settings, arguments.on_drift, arguments.from_parquet)
        print(digest or "nothing has drifted: no challenger was trained")

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
