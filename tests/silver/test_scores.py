"""The real silver job scores every batch, and scores a repaired interval again."""

from typing import Any

from lakehouse import storage
from lakehouse.contracts import quality
from tests.silver.conftest import World, rows

FIRST, LATER = 28, 32
"""Last offsets of the two batches."""


def _scores(world: World, offset: int) -> dict[tuple[str, str], tuple[int, int]]:
    """(rows, good) by table and dimension of the batch that ends there."""
    found: list[dict[str, Any]] = [r for r in rows(world.context.root, quality.SCORES) if r["offset"] == offset]
    return {(r["table_name"], r["dimension"]): (r["rows"], r["good"]) for r in found}


def test_what_was_refused_and_repeated_counts_in_its_dimension(world: World) -> None:
    found = _scores(world, FIRST)
    assert {key[1]: value for key, value in found.items() if key[0] == "silver.payments"} == {
        "completeness": (13, 12),  # dollars, without a category
        "validity": (13, 7),  # negative amount, unknown currency, bad luhn, truncated, trailing byte, two rules
        "uniqueness": (14, 13),
        "timeliness": (13, 12),  # from the future
        "consistency": (13, 10),  # before the tables, conflict, currency without rate
    }
    assert found["bronze.events", "validity"] == (29, 24)
    assert found["silver.control", "consistency"] == (3, 2)
    assert found["silver.control", "validity"] == (3, 2)
    assert found["silver.labels", "validity"] == (2, 2)


def test_every_offset_is_scored_in_one_batch(world: World) -> None:
    found = [r for r in rows(world.context.root, quality.SCORES) if r["table_name"] == "bronze.events"]
    assert [(r["start_offset"], r["offset"]) for r in found] == [(0, FIRST), (FIRST + 1, LATER)]
    assert list(storage.written_ends(world.context.root, quality.SCORES).values()) == [LATER + 1]


def test_a_window_is_judged_when_it_reaches_back_a_day(world: World) -> None:
    states = {(r["offset"], r["state"]) for r in rows(world.context.root, quality.SCORES) if r["window_rows"] > 13}
    assert (FIRST, "too_few") in states
    (judged,) = [
        r
        for r in rows(world.context.root, quality.SCORES)
        if (r["offset"], r["table_name"], r["dimension"]) == (LATER, "silver.payments", "validity")
    ]
    # Its own batch reaches two days: nobody has to look farther back.
    assert (judged["window_start_offset"], judged["window_rows"], judged["state"]) == (FIRST + 1, 2, "good")
