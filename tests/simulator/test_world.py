from dataclasses import replace

import numpy as np
import pytest
from simulated import END_MS, Log, pieces

from simulator.options import DAY_MS, Options
from simulator.records import AUTHORISATION, LABEL, PAYMENT
from simulator.world import between, days, world

TINY = Options(END_MS, days=4, payments_per_day=300, fraud_rate=0.02, seed=11, faults=1)


def test_the_same_options_give_the_same_bytes_in_the_same_order() -> None:
    assert list(pieces(TINY)) == list(pieces(TINY))


def test_another_seed_shares_no_record() -> None:
    assert not set(pieces(TINY)) & set(pieces(replace(TINY, seed=12)))


@pytest.mark.parametrize("other", [{"payments_per_day": 301}, {"fraud_rate": 0.021}, {"end_ms": END_MS + 1}])
def test_another_option_gives_another_log(other: dict[str, float]) -> None:
    assert list(pieces(TINY)) != list(pieces(replace(TINY, **other)))  # type: ignore[arg-type]


def test_a_day_made_alone_is_the_day_of_the_run(small: Log) -> None:
    alone = next(days(world(small.options), first=25, last=26)).records
    at = small.records.received_ms
    low, high = small.options.day_ms(25), small.options.day_ms(26)
    of_the_run = small.records.take((at >= low) & (at < high))
    assert alone.payload.to_list() == of_the_run.payload.to_list()
    assert (alone.kind == LABEL).sum() > 5  # of payments made up to three weeks before


def test_the_log_is_ordered_by_arrival_then_kind_then_id(small: Log) -> None:
    records = small.records
    order = np.lexsort((records.order, records.kind, records.received_ms))
    assert (order == np.arange(len(records))).all()
    assert {PAYMENT, AUTHORISATION, LABEL} == set(records.kind.tolist())


def test_history_and_live_part_are_one_log_cut_where_the_history_ends() -> None:
    options = Options(END_MS, days=3, payments_per_day=400, seed=5, live_s=20, rate=100)
    made = world(options)
    assert options.live_from_ms < END_MS
    assert END_MS - options.live_from_ms == options.live_ms == 432_000_000
    history = [r for p in between(made, options.start_ms, options.live_from_ms) for r in p.payload.to_list()]
    live = [r for p in between(made, options.live_from_ms, END_MS) for r in p.payload.to_list()]
    whole = [r for p in between(made, options.start_ms, END_MS) for r in p.payload.to_list()]
    assert history + live == whole
    assert 1_600 < len(history) < 3_000
    assert 3_000 < len(live) < 5_000


def test_a_world_is_as_large_as_asked(usual: Log) -> None:
    assert abs(len(usual.truth) / (60 * 3_500) - 1) < 0.03
    by_day = np.bincount((usual.truth.received_ms - usual.options.start_ms) // DAY_MS, minlength=60)
    assert by_day.min() > 3_500 * 0.7
    assert by_day.max() < 3_500 * 1.4


def test_every_payment_is_answered_once_within_four_seconds(small: Log) -> None:
    answered = small.authorisations
    rows = [small.row_of[name] for name in answered.texts("transaction_id").to_list()]
    assert len(set(rows)) == len(rows)
    delay = answered.numbers("received_at") - small.payments.numbers("received_at")[rows]
    assert delay.min() >= 200
    assert delay.max() <= 4_000
    unanswered = np.setdiff1d(np.arange(len(small.truth)), rows)
    assert (small.options.end_ms - small.truth.received_ms[unanswered] <= 4_000).all()


def test_three_payments_in_a_thousand_arrive_minutes_to_hours_late(usual: Log) -> None:
    late = usual.payments.numbers("received_at") - usual.payments.numbers("event_time")
    assert late.min() >= 100
    assert abs((late > 3_000).mean() - 0.003) < 0.0005
    assert late[late > 3_000].min() >= 120_000
    assert late.max() <= 6 * 3_600_000


def test_people_pay_by_day_more_than_by_night_and_on_saturdays_more_than_on_sundays(usual: Log) -> None:
    at = usual.payments.numbers("event_time")
    hour = at // 3_600_000 % 24
    weekday = (at // DAY_MS + 3) % 7
    assert (hour == 12).sum() > 5 * (hour == 3).sum()
    assert (weekday == 5).sum() > 1.2 * (weekday == 6).sum()
