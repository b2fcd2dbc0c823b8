from datetime import UTC, datetime

import numpy as np
import pytest

from simulator import places, rhythm
from simulator.options import DAY_MS


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("city", "day", "minutes"),
    [
        ("Berlin", "2026-01-15T12:00", 60),
        ("Berlin", "2026-03-28T12:00", 60),
        ("Berlin", "2026-03-29T12:00", 120),
        ("Berlin", "2026-10-24T12:00", 120),
        ("Berlin", "2026-10-25T12:00", 60),
        ("London", "2026-07-01T12:00", 60),
        ("New York", "2026-03-07T12:00", -300),
        ("New York", "2026-03-08T12:00", -240),
        ("New York", "2026-11-01T12:00", -300),
        ("Tokyo", "2026-07-01T12:00", 540),
    ],
)
def test_clocks_follow_summer_time(city: str, day: str, minutes: int) -> None:
    assert places.offset_min(_ms(day))[places.NAMES.index(city)] == minutes


@pytest.mark.parametrize(
    ("a", "b", "km"), [("Berlin", "Paris", 878), ("London", "New York", 5_570), ("Wien", "Wien", 0)]
)
def test_distances_are_great_circles(a: str, b: str, km: int) -> None:
    found = places.distance_km(np.array([places.NAMES.index(a)]), np.array([places.NAMES.index(b)]))
    assert abs(found[0] - km) < 10


def test_compatriots_live_in_the_same_country() -> None:
    city = np.repeat(np.arange(len(places.NAMES)), 50)
    other = places.compatriots(city, np.tile(np.linspace(0, 0.999, 50), len(places.NAMES)))
    assert (places.COUNTRY[city] == places.COUNTRY[other]).all()
    assert set(other.tolist()) == set(range(len(places.NAMES)))


def test_three_residents_in_four_pay_in_euro() -> None:
    euro = places.CURRENCY_OF[places.COUNTRY] == places.CURRENCIES.index("EUR")
    assert 0.72 < places.RESIDENTS[euro].sum() / places.RESIDENTS.sum() < 0.78


@pytest.mark.parametrize("begins", ["2026-01-15T00:00", "2026-01-15T17:43"])
def test_a_drawn_moment_shows_the_drawn_local_time_within_the_24_hours(begins: str) -> None:
    u = np.linspace(0, 0.9999, 500)
    offset = np.full(500, -300)
    at = rhythm.moments(_ms(begins), offset, np.zeros(500, np.int64), u)
    assert at.min() >= _ms(begins)
    assert at.max() < _ms(begins) + DAY_MS
    order = (at + offset * 60_000) % DAY_MS
    assert (np.diff(order) >= 0).all()  # later u, later on the local clock, whenever the day begins


def test_nights_are_slept_through_by_four_in_five() -> None:
    at = np.full(1_000, _ms("2026-01-15T03:00"))
    woken = rhythm.awake(at, np.zeros(1_000, np.int64), np.linspace(0, 0.999, 1_000))
    assert (woken == _ms("2026-01-15T10:00")).sum() == 800
    assert (woken == at).sum() == 200
