"""Scores look back over whole batches, far enough to judge by and no farther."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expectations.windows import ALERT, GOOD, HELD, TOO_FEW, Tally, Window, state, window
from lakehouse import settings as conf
from lakehouse.settings import Quality

DAY_MS = 86_400_000


@pytest.fixture
def quality() -> Quality:
    return conf.load().quality


def tallies(*batches: tuple[int, int, int]) -> list[Tally]:
    """(rows, good, clock in hours) of batches that follow each other."""
    out, start = [], 0
    for rows, good, hour in batches:
        out.append(Tally(start, start + rows, rows, good, hour * 3_600_000, hour * 3_600_000))
        start += rows
    return out


def test_a_batch_of_a_thousand_rows_is_its_own_window(quality: Quality) -> None:
    found = window(tallies((5000, 0, 0), (1000, 990, 1)), quality)
    assert found == Window(5000, 6000, 1000, 990, True)
    assert found.score == 0.99


def test_small_batches_are_counted_together_until_they_are_a_thousand_rows(quality: Quality) -> None:
    found = window(tallies((600, 0, 0), (600, 600, 1), (400, 300, 2)), quality)
    assert found == Window(600, 1600, 1000, 900, True)


def test_fewer_rows_are_enough_when_they_reach_back_a_day(quality: Quality) -> None:
    assert window(tallies((10, 10, 0), (10, 4, 24)), quality) == Window(0, 20, 20, 14, True)
    assert window(tallies((10, 10, 0), (10, 4, 23)), quality) == Window(0, 20, 20, 14, False)


def test_a_batch_in_which_nothing_was_accepted_tells_no_time(quality: Quality) -> None:
    refused = Tally(10, 20, 10, 0, None, None)
    assert window([*tallies((10, 10, 0)), refused], quality).full is False
    assert window([*tallies((10, 10, 0), (10, 10, 24)), refused], quality).full is True


@pytest.mark.parametrize(
    ("good", "full", "means"),
    [
        (1000, True, GOOD),
        (950, True, GOOD),
        (949, True, ALERT),
        (800, True, ALERT),
        (799, True, HELD),
        (0, True, HELD),
        (0, False, TOO_FEW),
    ],
)
def test_below_095_is_an_alert_and_below_08_is_held(quality: Quality, good: int, full: bool, means: str) -> None:
    assert state(Window(0, 1000, 1000, good, full), quality) == means


@given(
    st.lists(st.tuples(st.integers(1, 700), st.floats(0, 1), st.integers(0, 20)), min_size=1, max_size=12),
    st.integers(0, 11),
)
def test_a_window_of_more_batches_never_begins_earlier(batches: list[tuple[int, float, int]], cut: int) -> None:
    quality = conf.load().quality
    hours = [sum(b[2] for b in batches[: i + 1]) for i in range(len(batches))]
    made = tallies(*((rows, int(rows * share), hour) for (rows, share, _), hour in zip(batches, hours, strict=True)))
    earlier = window(made[: cut % len(made) + 1], quality)
    found = window(made, quality)
    if earlier.full:
        assert found.start >= earlier.start
    assert found.rows == sum(t.rows for t in made if t.start >= found.start)
    assert found.good <= found.rows
