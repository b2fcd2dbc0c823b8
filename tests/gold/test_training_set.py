"""When a training set is made anew."""

from datetime import UTC, datetime

import pytest

from features.catalogue import feature_set_hash
from gold.training_set import due

MADE = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT_MS = int(MADE.timestamp() * 1000)
HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("later_h", "interval_h", "wanted"),
    [(0, 0, True), (0, 168, False), (167.99, 168, False), (168, 168, True), (2, 1, True)],
)
def test_one_is_made_when_so_many_hours_have_passed(later_h, interval_h, wanted):
    held = [{"as_of": MADE, "feature_set": feature_set_hash()}]
    assert due(held, AT_MS + int(later_h * HOUR_MS), interval_h) is wanted


def test_one_is_made_at_once_where_there_is_none_or_its_features_are_others():
    assert due([], AT_MS, 168)
    assert due([{"as_of": MADE, "feature_set": "another"}], AT_MS, 168)
