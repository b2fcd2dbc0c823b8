import pytest
from simulated import END_MS

from lakehouse.errors import SettingsError
from simulator.options import DAY_MS, Options


def test_the_default_world_played_at_200_a_second_runs_4937_times_faster() -> None:
    options = Options(END_MS, live_s=30)
    assert round(options.pace, 3) == 4937.143
    assert options.live_ms == 148_114_286
    assert options.live_from_ms == END_MS - 148_114_286
    assert options.start_ms == END_MS - 148_114_286 - 60 * DAY_MS
    assert options.span_days == 62


def test_without_a_live_part_the_history_ends_at_the_end() -> None:
    assert Options(END_MS, days=2).live_from_ms == END_MS
    assert Options(END_MS, days=2).span_days == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"days": 0}, "--days is 0. It must be from 1 to 3,650."),
        ({"payments_per_day": 99}, "--payments-per-day is 99. It must be from 100 to 100,000,000."),
        ({"fraud_rate": 0.2}, "--fraud-rate is 0.2. It must be from 0 to 0.1."),
        ({"fraud_rate": float("nan")}, "--fraud-rate is nan. It must be from 0 to 0.1."),
        ({"seed": -1}, "--seed is -1. It must be from 0 to 9,223,372,036,854,775,807."),
        ({"rate": 0}, "--rate is 0. It must be from 0.001 to 1,000,000."),
        ({"live_s": -1.0}, "--live-seconds is -1.0. It must be from 0 to 86,400."),
        (
            {"live_s": 3600, "rate": 100_000},
            "3600 live seconds at a pace of 2,468,571 are 102,857 days. "
            "Use a lower rate, fewer seconds or more payments a day.",
        ),
        (
            {"days": 2, "faults": 20},
            "20 faults of eleven kinds do not fit 7,000 payments. "
            "At most 15, so that at most one payment in forty has a faulty copy.",
        ),
    ],
)
def test_options_out_of_range_are_named_with_what_is_allowed(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Options(**{"end_ms": END_MS, **wrong})  # type: ignore[arg-type]
    assert str(refused.value) == message
