"""The outbox in both of its databases: what becomes of alerts, and of the messages that tell of them."""

import threading
from collections import Counter

import pytest

from serving.alerts.database import opened
from serving.alerts.outbox import Outbox
from serving.alerts.planning import Planner
from serving.decision_store import Progress
from tests.lakehouse.records import CARD, T0
from tests.serving.alerting import alerts_of, decision, with_alerts
from tests.serving.decided import with_store

MINUTE = 60_000


@pytest.fixture(params=["sqlite", "postgres"])
def world(request, settings):
    if request.param == "postgres":
        request.getfixturevalue("postgres_server")
    return with_store(settings, kind=request.param)


class Desk:
    """An outbox with a clock that stands still."""

    def __init__(self, settings):
        self.settings, self.now, self.offset = settings, T0, 0
        self.outbox = Outbox(opened(settings))

    def take(self, *decisions):
        """Take decisions in as the filling thread does."""
        self.offset += len(decisions)
        progress = Progress("topic", 0, 0, self.offset)
        self.outbox.take(alerts_of(self.settings, *decisions), [], "", self.now, progress)

    def plan(self):
        """Plan as the worker does."""
        return self.outbox.database.together(lambda run: Planner(self.settings.alerts).plan(run, self.now))

    def due(self, attempts=8, lease_ms=1000, running=None, lanes=32):
        """Take what is due."""
        return self.outbox.due(self.now, lease_ms, attempts, running or {}, lanes)

    def told(self):
        """(channel, decisions) of what is due, delivered."""
        found = [(one, self.outbox.contents(one.message_id)) for one in self.due()]
        for message, _ in found:
            self.outbox.sent(message.message_id, self.now)
        return [(message.channel, [alert.decision_id for alert in alerts]) for message, alerts in found]

    def states(self):
        """The state of every alert by its decision."""
        return {one.alert.decision_id: one.state for one in self.outbox.alerts(None)}


@pytest.fixture
def desk(world):
    made = []

    def desk_of(**changes):
        made.append(Desk(with_alerts(world, **changes)))
        return made[-1]

    yield desk_of
    for one in made:
        one.outbox.database.close()


def test_the_same_decisions_again_are_the_same_alerts_and_nobody_is_told_twice(desk):
    at = desk()
    at.take(decision(1), decision(2, card_token="v1:other"), decision(3, outcome="approve"))
    at.plan()
    assert at.told() == [("ops", ["decision-1", "decision-2"])]
    at.take(decision(1), decision(2, card_token="v1:other"))
    at.plan()
    assert (at.told(), at.outbox.progress("topic", 0).next) == ([], 5)
    assert at.outbox.progress("another", 0) is None


def test_the_same_card_for_the_same_reasons_alerts_once_in_a_window(desk):
    at = desk(repeat_window_s=60)
    others = [
        decision(3, card_token="v1:other"),
        decision(4, reason_codes=["BUST_OUT"]),
        decision(5, risk="critical"),
        decision(61),
        decision(62),
    ]
    at.take(decision(1), decision(2), *others)
    at.plan()
    assert at.states() == {
        **dict.fromkeys(("decision-1", "decision-3", "decision-4", "decision-5", "decision-61"), "open"),
        **dict.fromkeys(("decision-2", "decision-62"), "repeated"),
    }
    repeats = {one.alert.decision_id: one.repeats for one in at.outbox.alerts("repeated")}
    assert repeats["decision-2"] == alerts_of(at.settings, decision(1))[0].alert_id


def test_several_go_into_one_message_until_it_is_due_or_full(desk):
    at = desk(group_s=10, group_most=3)
    at.take(*(decision(n, card_token=f"v1:{n}") for n in range(5)))
    at.plan()
    assert at.told() == []
    at.now += 10_000
    full, rest = ["decision-0", "decision-1", "decision-2"], ["decision-3", "decision-4"]
    assert sorted(at.told()) == [("ops", full), ("ops", rest)]


def test_no_alert_joins_a_message_that_somebody_may_have_seen(desk):
    at = desk()
    at.take(decision(1))
    at.plan()
    (first,) = at.due()
    at.outbox.failed(first, "answered 500", at.now + 5, at.now)
    at.take(decision(2, card_token="v1:other"))
    at.plan()
    at.now += 5000
    assert sorted(at.told()) == [("ops", ["decision-1"]), ("ops", ["decision-2"])]


def test_quiet_hours_wait_and_what_is_critical_does_not(desk):
    # It is 08:00 UTC, which is 09:00 in Berlin.
    quiet = {"name": "ops", "kind": "webhook", "quiet": {"begin": "08:30", "end": "10:15", "zone": "Europe/Berlin"}}
    at = desk(channels=[quiet])
    at.take(decision(1), decision(2, risk="critical"))
    at.plan()
    assert at.told() == [("ops", ["decision-2"])]
    at.now += 75 * MINUTE - 1
    assert at.told() == []
    at.now += 1
    assert at.told() == [("ops", ["decision-1"])]


def test_what_nobody_acknowledges_goes_to_the_next_channel_and_then_rests(desk):
    rule = {"name": "declines", "outcomes": ["decline"], "channels": ["ops"], "escalation": ["pager", "ops"]}
    at = desk(rules=[rule], escalate_after_s=900)
    at.take(decision(1), decision(2, card_token="v1:other"))
    told = []
    for minute in range(0, 90, 5):
        at.now = T0 + minute * MINUTE
        at.plan()
        told += [(minute, *one) for one in at.told()]
        if minute == 20:
            of_second = alerts_of(at.settings, decision(2, card_token="v1:other"))[0].alert_id
            assert [one.state for one in at.outbox.acknowledge(of_second, "kim", at.now)] == ["acknowledged"]
    both = ["decision-1", "decision-2"]
    assert told == [(0, "ops", both), (15, "pager", both), (30, "ops", ["decision-1"])]


def test_the_first_who_acknowledges_stays_and_a_message_stands_for_its_alerts(desk):
    at = desk(group_s=10)
    at.take(decision(1), decision(2), decision(3, card_token="v1:other"))
    at.plan()
    at.now += 10_000
    (message,) = at.due()
    assert len(at.outbox.acknowledge(message.message_id, "kim", 7)) == 2
    assert {one.acknowledged_by for one in at.outbox.acknowledge(message.message_id, "lee", 8)} == {"kim"}
    repeat = alerts_of(at.settings, decision(2))[0].alert_id
    assert [one.acknowledged_by for one in at.outbox.acknowledge(repeat, "lee", 8) if one.repeats is None] == ["kim"]
    assert at.outbox.acknowledge("no such id", "kim", 9) == []


def test_a_message_whose_alerts_were_all_acknowledged_is_not_sent(desk):
    at = desk(group_s=10)
    at.take(decision(1))
    at.plan()
    at.outbox.acknowledge(alerts_of(at.settings, decision(1))[0].alert_id, "kim", at.now)
    at.now += 10_000
    assert (at.told(), len(at.outbox.messages("needless"))) == ([], 1)


def test_an_attempt_that_never_ended_is_made_again_and_the_last_one_is_shown_as_dead(desk):
    rule = {"name": "declines", "outcomes": ["decline"], "channels": ["ops"], "escalation": ["pager"]}
    at = desk(rules=[rule])
    at.take(decision(1))
    at.plan()
    (first,) = at.due(attempts=2)
    assert at.due(attempts=2) == []
    at.now += 1000
    assert at.due(attempts=2, running={"ops": 32}) == []
    (second,) = at.due(attempts=2)
    assert (first.message_id, first.attempts, second.attempts) == (second.message_id, 1, 2)
    # Whoever made the first attempt comes back late: it says nothing about the second.
    at.outbox.failed(first, "answered 500", at.now, at.now)
    assert at.due(attempts=2) == []
    at.now += 1000
    assert at.due(attempts=2) == []
    (dead,) = at.outbox.messages("dead")
    assert (dead.message_id, dead.error, at.outbox.counts()) == (
        first.message_id,
        "no attempt ended",
        [("ops", "dead", 1, T0)],
    )
    # A channel that is dead is no reason to wait for the next one.
    at.plan()
    assert at.told() == [("pager", ["decision-1"])]
    assert at.outbox.revive(dead.message_id, at.now)
    assert not at.outbox.revive("no such id", at.now)
    assert at.told() == [("ops", ["decision-1"])]


def test_decisions_of_long_ago_alert_nobody(desk):
    at = desk(max_age_s=3600)
    at.take(decision(1, decided_at=T0 - 3600_001), decision(2, card_token="v1:other"))
    at.plan()
    assert at.states() == {"decision-1": "stale", "decision-2": "open"}


def test_of_more_messages_than_a_channel_has_lanes_the_rest_is_due_as_soon_as_there_is_room(desk):
    rules = [{"name": name, "outcomes": ["decline"], "channels": [name]} for name in ("ops", "pager")]
    at = desk(group_most=1, rules=rules)
    at.take(*(decision(n, card_token=f"v1:{n}") for n in range(5)))
    at.plan()
    at.now += 1000
    took = [Counter(one.channel for one in at.due(running=busy, lanes=3)) for busy in ({}, {"ops": 3}, {"ops": 1})]
    assert took == [{"ops": 3, "pager": 3}, {"pager": 2}, {"ops": 2}]
    # Nobody has waited for a lease, and no attempt was counted for what was not tried.
    assert [one.attempts for one in at.outbox.messages("waiting")] == [1] * 10


def test_of_several_workers_at_once_each_message_has_one(desk):
    at = desk(group_most=1)
    at.take(*(decision(n, card_token=f"v1:{n}") for n in range(20)))
    planned, taken = [], []

    def work():
        planned.append(at.plan().opened)
        taken.extend(at.due())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(planned) == [0, 0, 0, 20]
    assert len({one.message_id for one in taken}) == len(taken) == 20


def test_no_row_holds_more_of_a_payment_than_tokens_amounts_and_reasons(desk):
    at = desk()
    at.take(decision(1, transaction_id=CARD, merchant_id=CARD, device_token="v1:device"))
    at.plan()
    tables = ("alerts", "alert_messages", "alert_contents")
    rows = at.outbox.database.together(lambda run: [run(f"SELECT * FROM {name}", ()).fetchall() for name in tables])
    assert all(rows)
    assert CARD not in str(rows)
