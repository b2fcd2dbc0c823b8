"""What alerts are made of, each part alone."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lakehouse.alert_settings import AlertRule, QuietHours
from serving.alerts.content import AlertContent
from serving.alerts.matched import alert_id, matches
from serving.alerts.quiet import due
from serving.alerts.worker import backoff_ms
from tests.serving.alerting import OPS, RULE, alerts_of, decision, with_alerts


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"outcomes": ["decline", "review"]}, True),
        ({"outcomes": ["review"]}, False),
        ({"risks": ["critical"]}, False),
        ({"risks": ["low"], "reason_codes": ["CARD_TESTING"]}, True),
        ({"risks": ["low"], "reason_codes": ["BUST_OUT"]}, False),
    ],
)
def test_a_rule_wants_one_of_each_that_it_names(rule, expected):
    assert matches(AlertRule(name="r", channels=("ops",), **rule), decision(1)) is expected


def test_an_alert_has_the_same_id_whoever_reads_the_log_and_another_for_every_rule():
    assert alert_id("d1", "declines") == "87aedb786a3be052a5ade6290b48b9a8"
    assert (
        len({alert_id("d1", "declines"), alert_id("d2", "declines"), alert_id("d1", "d"), alert_id("d1d", "eclines")})
        == 4
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rules": [{**RULE, "channels": ["nobody"]}]}, "no such channel: nobody"),
        ({"rules": [{**RULE, "escalation": ["nobody"]}]}, "no such channel: nobody"),
        ({"rules": [{**RULE, "outcomes": []}]}, "would be every payment"),
        ({"rules": [{**RULE, "outcomes": ["declined"]}]}, "outcomes"),
        ({"rules": [RULE, RULE]}, "have one name"),
        ({"channels": [OPS, OPS]}, "have one name"),
        ({"channels": [OPS, {**OPS, "name": "b", "url": "https://x"}]}, "Extra inputs"),
        ({"channels": [{**OPS, "quiet": {"begin": "22:00", "end": "07:00", "zone": "Mars"}}]}, "no such time zone"),
        ({"channels": [{**OPS, "quiet": {"begin": "22:00", "end": "22:00"}}]}, "the same time"),
        (
            {"channels": [OPS, {"name": "mail", "kind": "email"}], "verification": {"channel": "mail"}},
            "must be a webhook",
        ),
        ({"verification": {"base_url": "https://bank.example/?x="}}, "base_url"),
    ],
)
def test_settings_that_would_tell_nobody_or_everybody_are_refused(settings, changes, why):
    with pytest.raises(ValidationError, match=why):
        with_alerts(settings, **changes)


def ms(text):
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("at", "then"),
    [
        ("2026-01-10T21:00:00+01:00", "2026-01-10T21:00:00+01:00"),
        ("2026-01-10T22:00:00+01:00", "2026-01-11T07:00:00+01:00"),
        ("2026-01-11T06:59:59+01:00", "2026-01-11T07:00:00+01:00"),
        ("2026-01-11T07:00:00+01:00", "2026-01-11T07:00:00+01:00"),
        ("2026-03-28T23:00:00+01:00", "2026-03-29T07:00:00+02:00"),
        ("2026-10-24T23:00:00+02:00", "2026-10-25T07:00:00+01:00"),
    ],
)
def test_a_night_ends_at_seven_where_people_sleep(at, then):
    night = QuietHours(begin="22:00", end="07:00", zone="Europe/Berlin")
    assert due(night, ms(at)) == ms(then)
    assert due(None, ms(at)) == ms(at)


@given(
    st.integers(0, 4_000_000_000_000), st.times(), st.times(), st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"])
)
def test_nothing_is_due_before_it_is_there_or_more_than_a_day_later(at, begin, end, zone):
    if begin == end:
        return
    then = due(QuietHours(begin=begin, end=end, zone=zone), at)
    assert at <= then <= at + 26 * 3600 * 1000


def test_attempts_are_further_and_further_apart_and_never_all_at_once():
    assert [backoff_ms(n, 5, 900, 1.0) for n in (1, 2, 3, 8, 9, 1000)] == [
        5000,
        10_000,
        20_000,
        640_000,
        900_000,
        900_000,
    ]
    assert [backoff_ms(n, 5, 900, 0.0) for n in (1, 2, 1000)] == [2500, 5000, 450_000]


def test_a_message_tells_of_every_alert_and_how_to_acknowledge_them(settings):
    found = alerts_of(with_alerts(settings), decision(1, risk="critical", score=0.912345), decision(2, reason_codes=[]))
    content = AlertContent("m1", found)
    assert content.title() == "fraudlake: 2 alerts, 1 critical"
    assert content.text().splitlines() == [
        "declines: decline, risk critical, score 0.912, CARD_TESTING, amount 1999 (minor units), card v1:card, "
        f"decision decision-1, alert {found[0].alert_id}",
        "declines: decline, risk low, score 0.250, amount 1999 (minor units), card v1:card, "
        f"decision decision-2, alert {found[1].alert_id}",
        "Message m1; acknowledge: POST /v1/alerts/m1/acknowledge",
    ]
    assert b'"decided_at":"2025-01-06T08:00:01.000+00:00"' in content.body()
