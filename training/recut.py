"""The same models with cuts for another alert budget: a new signed bundle, registered as the next version.

python -m training.recut --digest SHA256 --budget-per-1000 2
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import orjson

from decisions import bundle
from decisions.shelf import Shelf
from lakehouse import jobs
from lakehouse import settings as conf
from lakehouse.log import configure
from lakehouse.runs import recorded
from lakehouse.settings import Settings
from lakehouse.signing import signer
from training import data, registry
from training.cutting import cuts
from training.promotion import MOST_ROWS, fitted_until_ms


def recut(settings: Settings, digest: str, budget_per_1000: float) -> str:
    """Digest of the bundle whose cuts take that budget of the newest payments that its models were fitted on."""
    store = conf.resolve(settings.models.store)
    model = Shelf.of(settings).loaded(digest)
    found = data.read(conf.lake_root(settings))
    rows = found.between(0, fitted_until_ms(model))[-MOST_ROWS:]
    if not len(rows):
        raise data.DataRefused("No payment of gold.training_set is one that the models were fitted on.")
    made = cuts(model.scores(found.X[rows]).ensemble, budget_per_1000)
    files = bundle.verified_files(store, digest, model.manifest)
    manifest: dict[str, Any] = {**model.manifest, "cuts": made, "recut_of": digest}
    author = signer(conf.resolve(settings.keys.folder) / "author.pem")
    new = bundle.write(store, files, manifest, author)
    tags = {bundle.DIGEST_TAG: new, "feature_set": str(manifest["feature_set"])}
    described = {"recut_of": digest, "alert_budget_per_1000": budget_per_1000, "cuts": orjson.dumps(made).decode()}
    registry.recorded(settings, described, {}, tags, store / new, new)
    return new


def main(argv: Sequence[str]) -> int:
    """Make the bundle and print its digest as the last line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.recut", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--digest", required=True, help="of the bundle whose models stay")
    parser.add_argument(
        "--budget-per-1000", type=float, required=True, metavar="PAYMENTS", help="that are not approved, of a thousand"
    )
    given = parser.parse_args(argv)
    if not 0 < given.budget_per_1000 <= 1000:
        parser.error(f"--budget-per-1000 is {given.budget_per_1000:g}, it must be above 0 and at most 1000")

    def work() -> None:
        settings = conf.load(given.env)
        configure(settings, "training")
        with recorded(settings, "training.recut"):
            digest = recut(settings, given.digest, given.budget_per_1000)
        print(digest)

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
