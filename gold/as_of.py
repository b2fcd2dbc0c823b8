"""A training set as of any moment of the past, or one that was made before made again, row for row.

`--as-of 2026-01-31T00:00:00Z` takes the source tables as they are and what had arrived by then; `--again VERSION` takes
the moment and the Delta versions that a version of gold.training_set records. The result becomes gold.training_set.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import orjson
import pyarrow.compute as pc

from expectations.gate import refuse_held
from gold.training_set import RECOMPUTED, VECTORS_OF, Recipe, spans_until, write
from lakehouse import delta, jobs, storage
from lakehouse import settings as conf
from lakehouse.contracts import silver
from lakehouse.contracts.gold import TRAINING_SET
from lakehouse.errors import Terminal
from lakehouse.jobs import Context
from lakehouse.log import configure
from lakehouse.moments import moment_ms
from lakehouse.runs import recorded
from lakehouse.settings import Settings


class AsOfRefused(Terminal):
    """No training set can be made as of that moment, or of that version."""


def reached_ms(root: str) -> int:
    """The engine's clock at the last payment in silver; 0 before there is one."""
    found = pc.max(delta.rows(root, silver.PAYMENTS, ["engine_clock"]).column("engine_clock")).as_py()
    return int(found.timestamp() * 1000) if found else 0


def recipe_of(settings: Settings, as_of_ms: int | None, again: int | None, features: str) -> Recipe:
    """What to make; AsOfRefused where silver does not reach so far, or a version records no recipe."""
    root = conf.lake_root(settings)
    if again is not None:
        found = Recipe.of(root, again)
        if found is None:
            raise AsOfRefused(
                f"Version {again} of {TRAINING_SET.name} records no sources, or those of an earlier rule for labels.",
                "Name a moment instead: --as-of",
            )
        return found
    assert as_of_ms is not None
    reached = reached_ms(root)
    if as_of_ms > reached:
        until = datetime.fromtimestamp(reached / 1000, UTC).isoformat(timespec="milliseconds")
        raise AsOfRefused(
            f"{silver.PAYMENTS.name} reaches to {until}: what was known later is not known yet.",
            "Name an earlier moment, or bring silver up to date first.",
        )
    return Recipe.now(root, as_of_ms, settings, features)


def run(context: Context, recipe: Recipe) -> dict[str, object]:
    """Make gold.training_set by a recipe; what was made, with the version that holds it."""
    refuse_held(context.root, spans_until(context.root, recipe.as_of_ms), context.settings.quality)
    storage.ensure(context.root, TRAINING_SET)
    write(context.spark, context.root, recipe)
    rows = delta.count(context.root, TRAINING_SET)
    return {"rows": rows, "version": storage.version(context.root, TRAINING_SET), **asdict(recipe)}


def main(argv: Sequence[str]) -> int:
    """Make a training set and print what was made as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m gold.as_of", description=__doc__)
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--as-of", type=moment_ms, metavar="TIME", help="what had arrived by then counts")
    what.add_argument("--again", type=int, metavar="VERSION", help="a version of gold.training_set to make again")
    parser.add_argument(
        "--features",
        choices=tuple(VECTORS_OF),
        default=RECOMPUTED,
        help="the history driver's of every payment (default), or those that the engine logged with its decisions",
    )
    arguments = parser.parse_args(argv)

    def work() -> None:
        from lakehouse.session import build_session

        settings = conf.load(arguments.env)
        configure(settings, "gold")
        asked = {"as_of_ms": arguments.as_of, "again": arguments.again, "features": arguments.features}
        with recorded(settings, "gold.as_of", "as_of", **asked):
            recipe = recipe_of(settings, arguments.as_of, arguments.again, arguments.features)
            made = run(Context(settings, build_session(settings, "gold"), True, None), recipe)
        print(orjson.dumps(made).decode())

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
