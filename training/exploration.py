"""What is known of the payments that are declined, from those that exploration let through, with 95 % intervals.

python -m training.exploration            as of the training set that the lake holds
python -m training.exploration --json

Payments that exploration could have let through (gold.decisions has their propensity) and those that were approved,
once their labels had time to arrive. Others (challenged, reviewed, on a block list, above the limit) are not spoken of.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from decisions.ladder import APPROVE
from lakehouse import delta, jobs
from lakehouse import settings as conf
from lakehouse.contracts import gold
from lakehouse.errors import Terminal
from lakehouse.log import configure
from training.weighted import Doubles, Estimate, Flags, Seen


class NothingExplored(Terminal):
    """No mature payment could have been let through."""


@dataclass(frozen=True)
class Explored:
    """Mature payments that were approved, let through, or declined although they could have been let through."""

    propensity: Doubles
    """Of being approved: 1 unless exploration decided it."""
    seen: Flags
    """Approved, so that a fraud among them is found out."""
    is_fraud: Flags
    amount_minor: Doubles
    """In the base currency."""

    @property
    def declined(self) -> Flags:
        """Those that the policy without exploration declines."""
        return self.propensity < 1


def explored(root: str) -> Explored:
    """What gold.decisions and gold.training_set say; NothingExplored before a payment could have been let through."""
    names = [*delta.PLACE, "decided_outcome", "propensity", "amount_base_minor"]
    # Where the API had to answer first, the engine's decision did not decide who was seen.
    asked = (pc.field("decided_outcome") == APPROVE) | pc.field("propensity").is_valid()
    decided = delta.rows(root, gold.DECISIONS, names, asked & pc.field("answered_outcome").is_null())
    labels = delta.rows(root, gold.TRAINING_SET, [*delta.PLACE, "is_fraud"], pc.field("is_mature"))
    rows = decided.join(labels, list(delta.PLACE), join_type="inner") if decided.num_rows and labels.num_rows else None
    if rows is None or rows.column("propensity").null_count == rows.num_rows:
        raise NothingExplored(
            "No payment whose labels had time to arrive could have been let through by exploration.",
            "Put it into force: python -m decisions.control thresholds ... --explore-share --explore-up-to-minor",
        )

    def flags(column: pa.ChunkedArray) -> Flags:
        found: Flags = column.to_numpy().astype(np.bool_)
        return found

    return Explored(
        pc.fill_null(rows.column("propensity"), 1.0).to_numpy(),
        flags(pc.equal(rows.column("decided_outcome"), APPROVE)),
        flags(rows.column("is_fraud")),
        rows.column("amount_base_minor").to_numpy().astype(np.float64),
    )


def estimates(of: Explored) -> dict[str, Estimate]:
    """The declined payments' frauds, what they are of all, and what declining them costs honest customers."""
    seen = of.seen
    population = Seen(of.propensity[seen], float(of.propensity.min()))
    fraud, declined, amount = of.is_fraud[seen], of.declined[seen], of.amount_minor[seen]
    everybody = np.ones(len(fraud), np.bool_)
    return {
        "fraud among declined, share": population.share(fraud, declined),
        "frauds stopped, share of all": population.share(declined, fraud),
        "fraud, share of all payments": population.share(fraud, everybody),
        "prevented loss, minor units": population.total(amount * (fraud & declined)),
        "honest payments declined": population.total(~fraud & declined),
        "their amount, minor units": population.total(amount * (~fraud & declined)),
    }


def main(argv: Sequence[str]) -> int:
    """Print the estimates."""
    parser = argparse.ArgumentParser(
        prog="python -m training.exploration", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--json", action="store_true", help="as one line of JSON")
    arguments = parser.parse_args(argv)

    def work() -> None:
        settings = conf.load(arguments.env)
        configure(settings, "training")
        of = explored(conf.lake_root(settings))
        found = estimates(of)
        if arguments.json:
            print(orjson.dumps({name: asdict(one) for name, one in found.items()}).decode())
            return
        through = int((of.seen & of.declined).sum())
        print(f"{int(of.declined.sum()):,} payments could be let through, {through:,} were; {len(of.seen):,} in all")
        for name, one in found.items():
            print(f"{name:30} {one.value:>14,.4g}   {one.low:,.4g} to {one.high:,.4g}")

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
