"""Keys of older tokens become those of newer ones by their place in the log; none is made up."""

import numpy as np
import pytest

from expectations.switching import Switch
from features.renaming import Names
from lakehouse.errors import RangeMissing

PAIRS = {
    "2/card/old": np.array([10, 20]),
    "2/card/new": np.array([11, 21]),
    "3/card/old": np.array([11, 21, 30]),
    "3/card/new": np.array([12, 22, 32]),
}
STEPS = (Switch(100, 2), Switch(200, 3))


def renamed(keys, offset, kind="card", steps=STEPS, blank=()):
    return Names(steps, PAIRS, np.array(blank, np.int64)).renamed(kind, np.array(keys), np.array(offset)).tolist()


def test_a_key_goes_through_every_map_from_its_place_on():
    assert renamed([10, 20, 11, 30, 12], [5, 100, 101, 200, 201]) == [12, 22, 12, 32, 12]


def test_nobody_stays_nobody_and_without_a_change_everybody_stays():
    assert renamed([0, 20], [5, 6]) == [0, 22]
    assert renamed([7, 8], [5, 6], steps=()) == [7, 8]


@pytest.mark.parametrize(("kind", "key"), [("card", 13), ("card", 99), ("device", 10)])
def test_a_key_without_a_new_name_is_refused_with_its_place(kind, key):
    with pytest.raises(RangeMissing, match=rf"lacks a token of kind {kind} at offset 7 to version 2. python -m silver"):
        renamed([0, key], [6, 7], kind)


def test_a_blank_customer_id_is_nobodys_under_every_key_version_and_needs_no_new_name():
    assert renamed([10, 7, 8, 0], [5, 101, 201, 202], "customer", blank=(10, 7)) == [0, 0, 8, 0]
    assert renamed([10, 12], [5, 201], "card", blank=(10, 12)) == [12, 12]
