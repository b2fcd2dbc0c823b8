"""Between which payments the decisions lie that were written off."""

from pathlib import Path

import pytest

from lakehouse import delta
from lakehouse.contracts import bronze, silver
from lakehouse.contracts.lake import WRITE_OFFS
from lakehouse.spans import Span
from lakehouse.write_offs import NO_END, ranges, undecided
from tests.filled import row

HELD = {2: 40, 3: 44, 9: 51, 10: 52}
"""Offsets of decisions on their topic, and of their payments."""


@pytest.mark.parametrize(
    ("lost", "between"), [((4, 9), (45, 51)), ((4, 6), (45, 51)), ((0, 2), (0, 40)), ((11, 15), (53, NO_END))]
)
def test_written_off_decisions_are_of_payments_between_those_around_them(
    tmp_path: Path, lost: tuple[int, int], between: tuple[int, int]
) -> None:
    root = str(tmp_path)
    assert undecided(root) == []
    place = {"topic_id": "D", "start_offset": lost[0], "end_offset": lost[1], "place": bronze.DECISIONS.name}
    other = place | {"place": bronze.SHADOW.name}
    delta.append(root, WRITE_OFFS, [row(WRITE_OFFS, 0) | one for one in (place, other)])
    assert ranges(root, bronze.DECISIONS) == [Span("D", 0, *lost)]
    assert undecided(root) == []
    rows = [row(silver.DECISIONS, of, decision_topic_id="D", decision_offset=own) for own, of in HELD.items()]
    delta.append(root, silver.DECISIONS, rows)
    assert undecided(root) == [Span("T", 0, *between)]
