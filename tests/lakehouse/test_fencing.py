"""Which decisions count, for readers that see record by record and for readers that see whole ranges."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.fencing import Fence, in_office


def test_a_stopped_engine_that_wakes_after_a_takeover_changes_nothing() -> None:
    fence = Fence()
    fence.start(0)
    assert [fence.counts(0, 10), fence.counts(0, 11)] == [True, True]
    fence.start(3)
    assert [fence.counts(0, 12), fence.counts(3, 12), fence.counts(0, 13), fence.counts(3, 13)] == [
        *(False, True, False, True)
    ]


def test_a_new_engine_does_not_decide_again() -> None:
    fence = Fence()
    fence.start(0)
    assert fence.counts(0, 10)
    fence.start(2)
    assert [fence.counts(2, 10), fence.counts(2, 11)] == [False, True]


def test_no_decision_counts_before_the_first_start() -> None:
    assert not Fence().counts(0, 10)
    assert in_office(np.array([0, 1]), np.array([0, 0]), np.zeros(0, np.int64)).tolist() == [False, False]
    assert in_office(np.array([3]), np.array([5]), np.array([5])).tolist() == [False]


def test_an_epoch_that_nobody_started_never_counts() -> None:
    fence = Fence()
    fence.start(4)
    assert not fence.counts(5, 10)
    assert in_office(np.array([6, 7]), np.array([5, 4]), np.array([4])).tolist() == [False, True]


@st.composite
def topics(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """A topic as (what, epoch, source offset) by offset: engines take over, repeat a little, and fenced ones go on."""
    payments = sorted(draw(st.sets(st.integers(0, 40), min_size=1, max_size=20)))
    records: list[tuple[str, int, int]] = []
    engines: dict[int, int] = {}
    decided = 0
    for _ in range(draw(st.integers(0, 30))):
        if not engines or draw(st.integers(0, 4)) == 0:
            epoch = len(records)
            records.append(("start", epoch, -1))
            engines[epoch] = draw(st.integers(0, decided))
            continue
        epoch = draw(st.sampled_from(sorted(engines)))
        at = engines[epoch]
        if at == len(payments):
            continue
        records.append(("decision", epoch, payments[at]))
        engines[epoch] = at + 1
        if epoch == max(engines):
            decided = max(decided, at + 1)
    return records


@given(topics())
def test_both_filters_let_the_same_decisions_count(records: list[tuple[str, int, int]]) -> None:
    fence = Fence()
    one_by_one = []
    for offset, (what, epoch, source) in enumerate(records):
        if what == "start":
            fence.start(offset)
        elif fence.counts(epoch, source):
            one_by_one.append(offset)

    starts = np.array([offset for offset, (what, _, _) in enumerate(records) if what == "start"], np.int64)
    offsets = np.array([offset for offset, (what, _, _) in enumerate(records) if what == "decision"], np.int64)
    epochs = np.array([records[offset][1] for offset in offsets], np.int64)
    first: dict[int, int] = {}
    for offset in offsets[in_office(offsets, epochs, starts)].tolist():
        first.setdefault(records[offset][2], offset)
    assert sorted(first.values()) == one_by_one
