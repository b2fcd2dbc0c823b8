"""silver and features -> gold: named features, scores, decisions, the training set and daily figures."""

import sys

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from gold.daily import fraud_daily
from gold.decided import decisions
from gold.named import NAMED, named
from gold.registry import champion_digest
from gold.scores import scores
from gold.training_set import training_set
from lakehouse import jobs, storage
from lakehouse.contracts import gold, silver
from lakehouse.intervals import Flow, drive
from lakehouse.jobs import Context
from lakehouse.log import logger
from lakehouse.settings import resolve
from lakehouse.storage import Span
from lakehouse.tables import Table


class Gold:
    """The steps of gold over one lake."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._log = logger("gold")

    def _read(self, table: Table) -> DataFrame:
        return storage.read(self._context.spark, self._context.root, table)

    def _span(self, table: Table, span: Span) -> DataFrame:
        return self._read(table).where(
            (F.col("topic_id") == span.topic_id)
            & (F.col("partition") == span.partition)
            & (F.col("offset") >= span.start)
            & (F.col("offset") < span.end)
        )

    def _put(self, rows: DataFrame, table: Table, span: Span) -> None:
        if self._context.interval:
            storage.overwrite_interval(rows, self._context.root, table, span)
        else:
            storage.append_once(rows, self._context.root, table, [span])

    def name(self, span: Span) -> None:
        """A column for every feature of a span of vectors."""
        self._put(named(self._span(gold.VECTORS, span)), NAMED, span)

    def score(self, span: Span) -> None:
        """Score a span of vectors by the champion."""
        settings = self._context.settings
        digest = champion_digest(settings)
        if digest is None:
            return
        found = scores(
            self._span(gold.VECTORS, span), resolve(settings.models.store), digest, resolve(settings.keys.folder)
        )
        self._put(found, gold.SCORES, span)

    def derive(self) -> None:
        """Everything that follows from whole tables: decisions, training set, daily figures."""
        root = self._context.root
        payments, labels = self._read(silver.PAYMENTS), self._read(silver.LABELS)
        latest = payments.agg(F.max(F.unix_millis("engine_clock"))).collect()[0][0]
        if latest is None:
            return
        storage.merge_by_key(decisions(self._read(silver.DECISIONS), self._read(silver.ANSWERS)), root, gold.DECISIONS)
        gap = self._context.settings.training.label_gap_d
        storage.overwrite(
            training_set(self._read(gold.VECTORS), payments, labels, latest, gap), root, gold.TRAINING_SET
        )
        daily = fraud_daily(payments, self._read(silver.AUTHORISATIONS), labels, latest)
        storage.overwrite(daily, root, gold.FRAUD_DAILY)
        self._log.info("gold derived", as_of_ms=latest)


def run(context: Context) -> None:
    """Bring gold up to what silver and the vectors hold."""
    tables = (NAMED, gold.SCORES, gold.DECISIONS, gold.TRAINING_SET, gold.FRAUD_DAILY)
    for table in tables:
        storage.ensure(context.root, table)
    steps = Gold(context)
    at_most = context.settings.silver.batch_records
    flows = [Flow(gold.VECTORS, NAMED, at_most, steps.name)]
    if champion_digest(context.settings) is None:
        logger("gold").info("no champion in the registry yet: gold.scores waits for one")
    else:
        flows.append(Flow(gold.VECTORS, gold.SCORES, at_most, steps.score))
    drive(context, flows, context.settings.gold.trigger_s, steps.derive)


if __name__ == "__main__":
    sys.exit(jobs.main("gold", run, __doc__, sys.argv[1:]))
