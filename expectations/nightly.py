"""Every table of silver and gold validated by Great Expectations itself, with Data Docs; a scheduled run.

`python -m expectations.nightly` looks at the last day of each table, on the engine's clock or the event's time;
`--from-position A --to-position B` at an interval of the log. What was found becomes rows of quality.validations and a
folder of HTML below quality.docs_folder. The compiled predicates are counted beside it: both must find as many rows.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from expectations import great
from expectations.at_rest import suite_at_rest
from expectations.suites import predicates
from lakehouse import delta, jobs, storage
from lakehouse import settings as conf
from lakehouse.contracts import gold, quality, silver
from lakehouse.errors import ContractBroken
from lakehouse.files import arrow_schema
from lakehouse.jobs import Context
from lakehouse.log import configure, logger
from lakehouse.made import as_frame
from lakehouse.runs import recorded
from lakehouse.settings import resolve
from lakehouse.tables import Table

TABLES = (*silver.TABLES, *gold.TABLES)
DAY = "INTERVAL 1 DAY"
HOW = {"result_format": "BASIC", "partial_unexpected_count": 0}
"""Counts only: no value of a row goes into a result or a page."""
_SITE = "local"


@dataclass(frozen=True)
class Finding:
    """What one expectation of one table gave."""

    table: Table
    expectation: str
    column: str | None
    success: bool
    rows: int | None
    unexpected: int | None
    by_predicate: int | None
    error: str | None

    @property
    def trouble(self) -> str | None:
        """What is wrong, in words; None where nothing is."""
        if self.error is not None:
            return f"{self.table.name}: {self.expectation} cannot be evaluated: {self.error}"
        if not self.success:
            return f"{self.table.name}: {self.expectation} does not hold for {self.unexpected} rows"
        return None


def looked_at(context: Context, table: Table) -> DataFrame:
    """The rows that are validated: an interval of the log, else the last day, else all."""
    rows = storage.read(context.spark, context.root, table).select(*table.column_names)
    if context.interval is not None and "offset" in table.column_names:
        inside = (F.col("offset") >= context.interval.start) & (F.col("offset") < context.interval.end)
        return rows.where(inside & (F.col("partition") == 0))
    clock = "engine_clock" if "engine_clock" in table.column_names else table.event_time
    if clock is None:
        return rows
    latest = rows.agg(F.max(clock)).collect()[0][0]
    return rows if latest is None else rows.where(F.col(clock) > F.lit(latest) - F.expr(DAY))


def counted(rows: DataFrame, table: Table) -> Mapping[str, int]:
    """Rows that break each rule, by the compiled predicates."""
    if not table.rules:
        return {}
    sums = [
        F.coalesce(F.sum(F.expr(predicate).cast("bigint")), F.lit(0)).alias(name)
        for name, predicate in predicates(table.name).items()
    ]
    return dict(rows.agg(*sums).collect()[0].asDict())


def validated(made: Any, rows: DataFrame, table: Table, run: str) -> list[Finding]:
    """What Great Expectations finds in the rows, one finding an expectation."""
    from great_expectations.core import RunIdentifier, ValidationDefinition

    by_predicate = counted(rows, table)
    definition = made.validation_definitions.add(
        ValidationDefinition(
            name=table.name, data=great.batches(made, table.name), suite=great.suite_of(made, suite_at_rest(table))
        )
    )
    result = definition.run(batch_parameters={"dataframe": rows}, result_format=HOW, run_id=RunIdentifier(run))
    return [
        Finding(
            table,
            f"{one.expectation_config.meta['rule']}: {one.expectation_config.type}",
            one.expectation_config.kwargs.get("column"),
            bool(one.success),
            one.result.get("element_count"),
            one.result.get("unexpected_count"),
            by_predicate.get(one.expectation_config.meta["rule"]),
            great.failure(one),
        )
        for one in result.results
    ]


def disagreements(findings: Sequence[Finding]) -> list[str]:
    """Rules of which the compiled predicate and Great Expectations count other rows.

    A rule of two expectations is broken by the rows that break either: no fewer than one's, no more than both's.
    """
    rules: dict[tuple[str, str], list[Finding]] = {}
    for one in findings:
        if one.by_predicate is not None and one.unexpected is not None:
            rules.setdefault((one.table.name, one.expectation.split(":")[0]), []).append(one)
    out = []
    for (table, rule), parts in rules.items():
        counts = [one.unexpected or 0 for one in parts]
        mine = parts[0].by_predicate or 0
        if not max(counts) <= mine <= sum(counts):
            out.append(f"{table}: {rule} is broken by {mine} rows, by Great Expectations' count by {counts}")
    return out


def _rows(context: Context, findings: Sequence[Finding], run: str, now: datetime) -> list[dict[str, object]]:
    versions = {
        name: storage.version(context.root, table) for name, table in ((f.table.name, f.table) for f in findings)
    }
    return [
        {
            "run": run,
            "table_name": one.table.name,
            "expectation": one.expectation,
            "column": one.column,
            "delta_version": versions[one.table.name],
            "success": one.success,
            "rows": one.rows,
            "unexpected": one.unexpected,
            "by_predicate": one.by_predicate,
            "error": one.error,
            "validated_at": now,
        }
        for one in findings
    ]


def _with_docs(made: Any, folder: str) -> None:
    made.add_data_docs_site(
        site_name=_SITE,
        site_config={
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": folder},
        },
    )


def run(context: Context) -> str:
    """Validate every table that there is; where its Data Docs begin. ContractBroken when something does not hold."""
    now = datetime.now(UTC)
    name = now.strftime("%Y-%m-%dT%H-%M-%S.%fZ")
    log = logger("nightly")
    made = great.context()
    folder = resolve(context.settings.quality.docs_folder) / name
    _with_docs(made, str(folder))
    findings: list[Finding] = []
    for table in TABLES:
        if delta.exists(context.root, table):
            findings += validated(made, looked_at(context, table), table, name)
    if not findings:
        raise ContractBroken(
            f"There is no table of silver or gold at {context.root}: nothing was validated.",
            "Setting lake.root names the lake; silver.job and gold.job make its tables.",
        )
    made.build_data_docs(site_names=[_SITE])
    storage.ensure(context.root, quality.VALIDATIONS)
    rows = pa.Table.from_pylist(_rows(context, findings, name, now), arrow_schema(quality.VALIDATIONS))
    storage.merge_by_key(as_frame(rows), context.root, quality.VALIDATIONS)
    troubles = [one.trouble for one in findings if one.trouble is not None] + disagreements(findings)
    for trouble in troubles:
        log.warning("an expectation does not hold", code="QUALITY_EXPECTATION_FAILED", what=trouble)
    index = str(folder / "index.html")
    log.info("validated", tables=len({one.table.name for one in findings}), expectations=len(findings), docs=index)
    if troubles:
        raise ContractBroken(
            f"{len(troubles)} of {len(findings)} expectations do not hold or cannot be evaluated: {troubles[0]}.",
            f"quality.validations has all, run {name}; {index} shows them.",
        )
    return index


def main(argv: Sequence[str]) -> int:
    """Validate once and print where the Data Docs begin."""
    arguments = jobs.parser("python -m expectations.nightly", __doc__).parse_args(argv)

    def work() -> None:
        settings = conf.load(arguments.env)
        configure(settings, "nightly")
        with recorded(settings, "expectations.nightly"):
            print(run(jobs.context("nightly", arguments)))

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
