"""Alarms of the drift watch reach a receiver, each once, however often the watch runs and whoever looks."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from lakehouse import delta, topics
from lakehouse.alert_settings import AlertRule
from lakehouse.contracts.quality import DRIFT
from serving.alerts.content import AlertContent
from serving.alerts.database import opened
from serving.alerts.drift import DriftAlarms, alerts
from serving.alerts.matched import matches
from serving.alerts.outbox import Outbox
from serving.alerts.running import running
from serving.alerts.worker import Worker
from tests.filled import DAY_1, row
from tests.serving.alerting import SECRET, decision, receiving, with_alerts
from tests.serving.running import until

WATCH = {"name": "drift", "drift": ["psi", "calibration"], "channels": ["ops"]}
RULE = AlertRule(**WATCH)


def alarm(day, measure="psi", subject="card_speed_kmh", alarm=True):
    """A row of quality.drift."""
    end = DAY_1 + timedelta(days=day)
    window = {"window_start": end - timedelta(days=1), "window_end": end}
    limits = {"value": 0.4125, "low": None if measure == "psi" else 0.8, "high": 0.1, "model_digest": "ab" * 32}
    return row(DRIFT, 0, **window, **limits, subject=subject, measure=measure, alarm=alarm)


def written(settings, *rows):
    names = set(DRIFT.column_names)
    kept = [{name: value for name, value in one.items() if name in names} for one in rows]
    delta.append(settings.lake.root, DRIFT, kept)


@pytest.fixture
def world(settings, monkeypatch):
    """Makes settings whose rule is of drift and whose channel is a receiver."""

    def made(url):
        monkeypatch.setenv("FRAUDLAKE_ALERT_OPS", f"{url}/hook {SECRET}")
        return with_alerts(settings, rules=[WATCH], drift_look_s=0.01)

    return made


def test_an_alarm_is_told_once_however_often_the_watch_writes_and_whoever_looks(world):
    with receiving() as server:
        settings = world(server.url)
        outbox = Outbox(opened(settings))
        alarms, worker = DriftAlarms(settings, outbox), Worker(settings, outbox)
        alarms.look()
        written(settings, alarm(1), alarm(1, "ks"), alarm(1, subject="score", alarm=False))
        alarms.look()
        until(lambda: worker.step() or outbox.messages("sent"))
        # The same rows again, a look by somebody else, and an alarm of the next window.
        written(settings, alarm(1))
        alarms.look()
        DriftAlarms(settings, outbox).look()
        assert [one.state for one in outbox.alerts(None)] == ["open"]
        written(settings, alarm(2, "calibration", "labels"))
        alarms.look()
        until(lambda: worker.step() or len(outbox.messages("sent")) == 2)
        outbox.database.close()
    told = [one for body in server.bodies() for one in body["alerts"]]
    assert [(one["rule"], one["outcome"]) for one in told] == [("drift", "drift")] * 2
    assert [one["reasons"] for one in told] == [
        ["psi of card_speed_kmh is 0.4125 where 0.1 is usual in the window that ended 2026-01-02T00:00Z "
         "(model abababababab)"],
        ["calibration of labels is 0.4125 where 0.8 to 0.1 is usual in the window that ended 2026-01-03T00:00Z "
         "(model abababababab)"],
    ]  # fmt: skip


def test_the_process_of_alerts_tells_of_drift_beside_decisions(world, broker):
    with receiving() as server:
        settings = world(server.url)
        topics.ensure(settings)
        with running(settings) as outbox:
            written(settings, alarm(1))
            until(lambda: outbox.messages("sent"))
        (body,) = server.bodies()
    assert len(body["alerts"]) == 1


def test_an_outbox_that_begins_anew_tells_of_the_last_windows_only():
    rows = [alarm(day) for day in range(1, 11)] + [alarm(2, "calibration")]
    found = alerts([RULE], rows, 0)
    assert [one.reasons[:3] for one in found] == ["psi"] * 7 + ["cal"]
    assert len({one.alert_id for one in found}) == 8
    assert found == alerts([RULE], rows, 0)


def test_an_alert_of_drift_names_no_card_and_a_rule_of_drift_matches_no_decision():
    (found,) = alerts([RULE], [alarm(1)], 0)
    content = AlertContent("m", [found])
    assert b"card_token" not in content.body()
    assert content.text().startswith("drift: psi of card_speed_kmh is 0.4125 where 0.1 is usual")
    assert content.title() == "fraudlake: 1 alert"
    assert not matches(RULE, decision(1))


@pytest.mark.parametrize("changes", [{"risks": ["high"]}, {"drift": []}, {"drift": ["speed"]}])
def test_a_rule_is_of_decisions_or_of_known_measures(changes):
    with pytest.raises(ValidationError):
        AlertRule(**{**WATCH, **changes})
