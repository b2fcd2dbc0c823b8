"""What every payment was answered in the end: taken over once, and again where the API's answer arrives later."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pyspark.sql import SparkSession

from gold.job import Gold
from lakehouse import delta, storage
from lakehouse.contracts import gold, silver
from lakehouse.jobs import Interval
from lakehouse.settings import Settings
from lakehouse.spans import Span
from lakehouse.tables import Table
from tests.conftest import NewContext
from tests.filled import row

Put = Callable[[Table, Sequence[dict[str, Any]], int], None]
Outcomes = dict[int, tuple[str | None, str]]


@pytest.fixture
def put(spark: SparkSession, settings: Settings) -> Put:
    """Adds rows to a table of silver, which then ends at an offset of its own topic."""
    root = str(settings.lake.root)
    storage.ensure(root, silver.ANSWERS)

    def added(table: Table, rows: Sequence[dict[str, Any]], end: int) -> None:
        storage.ensure(root, table)
        storage.append_once(spark.createDataFrame(list(rows), table.ddl), root, table, [Span("T", 0, 0, end)])

    return added


def decision(offset: int, name: str, outcome: str = "approve", *rejected_by: str) -> dict[str, Any]:
    """A decision about the record at an offset; its own offset on topic `decisions` is ten more."""
    place = {"decision_topic_id": "T", "decision_partition": 0, "decision_offset": offset + 10}
    return row(silver.DECISIONS, offset, transaction_id=name, outcome=outcome, rejected_by=list(rejected_by), **place)


def answer(offset: int, name: str, outcome: str) -> dict[str, Any]:
    return row(silver.ANSWERS, offset, transaction_id=name, outcome=outcome)


def derived(new_context: NewContext, settings: Settings, interval: Interval | None = None) -> Outcomes:
    """(answered, effective) by offset, after another pass."""
    context = new_context(settings, interval)
    for table in (gold.DECISIONS,):
        storage.ensure(context.root, table)
    Gold(context).decide()
    names = ["offset", "answered_outcome", "effective_outcome"]
    return {r["offset"]: (r["answered_outcome"], r["effective_outcome"]) for r in held(context.root, names)}


def held(root: str, names: Sequence[str]) -> list[dict[str, Any]]:
    return delta.rows(root, gold.DECISIONS, names).to_pylist()


def test_new_decisions_are_appended_and_no_old_row_is_written_again(
    put: Put, context: NewContext, settings: Settings
) -> None:
    root = str(settings.lake.root)
    put(silver.DECISIONS, [decision(3, "a"), decision(5, "b", "decline")], 16)
    assert derived(context, settings) == {3: (None, "approve"), 5: (None, "decline")}
    assert storage.written_ends(root, gold.DECISIONS) == {"T/0": 6}
    files = set(delta.opened(root, gold.DECISIONS).file_uris())
    put(silver.DECISIONS, [decision(3, "a"), decision(5, "b", "decline"), decision(8, "c", "review")], 19)
    assert derived(context, settings)[8] == (None, "review")
    assert files < set(delta.opened(root, gold.DECISIONS).file_uris())


def test_a_pass_that_finds_nothing_new_commits_nothing(put: Put, context: NewContext, settings: Settings) -> None:
    put(silver.DECISIONS, [decision(3, "a")], 14)
    put(silver.ANSWERS, [answer(4, "other", "decline")], 5)
    derived(context, settings)
    before = storage.version(str(settings.lake.root), gold.DECISIONS)
    assert derived(context, settings) == {3: (None, "approve")}
    assert storage.version(str(settings.lake.root), gold.DECISIONS) == before


def test_an_answer_that_arrives_after_its_decision_becomes_the_effective_outcome(
    put: Put, context: NewContext, settings: Settings
) -> None:
    conflict = decision(7, "a", "rejected", "conflict")
    put(silver.DECISIONS, [decision(3, "a"), decision(5, "b"), conflict], 18)
    assert derived(context, settings)[3] == (None, "approve")
    put(silver.ANSWERS, [answer(4, "a", "review"), answer(6, "a", "decline")], 7)
    # The first answer counts, and a repeat that was refused never takes it.
    assert derived(context, settings) == {3: ("review", "review"), 5: (None, "approve"), 7: (None, "rejected")}


def test_an_interval_is_made_again_and_the_rest_is_left_alone(
    put: Put, context: NewContext, settings: Settings
) -> None:
    root = str(settings.lake.root)
    put(silver.DECISIONS, [decision(3, "a"), decision(5, "b"), decision(8, "c")], 19)
    derived(context, settings)
    delta.opened(root, gold.DECISIONS).delete("offset = 5")
    assert derived(context, settings) == {3: (None, "approve"), 8: (None, "approve")}
    assert derived(context, settings, Interval(4, 7)) == dict.fromkeys((3, 5, 8), (None, "approve"))
    assert storage.written_ends(root, gold.DECISIONS) == {"T/0": 9}
