"""Witnesses of a fact: who is believed, and what is said of the others."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from audit.witnesses import Witness, agreed, placed

OFFSETS = (3, 4, 5, 6)


def told(table, **digests):
    """A witness by offset: `told("a", o3=7)` tells 7 of offset 3."""
    rows = sorted((int(name[1:]), value) for name, value in digests.items())
    offset, digest = zip(*rows, strict=True)
    return Witness(table, np.array(offset, np.int64), np.array(digest, np.uint64))


def said(wrong):
    """What was found, in short."""
    return [
        (one.what, one.table, one.offset.tolist(), None if one.to is None else one.to.tolist(), one.undecided)
        for one in wrong
    ]


def test_two_against_one_are_believed():
    one, two, three = told("a", o3=7, o4=8), told("b", o3=7, o4=8), told("c", o3=7, o4=9)
    for witnesses in ([one, two, three], [three, one, two], [one, three, two]):
        assert said(agreed("x", witnesses)) == [("altered", "c", [4], None, False)]


def test_of_two_who_differ_the_later_one_is_named_and_in_doubt():
    assert said(agreed("x", [told("a", o3=7), told("b", o3=8)])) == [("altered", "b", [3], None, True)]


def test_who_tells_nothing_of_a_position_is_not_asked():
    assert agreed("x", [told("a", o3=7), told("b", o4=8), told("c", o3=7, o4=8)]) == []


def test_what_lies_exchanged_was_moved():
    good = told("a", o3=7, o4=8, o5=9)
    assert said(agreed("x", [good, told("b", o3=8, o4=7, o5=9), good])) == [("moved", "b", [3, 4], [4, 3], False)]


def test_a_row_that_lies_elsewhere_was_moved_and_not_lost():
    expected = told("a", o3=7, o4=8, o5=9)
    assert said(placed(expected, told("b", o3=7, o5=9, o8=8), 6)) == [("moved", "b", [4], [8], False)]
    assert said(placed(expected, told("b", o3=7, o5=9), 6)) == [("lost", "b", [4], None, False)]
    assert said(placed(expected, told("b", o3=7, o4=8, o5=9, o8=1), 6)) == [("unknown", "b", [8], None, False)]
    assert placed(expected, told("b", o3=7), 4) == []


def test_of_two_rows_at_one_position_the_right_one_belongs_there():
    expected = told("a", o3=7, o4=8)
    twice = Witness("b", np.array([3, 3], np.int64), np.array([8, 7], np.uint64))
    assert said(placed(expected, twice, 5)) == [("moved", "b", [4], [3], False)]
    again = Witness("b", np.array([3, 3, 4], np.int64), np.array([7, 7, 8], np.uint64))
    assert said(placed(expected, again, 5)) == [("doubled", "b", [3], None, False)]


ROWS = st.dictionaries(st.integers(0, 30), st.integers(0, 2**64 - 1), min_size=1, max_size=20)


@given(ROWS, st.data())
def test_one_altered_row_among_three_witnesses_is_always_found(rows, data):
    good = told("a", **{f"o{offset}": digest for offset, digest in rows.items()})
    at = data.draw(st.sampled_from(sorted(rows)))
    by = data.draw(st.integers(1, 2**64 - 1))
    bad = told("b", **{f"o{o}": (d + by) % 2**64 if o == at else d for o, d in rows.items()})
    assert said(agreed("x", [good, bad, good])) == [("altered", "b", [at], None, False)]


@given(ROWS, st.lists(st.integers(0, 30)))
def test_what_is_lacking_is_lost_and_nothing_else_is_wrong(rows, dropped):
    expected = told("a", **{f"o{offset}": digest for offset, digest in rows.items()})
    kept = expected.at(~np.isin(expected.offset, dropped))
    lost = sorted(set(rows) & set(dropped))
    found = Witness("b", kept.offset, kept.digest)
    assert said(placed(expected, found, 31)) == ([("lost", "b", lost, None, False)] if lost else [])
