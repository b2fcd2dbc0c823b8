"""What every payment was answered in the end: taken over once, and again where an answer or an end arrives later."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pyspark.sql import SparkSession

from decisions.effective import effective
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
Outcomes = dict[int, tuple[str | None, str | None, str]]


@pytest.fixture
def put(spark: SparkSession, settings: Settings) -> Put:
    """Adds rows to a table of silver, which then ends at an offset of its own topic."""
    root = str(settings.lake.root)
    for table in (silver.ANSWERS, silver.OUTCOMES):
        storage.ensure(root, table)

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


def end(offset: int, name: str, result: str) -> dict[str, Any]:
    return row(silver.OUTCOMES, offset, transaction_id=name, result=result)


def derived(new_context: NewContext, settings: Settings, interval: Interval | None = None) -> Outcomes:
    """(answered, how the challenge ended, effective) by offset, after another pass."""
    context = new_context(settings, interval)
    for table in (gold.DECISIONS,):
        storage.ensure(context.root, table)
    Gold(context).decide()
    told = ["answered_outcome", "challenge_result", "effective_outcome"]
    rows = held(context.root, ["offset", "decided_outcome", *told])
    for one in rows:
        assert one["effective_outcome"] == effective(one["decided_outcome"], *(one[name] for name in told[:2]))
    assert len({one["offset"] for one in rows}) == len(rows)
    return {one["offset"]: tuple(one[name] for name in told) for one in rows}


def held(root: str, names: Sequence[str]) -> list[dict[str, Any]]:
    return delta.rows(root, gold.DECISIONS, names).to_pylist()


def test_new_decisions_are_appended_and_no_old_row_is_written_again(
    put: Put, context: NewContext, settings: Settings
) -> None:
    root = str(settings.lake.root)
    put(silver.DECISIONS, [decision(3, "a"), decision(5, "b", "decline")], 16)
    assert derived(context, settings) == {3: (None, None, "approve"), 5: (None, None, "decline")}
    assert storage.written_ends(root, gold.DECISIONS) == {"T/0": 6}
    files = set(delta.opened(root, gold.DECISIONS).file_uris())
    put(silver.DECISIONS, [decision(3, "a"), decision(5, "b", "decline"), decision(8, "c", "review")], 19)
    assert derived(context, settings)[8] == (None, None, "review")
    assert files < set(delta.opened(root, gold.DECISIONS).file_uris())


def test_a_pass_that_finds_nothing_new_commits_nothing(put: Put, context: NewContext, settings: Settings) -> None:
    put(silver.DECISIONS, [decision(3, "a")], 14)
    put(silver.ANSWERS, [answer(4, "other", "decline")], 5)
    put(silver.OUTCOMES, [end(5, "other", "declined")], 6)
    derived(context, settings)
    before = storage.version(str(settings.lake.root), gold.DECISIONS)
    assert derived(context, settings) == {3: (None, None, "approve")}
    assert storage.version(str(settings.lake.root), gold.DECISIONS) == before


def test_answers_and_ends_count_whether_they_arrive_before_the_decision_is_taken_over_or_after(
    put: Put, context: NewContext, settings: Settings
) -> None:
    root = str(settings.lake.root)
    asked = [decision(offset, name, "challenge") for offset, name in zip(range(3, 9), "abcdef", strict=True)]
    # The engine approved `g`, too late: the API had challenged it.
    put(silver.DECISIONS, [*asked, decision(9, "a", "rejected", "conflict"), decision(10, "g")], 21)
    put(silver.ANSWERS, [answer(11, "d", "review"), answer(12, "e", "review"), answer(13, "g", "challenge")], 14)
    put(silver.OUTCOMES, [end(14, "a", "approved"), end(15, "e", "declined")], 16)
    open_, refused = (None, None, "challenge"), (None, None, "rejected")
    approved, disowned = (None, "approved", "approve"), ("review", "declined", "decline")
    assert derived(context, settings) == {
        3: approved,
        4: open_,
        5: open_,
        6: ("review", None, "review"),
        7: disowned,
        8: open_,
        9: refused,
        10: ("challenge", None, "challenge"),
    }
    # The first word of each kind counts; a repeat that was refused never takes one; nobody knows `x`.
    later = [end(16, "a", "declined"), end(17, "b", "approved"), end(18, "c", "expired"), end(19, "d", "approved")]
    later += [end(20, "b", "declined"), end(21, "x", "approved"), end(22, "g", "expired")]
    # Who was told of an approval is not told otherwise because a customer kept silent.
    put(silver.OUTCOMES, [*later, end(23, "f", "expired")], 24)
    put(silver.ANSWERS, [answer(24, "f", "approve"), answer(25, "f", "decline"), answer(26, "c", "review")], 27)
    final = {
        3: approved,
        4: approved,
        5: ("review", "expired", "decline"),
        6: ("review", "approved", "approve"),
        7: disowned,
        8: ("approve", "expired", "approve"),
        9: refused,
        10: ("challenge", "expired", "decline"),
    }
    assert derived(context, settings) == final
    before = storage.version(root, gold.DECISIONS)
    assert derived(context, settings, Interval(4, 7)) == final
    assert storage.version(root, gold.DECISIONS) == before + 1
    assert derived(context, settings) == final
    assert storage.version(root, gold.DECISIONS) == before + 1


def test_an_interval_is_made_again_and_the_rest_is_left_alone(
    put: Put, context: NewContext, settings: Settings
) -> None:
    root = str(settings.lake.root)
    put(silver.DECISIONS, [decision(3, "a"), decision(5, "b"), decision(8, "c")], 19)
    derived(context, settings)
    delta.opened(root, gold.DECISIONS).delete("offset = 5")
    assert derived(context, settings) == {3: (None, None, "approve"), 8: (None, None, "approve")}
    assert derived(context, settings, Interval(4, 7)) == dict.fromkeys((3, 5, 8), (None, None, "approve"))
    assert storage.written_ends(root, gold.DECISIONS) == {"T/0": 9}
