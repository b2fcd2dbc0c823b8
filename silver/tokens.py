"""The migration of a token key: silver.token_map says what every token is called under the next version.

    python -m silver.tokens prepare --to 2

Goes through silver from where it stopped to its end, or to the change of the key where that is on the log already;
given again it takes what came since, and nothing once that is reached. lakehouse/RUNBOOK.md has the whole order.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from expectations.switching import map_key, switches
from lakehouse import jobs, keys, storage, trail
from lakehouse import settings as conf
from lakehouse.contracts import silver
from lakehouse.crypto import Tokens
from lakehouse.errors import Terminal
from lakehouse.intervals import spans_between
from lakehouse.jobs import Context
from lakehouse.log import configure
from lakehouse.runs import recorded
from lakehouse.scanned import scanned
from lakehouse.storage import Span
from silver.erasure_report import PERSONAL
from silver.token_pairs import PAIRS_DDL, carrying, columns_of, pairing


class MapRefused(Terminal):
    """A map to a version that is not the next one."""


class Preparation:
    """Makes the map to one version."""

    def __init__(self, context: Context, version: int) -> None:
        self._context, self._version = context, version
        self._keys = keys.source(context.settings)
        ring = self._keys.keyring()
        Tokens(ring, version)
        self._first = ring.token_version
        storage.ensure(context.root, silver.TOKEN_MAP)

    def spans(self, again: bool) -> list[Span]:
        """What is to be gone through, in steps; MapRefused where this is not the next version of a partition."""
        root, at_most = self._context.root, self._context.settings.features.batch_records
        ends = storage.written_ends(root, silver.TOKEN_MAP)
        out = []
        for key, end in sorted(storage.written_ends(root, silver.BALANCE).items()):
            topic_id, partition = key.rsplit("/", 1)
            until = self._until(topic_id, int(partition), end)
            done = 0 if again else ends.get(map_key(topic_id, int(partition), self._version), 0)
            while spans := spans_between({key: done}, {key: until}, at_most):
                out += spans
                done = spans[0].end
        return out

    def _until(self, topic_id: str, partition: int, end: int) -> int:
        """Where the tokens of the version before end."""
        found = switches(self._context.root, topic_id, partition)
        for switch in found:
            if switch.version == self._version:
                return switch.offset + 1
        now = found[-1].version if found else self._first
        if self._version != now + 1:
            raise MapRefused(
                f"Tokens are of version {now}; a map to version {self._version} is not the next one.",
                f"python -m silver.tokens prepare --to {now + 1}",
            )
        return end

    def take(self, span: Span) -> int:
        """Put the pairs of a range into the map; how many are new or known better."""
        context, version = self._context, self._version
        frames = [
            scanned(context.spark, context.root, table, span, columns_of(table)).mapped(
                pairing(self._keys, table.name, version), PAIRS_DDL
            )
            for table in PERSONAL
        ]
        count = self._put(reduce(DataFrame.unionAll, frames))
        storage.note_ends(context.root, silver.TOKEN_MAP, {map_key(span.topic_id, span.partition, version): span.end})
        return count

    def carry(self) -> int:
        """Put the names into the map that the one to the version before gave and no row of silver has; how many."""
        known = self._held(self._version - 1).select("kind", "new_token")
        return self._put(known.mapInArrow(carrying(self._keys, self._version), PAIRS_DDL))

    def _held(self, version: int) -> DataFrame:
        return storage.read(self._context.spark, self._context.root, silver.TOKEN_MAP).where(
            F.col("to_version") == version
        )

    def _put(self, pairs: DataFrame) -> int:
        """Take pairs over: a value that was opened counts before one that is carried, what is known stays."""
        best = pairs.groupBy("kind", "old_token").agg(F.min(F.struct("carried", "new_token")).alias("best"))
        found = best.select("kind", "old_token", "best.new_token", "best.carried")
        held = self._held(self._version).select("kind", "old_token", F.col("carried").alias("held"))
        new = (
            found.join(held, ["kind", "old_token"], "left")
            .where(F.col("held").isNull() | (F.col("held") & ~F.col("carried")))
            .withColumn("from_version", F.lit(self._version - 1))
            .withColumn("to_version", F.lit(self._version))
            .select(*silver.TOKEN_MAP.column_names)
            .persist()
        )
        try:
            count = new.count()
            if count:
                storage.merge_by_key(new, self._context.root, silver.TOKEN_MAP)
        finally:
            new.unpersist()
        return count


def prepared(context: Context, version: int, again: bool = False) -> int:
    """Bring the map to a version up to silver's end, or to the change of the key; how many names are new or better.

    `again` goes through everything from the beginning; nothing that is known is forgotten.
    """
    with recorded(context.settings, "silver.tokens", "prepare", to_version=version):
        work = Preparation(context, version)
        spans, count = work.spans(again), 0
        for span in spans:
            found = work.take(span)
            count += found
            print(f"offsets {span.start:,} to {span.end:,} of {spans[-1].end:,}: {found:,} names", flush=True)
        count += work.carry()
        if spans or count:
            told: trail.Details = {"names": count, "to_position": spans[-1].end if spans else None}
            trail.record(context.settings, "tokens.prepared", f"version {version}", told)
    return count


def run(context: Context) -> None:
    """Every map that there was, from the beginning: what a repair of the table does."""
    root = context.root
    versions = {int(key.rpartition("/to-")[2]) for key in storage.written_ends(root, silver.TOKEN_MAP) if "/to-" in key}
    for key in storage.written_ends(root, silver.BALANCE):
        topic_id, partition = key.rsplit("/", 1)
        versions |= {switch.version for switch in switches(root, topic_id, int(partition))}
    for version in sorted(versions):
        prepared(context, version, again=True)


def main(argv: Sequence[str]) -> int:
    """Make or complete a map."""
    parser = argparse.ArgumentParser(
        prog="python -m silver.tokens", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    making = actions.add_parser("prepare", help="make the map, or take what came since")
    making.add_argument("--to", type=int, required=True, metavar="N", help="master key version of the new tokens")
    making.add_argument("--again", action="store_true", help="from the beginning, where the table was damaged")
    making.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    given = parser.parse_args(argv)

    def work() -> None:
        configure(conf.load(given.env), "tokens")
        whole = argparse.Namespace(env=given.env, available_now=True, from_position=None, to_position=None)
        count = prepared(jobs.context("tokens", whole), given.to, given.again)
        print(f"{count:,} names are new in silver.token_map to version {given.to}")

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
