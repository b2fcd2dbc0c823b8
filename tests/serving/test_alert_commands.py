"""What people do with alerts on the command line."""

import pytest

from lakehouse import settings as conf
from lakehouse import trail
from serving.alerts.__main__ import main
from serving.alerts.database import opened
from serving.alerts.outbox import Outbox
from serving.alerts.planning import Planner
from serving.decision_store import Progress
from tests.lakehouse.records import T0
from tests.serving.alerting import alerts_of, decision, in_the_way, with_alerts


@pytest.fixture
def outbox(tmp_path, monkeypatch):
    """The outbox of the environment, with one alert whose message is dead."""
    monkeypatch.setenv("FRAUDLAKE__ALERTS__FILE", str(tmp_path / "alerts.sqlite"))
    world = with_alerts(conf.load())
    made = Outbox(opened(world))
    made.take(alerts_of(world, decision(1)), [], "", T0, Progress("topic", 0, 0, 1))
    made.database.together(lambda run: Planner(world.alerts).plan(run, T0))
    (message,) = made.due(T0, 1000, 1, {}, 10)
    made.failed(message, "answered 500", None, T0)
    yield made
    made.database.close()


def test_what_is_dead_is_shown_with_its_reason_and_can_be_delivered_again(outbox, capsys):
    (dead,) = outbox.messages("dead")
    assert main(["list", "--state", "dead"]) == 0
    assert capsys.readouterr().out == f"{dead.message_id}  dead  ops  1 alerts  attempts 1  answered 500\n"
    assert main(["retry", dead.message_id]) == 0
    assert [one.message_id for one in outbox.messages("waiting")] == [dead.message_id]
    assert main(["retry", dead.message_id]) == 1
    assert "There is no dead message of that id." in capsys.readouterr().err


def test_an_alert_is_acknowledged_on_record(outbox, capsys):
    assert main(["list", "--state", "open"]) == 0
    alert_id = capsys.readouterr().out.split()[0]
    assert main(["acknowledge", alert_id]) == 0
    assert outbox.alerts("acknowledged")[0].alert.alert_id == alert_id
    place = trail.place_of(conf.load())
    assert ("alert.acknowledged", alert_id) in [(one.action, one.subject) for one in trail.entries(place)]
    assert main(["acknowledge", "nothing"]) == 1
    assert main(["list", "--state", "open"]) == 0
    assert capsys.readouterr().out.endswith("nothing\n")


def test_without_the_audit_trail_nothing_is_acknowledged_or_delivered_again(outbox, capsys):
    (dead,), (alert,) = outbox.messages("dead"), outbox.alerts("open")
    with in_the_way(trail.place_of(conf.load()).folder):
        assert main(["acknowledge", alert.alert.alert_id]) == 1
        assert main(["retry", dead.message_id]) == 1
    assert capsys.readouterr().err.count("TrailBroken") == 2
    assert (outbox.messages("dead"), outbox.alerts("open")) == ([dead], [alert])
