"""The demo's plan and the simulator agree on when a world happens."""

from datetime import datetime

import pytest
import yaml

from deploy.demo import plan
from lakehouse import settings as conf
from lakehouse.alert_settings import Alerts
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


def test_a_world_alerts_and_asks_over_one_receiver_on_loopback_and_names_no_secret():
    made = plan.new(plan.parser().parse_args(["--seconds", "3600"]))
    written = yaml.safe_load(made.settings_file())["alerts"]
    base = conf.load("local").alerts.model_dump()
    alerts = Alerts(**{**base, **written, "verification": {**base["verification"], **written["verification"]}})
    assert [str(network) for network in alerts.allow_private] == ["127.0.0.0/8"]
    assert alerts.verification.channel == "demo-customers"
    # Whoever was asked first can still answer when the live part is over.
    assert alerts.verification.expiry_s == 4200
    assert "http" not in made.settings_file().replace(alerts.verification.base_url, "")


def test_recorded_payments_have_no_live_part_and_alert_nobody():
    made = plan.new(plan.parser().parse_args(["--data", "somewhere"]))
    assert set(yaml.safe_load(made.settings_file())["alerts"]) == {"file"}
