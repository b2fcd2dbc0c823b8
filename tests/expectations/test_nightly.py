"""Great Expectations itself over the tables of a lake: rows of what it found, and pages to read."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from expectations import nightly
from expectations.at_rest import suite_at_rest, unique_columns
from expectations.nightly import Finding, disagreements
from lakehouse import delta, storage
from lakehouse.contracts import gold, quality, silver
from lakehouse.contracts.register import TABLES
from lakehouse.errors import ContractBroken
from lakehouse.jobs import Interval
from lakehouse.settings import Settings
from lakehouse.spans import Span
from lakehouse.tables import Table
from tests import filled
from tests.conftest import NewContext
from tests.filled import DAY_1

SECRET = "Canary-Merchant-17"
GOOD: dict[str, Any] = {
    "seconds_behind_broker": 1.0,
    "seconds_late": 1.0,
    "card_well_formed": True,
    "dates_plausible": True,
    "currency": "EUR",
    "channel": "ecom",
    "confidence": 1.0,
    "source": "chargeback",
    "seconds_until_available": 0.0,
}


def row(table: Table, offset: int, **given: Any) -> dict[str, Any]:
    """A row that no rule refuses, but for what is given."""
    good = {name: value for name, value in GOOD.items() if name in table.column_names}
    return filled.row(table, offset, **{**good, **given})


@pytest.fixture
def root(spark: SparkSession, settings: Settings) -> str:
    """A lake with payments of two days, one of the first of which breaks rules, labels and scores."""
    root = str(settings.lake.root)
    payments = [
        row(silver.PAYMENTS, 0, channel="fax", amount_minor=-1, merchant_category_code="54 1"),
        row(silver.PAYMENTS, 1, transaction_id="", merchant_category_code="541", merchant_id=SECRET * 5),
        *(row(silver.PAYMENTS, offset, engine_clock=DAY_1 + timedelta(days=1)) for offset in range(2, 6)),
    ]
    for table, rows in (
        (silver.PAYMENTS, payments),
        (silver.LABELS, [row(silver.LABELS, 6)]),
        (gold.SCORES, [row(gold.SCORES, 5)]),
    ):
        storage.ensure(root, table)
        frame = spark.createDataFrame(rows, table.ddl.replace(" NOT NULL", ""))
        storage.append_once(frame, root, table, [Span("T", 0, 0, 10)])
    return root


def found(root: str) -> list[dict[str, Any]]:
    names = ["run", "table_name", "expectation", "success", "rows", "unexpected", "by_predicate", "error"]
    return delta.rows(root, quality.VALIDATIONS, names).to_pylist()


def test_the_last_day_is_validated_and_written_down_as_rows_and_pages(
    settings: Settings, root: str, context: NewContext
) -> None:
    index = Path(nightly.run(context(settings)))
    rows = found(root)
    assert {r["table_name"] for r in rows} == {"silver.payments", "silver.labels", "gold.scores"}
    assert [r for r in rows if not r["success"] or r["error"]] == []
    assert {r["rows"] for r in rows if r["table_name"] == "silver.payments" and r["rows"] is not None} == {4}
    assert index.parent.name == rows[0]["run"]
    pages = [path.read_text() for path in index.parent.rglob("*.html")]
    assert any("silver.payments" in page for page in pages)
    assert len(pages) > 3


def test_an_interval_is_validated_and_what_does_not_hold_is_counted_alike_and_never_shown(
    settings: Settings, root: str, context: NewContext, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ContractBroken, match=r"expectations do not hold or cannot be evaluated: silver\.payments: "):
        nightly.run(context(settings, Interval(0, 3)))
    failing = {r["expectation"]: (r["unexpected"], r["by_predicate"]) for r in found(root) if not r["success"]}
    assert failing == {
        "transaction_id_length: expect_column_value_lengths_to_be_between": (1, 1),
        "merchant_id_length: expect_column_value_lengths_to_be_between": (1, 1),
        "amount_plausible: expect_column_values_to_be_between": (1, 1),
        "channel_known: expect_column_values_to_be_in_set": (1, 1),
        "merchant_category_code_digits: expect_column_values_to_not_match_regex": (1, 2),
        "merchant_category_code_digits: expect_column_value_lengths_to_be_between": (1, 2),
    }
    assert "QUALITY_EXPECTATION_FAILED" in "".join(capsys.readouterr())
    for path in settings.quality.docs_folder.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def test_a_key_that_comes_twice_is_found(
    spark: SparkSession, settings: Settings, root: str, context: NewContext
) -> None:
    again = spark.createDataFrame([row(gold.SCORES, 5)], gold.SCORES.ddl)
    again.write.format("delta").mode("append").save(gold.SCORES.path(root))
    with pytest.raises(ContractBroken, match=r"gold\.scores: key_is_unique"):
        nightly.run(context(settings))


def test_a_root_without_tables_is_no_lake_that_holds_what_it_promises(context: NewContext, settings: Settings) -> None:
    with pytest.raises(ContractBroken, match="There is no table of silver or gold at"):
        nightly.run(context(settings))


def test_a_rule_that_both_count_differently_is_a_disagreement() -> None:
    def finding(rule: str, kind: str, unexpected: int, by_predicate: int) -> Finding:
        return Finding(silver.PAYMENTS, f"{rule}: {kind}", "x", unexpected == 0, 9, unexpected, by_predicate, None)

    agreed = [finding("one", "a", 3, 3), finding("two", "a", 3, 4), finding("two", "b", 2, 4)]
    assert disagreements(agreed) == []
    assert disagreements([finding("one", "a", 0, 1)]) == [
        "silver.payments: one is broken by 1 rows, by Great Expectations' count by [0]"
    ]
    assert disagreements([finding("two", "a", 3, 6), finding("two", "b", 2, 6)]) != []


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_every_table_has_a_suite_at_rest(table: Table) -> None:
    names = [(e["meta"]["rule"], e["type"]) for e in suite_at_rest(table)["expectations"]]
    assert len(set(names)) == len(names)
    assert names[-1][0] == "key_is_unique"
    assert set(unique_columns(table)) <= set(table.column_names)


def test_an_id_may_come_again_after_its_horizon_but_a_position_may_not() -> None:
    assert unique_columns(silver.PAYMENTS) == ("topic_id", "partition", "offset")
    assert unique_columns(silver.DECISIONS) == ("topic_id", "partition", "offset")
    assert unique_columns(gold.FRAUD_DAILY) == ("day",)
