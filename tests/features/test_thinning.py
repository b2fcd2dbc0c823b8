"""Snapshots of history grow fewer the further back they lie, and none is missed."""

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from features.thinning import superfluous


def test_the_newest_stay_and_of_older_ones_the_oldest_of_every_doubling():
    gone = superfluous(range(1, 21), 3)
    assert gone == [16, 15, 14, 12, 11, 10, 9, 8, 7, 6, 4, 3, 2]
    assert [one for one in range(1, 21) if one not in gone] == [1, 5, 13, 17, 18, 19, 20]
    assert superfluous([9, 3], 3) == superfluous([], 3) == []


def test_one_that_somebody_has_to_begin_with_stays():
    assert superfluous(range(1, 21), 3, never=(12, 2, 99)) == [16, 15, 14, 11, 10, 9, 8, 7, 6, 4, 3]


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=60), st.integers(1, 6))
def test_however_a_log_grows_few_stay_and_they_reach_back_to_the_first(steps, kept):
    held, end = [], 0
    for step in steps:
        end += step
        held.append(end)
        newest = held[-kept:]
        gone = superfluous(held, kept)
        held = [one for one in held if one not in gone]
        assert held[-kept:] == newest
        assert held[0] == steps[0]
        assert len(held) <= kept + end.bit_length()
        assert superfluous(held, kept) == []


def test_where_runs_are_alike_the_past_is_not_far_from_the_snapshot_before_it():
    held = []
    for end in range(1, 500):
        gone = superfluous([*held, end], 5)
        held = [one for one in [*held, end] if one not in gone]
        for position in range(1, end - 5):
            before = held[bisect_right(held, position) - 1]
            assert end - before <= 4 * (end - position)
