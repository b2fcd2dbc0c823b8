"""Whether what exploration estimates is true: coverage of its intervals against a world whose truth is known.

A seeded world of payments with scores; those above the cut are declined, and a share of them is let through by the
keyed hash, under another key in every run. Estimated from the payments that were seen: the share of frauds among
the declined, the share of all frauds that the policy stops, frauds and their share of all payments. Beside it the naive
figures: the same, every seen payment counted once (right among the declined alone, who all have one share). Fails below
93 % coverage.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.report import finish, parser
from decisions.exploration import let_through
from lakehouse.crypto import Mac
from training.weighted import Doubles, Estimate, Flags, Seen

SHARE = 0.05
DECLINED_FROM = 0.8
LEAST_COVERAGE = 0.93


def world(size: int, seed: int) -> tuple[Doubles, Flags, list[bytes]]:
    """(scores, which are fraud, ids) of payments below the amount limit: 1 % frauds, scored well but not perfectly."""
    random = np.random.default_rng(seed)
    fraud = random.random(size) < 0.01
    score = 1 / (1 + np.exp(-(random.normal(-3.0, 1.6, size) + 4.5 * fraud)))
    return score, fraud, [b"t%d" % n for n in range(size)]


def estimates(fraud: Flags, declined: Flags, seen: Seen) -> dict[str, Estimate]:
    """What is said of all payments from those that were seen."""
    everybody = np.ones(len(fraud), np.bool_)
    return {
        "fraud_among_declined": seen.share(fraud, declined),
        "fraud_stopped": seen.share(declined, fraud),
        "fraud_rate": seen.share(fraud, everybody),
        "frauds": seen.total(fraud),
    }


def ran(score: Doubles, fraud: Flags, ids: Sequence[bytes], seed: int, runs: int) -> dict[str, Any]:
    """Coverage of every estimate over so many runs, each with a key of its own, and where the naive figures lie."""
    declined = score >= DECLINED_FROM
    asked = [ids[at] for at in np.flatnonzero(declined).tolist()]
    truth = {name: one.value for name, one in estimates(fraud, declined, Seen(np.ones(len(ids)), 1.0)).items()}
    held, naive = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0)
    for run in range(runs):
        seen = ~declined
        seen[declined] = let_through(Mac(f"{seed}|{run}".encode()), asked, np.full(len(asked), SHARE))
        weighted = estimates(fraud[seen], declined[seen], Seen(np.where(declined[seen], SHARE, 1.0), SHARE))
        plain = estimates(fraud[seen], declined[seen], Seen(np.ones(int(seen.sum())), 1.0))
        for name, value in truth.items():
            held[name] += weighted[name].low <= value <= weighted[name].high
            naive[name] += weighted[name].low <= plain[name].value <= weighted[name].high
    return {
        "coverage": {name: count / runs for name, count in held.items()},
        "naive_within_the_interval": {name: count / runs for name, count in naive.items()},
        "truth": truth,
        "last_naive": {name: one.value for name, one in plain.items()},
        "last_let_through": int((seen & declined).sum()),
        "declined": int(declined.sum()),
    }


def main() -> int:
    """Print coverage by estimate; 1 where one is below what is asked for."""
    options = parser("exploration", __doc__, 60_000, "payments")
    options.set_defaults(runs=200)
    arguments = options.parse_args()
    figures = ran(*world(arguments.size, arguments.seed), arguments.seed, arguments.runs)
    known = {name: figures.pop(name) for name in ("truth", "last_naive")}
    finish("exploration", arguments.runs, figures, {"least_coverage": LEAST_COVERAGE, **known})
    return int(min(figures["coverage"].values()) < LEAST_COVERAGE)


if __name__ == "__main__":
    sys.exit(main())
