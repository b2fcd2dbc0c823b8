"""The demo's plan and the simulator agree on when a world happens."""

from datetime import datetime

import pytest

from deploy.demo import plan
from simulator.options import Options


@pytest.mark.parametrize(
    "arguments", ["", "--rate 500", "--rate 3000 --seconds 60", "--days 7 --payments-per-day 9000"]
)
def test_nothing_happens_before_the_world_begins_and_little_time_passes_until_it_does(arguments):
    made = plan.new(plan.parser().parse_args(arguments.split()))
    options = Options(
        end_ms=int(datetime.fromisoformat(made.end).timestamp() * 1000),
        days=made.days,
        payments_per_day=made.payments_per_day,
        rate=made.rate,
        live_s=made.live_seconds * made.parts,
    )
    before_h = options.start_ms / 3_600_000 - made.before.timestamp() / 3600
    assert before_h == pytest.approx(24, abs=0.01)
