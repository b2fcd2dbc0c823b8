"""silver and features -> gold: named features, scores, decisions, the training set, daily figures, label maturity."""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from decisions.champion import champion, needed
from expectations.gate import refuse_held
from expectations.trend import scored
from gold.daily import fraud_daily
from gold.decided import caught_up, decided_ends, decisions, words
from gold.maturity import label_maturity
from gold.named import NAMED, named
from gold.scores import scores
from gold.training_set import Recipe, due, write
from lakehouse import delta, jobs, storage
from lakehouse.contracts import gold, silver
from lakehouse.files import arrow_schema
from lakehouse.intervals import Flow, drive, spans_between
from lakehouse.jobs import Context
from lakehouse.label_ledger import Trust
from lakehouse.log import logger
from lakehouse.made import as_frame
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
        return storage.read_span(self._context.spark, self._context.root, table, span)

    def _refuse_held(self, spans: Sequence[Span]) -> None:
        refuse_held(self._context.root, spans, self._context.settings.quality)

    def _put(self, rows: DataFrame, table: Table, span: Span) -> None:
        if self._context.interval:
            storage.overwrite_interval(rows, self._context.root, table, span)
        else:
            storage.append_once(rows, self._context.root, table, [span])

    def name(self, span: Span) -> None:
        """A column for every feature of a span of vectors."""
        self._refuse_held([span])
        self._put(named(self._span(gold.VECTORS, span)), NAMED, span)

    def score(self, span: Span) -> None:
        """Score a span of vectors by the champion."""
        self._refuse_held([span])
        settings = self._context.settings
        digest, keys_folder = needed(self._context.root), resolve(settings.keys.folder)
        found = scores(self._span(gold.VECTORS, span), resolve(settings.models.store), digest, keys_folder)
        self._put(found, gold.SCORES, span)

    def scorable(self) -> bool:
        """Whether there is a champion yet; scores wait for one."""
        found = champion(self._context.root)
        if found is None:
            self._log.info("no model in force in silver.control yet: gold.scores waits for one")
        return found is not None

    def derive(self) -> None:
        """Everything that does not follow the vectors: decisions, training set, daily figures, label maturity."""
        payments = self._read(silver.PAYMENTS)
        latest = payments.agg(F.max(F.unix_millis("engine_clock"))).collect()[0][0]
        if latest is None:
            return
        self._refuse_held(scored(self._context.root))
        follow = (self._assemble, self._count, self._mature)
        steps: tuple[Callable[[], None], ...] = (self.decide, *(partial(step, latest) for step in follow))
        with ThreadPoolExecutor(len(steps)) as pool:
            for running in [pool.submit(step) for step in steps]:
                running.result()
        self._log.info("gold derived", as_of_ms=latest)

    def decide(self) -> None:
        """Take over what silver has decided since; answers and ends that came later are set into older rows first."""
        root, interval = self._context.root, self._context.interval
        said = words(self._read(silver.ANSWERS), self._read(silver.OUTCOMES))
        done, ends = storage.written_ends(root, gold.DECISIONS), decided_ends(root)
        if interval:
            start = dict.fromkeys(done, interval.start)
            spans = spans_between(start, {key: min(end, interval.end) for key, end in done.items()}, interval.end)
        else:
            self._catch_up(said)
            spans = spans_between(done, ends, max(ends.values(), default=0))
        for span in spans:
            decided = storage.read_span(self._context.spark, root, silver.DECISIONS, span, delta.PLACE)
            self._put(decisions(decided, said), gold.DECISIONS, span)

    def _catch_up(self, said: DataFrame) -> None:
        if any(storage.written_ends(self._context.root, table) for table in (silver.ANSWERS, silver.OUTCOMES)):
            late = caught_up(self._read(gold.DECISIONS), self._read(silver.DECISIONS), said)
            if not late.isEmpty():
                storage.merge_by_key(late, self._context.root, gold.DECISIONS)

    def _assemble(self, as_of_ms: int) -> None:
        settings, root = self._context.settings, self._context.root
        held = delta.rows(root, gold.TRAINING_SET, ["as_of", "feature_set"], at_most=1).to_pylist()
        if not self._context.interval and not due(held, as_of_ms, settings.gold.training_set_interval_h):
            return
        write(self._context.spark, root, Recipe.now(root, as_of_ms, settings))

    def _count(self, as_of_ms: int) -> None:
        payments, results, labels = (self._read(t) for t in (silver.PAYMENTS, silver.AUTHORISATIONS, silver.LABELS))
        trust = Trust.of(self._context.settings.labels)
        daily = fraud_daily(payments, results, labels, as_of_ms, trust)
        storage.overwrite(daily, self._context.root, gold.FRAUD_DAILY)

    def _mature(self, as_of_ms: int) -> None:
        found = label_maturity(self._context.root, as_of_ms, self._context.settings.labels)
        rows = pa.Table.from_pylist(found, arrow_schema(gold.LABEL_MATURITY))
        storage.overwrite(as_frame(rows), self._context.root, gold.LABEL_MATURITY)


def run(context: Context) -> None:
    """Bring gold up to what silver and the vectors hold."""
    tables = (NAMED, gold.SCORES, gold.DECISIONS, gold.TRAINING_SET, gold.FRAUD_DAILY, gold.LABEL_MATURITY)
    for table in tables:
        storage.ensure(context.root, table)
    steps = Gold(context)
    at_most = context.settings.silver.batch_records
    flows = (
        Flow(gold.VECTORS, NAMED, at_most, steps.name),
        Flow(gold.VECTORS, gold.SCORES, at_most, steps.score, ready=steps.scorable),
    )
    drive(context, flows, context.settings.gold.trigger_s, steps.derive)


if __name__ == "__main__":
    sys.exit(jobs.main("gold", run, __doc__, sys.argv[1:]))
