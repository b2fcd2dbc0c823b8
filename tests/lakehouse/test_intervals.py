from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import delta, intervals, storage
from lakehouse.contracts import gold, silver
from lakehouse.intervals import Flow, joined, spans_between
from lakehouse.storage import Span
from tests.filled import row


def test_the_next_range_of_every_partition_that_is_behind() -> None:
    done = {"T/0": 100, "T/1": 50, "T/2": 7}
    ready = {"T/2": 7, "T/0": 1_000, "T/1": 60, "T/3": 5}
    assert spans_between(done, ready, 200) == [Span("T", 0, 100, 300), Span("T", 1, 50, 60), Span("T", 3, 0, 5)]


def test_a_target_that_is_ahead_of_its_source_has_nothing_to_do() -> None:
    assert spans_between({"T/0": 10}, {"T/0": 5}, 100) == []
    assert spans_between({"T/0": 10}, {}, 100) == []


def test_a_topic_id_may_hold_slashes() -> None:
    assert spans_between({}, {"a/b/0": 3}, 100) == [Span("a/b", 0, 0, 3)]


@given(end=st.integers(0, 500), at_most=st.integers(1, 100))
def test_ranges_taken_one_after_the_other_cover_everything_once(end: int, at_most: int) -> None:
    done: dict[str, int] = {}
    taken: list[int] = []
    while spans := spans_between(done, {"T/0": end}, at_most):
        for span in spans:
            taken += range(span.start, span.end)
            assert span.end - span.start <= at_most
            done[span.key] = span.end
    assert taken == list(range(end))


def test_ranges_that_follow_each_other_are_joined() -> None:
    spans = [
        Span("T", 0, 10, 20),
        Span("T", 1, 20, 30),
        Span("T", 0, 0, 10),
        Span("T", 0, 25, 30),
        Span("U", 0, 20, 25),
    ]
    assert joined(spans) == [Span("T", 0, 0, 20), Span("T", 0, 25, 30), Span("T", 1, 20, 30), Span("U", 0, 20, 25)]
    assert joined([]) == []


def test_a_flow_that_is_not_ready_waits_and_then_takes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {silver.BALANCE.name: {"T/0": 9}, gold.SCORES.name: {"T/0": 4}}
    monkeypatch.setattr(intervals, "written_ends", lambda _, table: ends[table.name])
    ready, taken = [False], []
    flow = Flow(silver.BALANCE, gold.SCORES, 100, taken.append, ready=lambda: ready[0])
    assert not intervals._advanced("", flow)
    ready[0] = True
    assert intervals._advanced("", flow)
    assert taken == [Span("T", 0, 4, 9)]


def test_what_a_target_lacks_altogether_begins_where_its_source_begins(tmp_path: Path) -> None:
    root = str(tmp_path)
    delta.append(root, silver.BALANCE, [row(silver.BALANCE, offset) for offset in range(14, 20)])
    delta.ensure(root, gold.SCORES)
    taken: list[Span] = []
    flow = Flow(silver.BALANCE, gold.SCORES, 4, taken.append, from_first=True)
    assert intervals._advanced(root, flow)
    assert taken == [Span("T", 0, 14, 18)]
    delta.append(root, gold.SCORES, [row(gold.SCORES, 3)])
    assert intervals._advanced(root, flow)
    assert taken[1:] == [Span("T", 0, 4, 8)]


def test_of_a_source_whose_retention_took_everything_nothing_is_taken(tmp_path: Path) -> None:
    root = str(tmp_path)
    delta.append(root, silver.BALANCE, [row(silver.BALANCE, offset) for offset in range(14, 20)])
    storage.note_ends(root, silver.BALANCE, {"T/0": 20})
    delta.opened(root, silver.BALANCE).delete()
    storage.note_ends(root, silver.BALANCE, {"T/0": 20})
    delta.ensure(root, gold.SCORES)
    taken: list[Span] = []
    assert not intervals._advanced(root, Flow(silver.BALANCE, gold.SCORES, 4, taken.append, from_first=True))
    assert taken == []
