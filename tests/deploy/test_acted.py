"""What the demo says of rules, lists and customers, and what it does not let pass."""

import json

import pytest

from deploy.demo.acted import challenged, customers, live_rule, rules_fired
from deploy.demo.customers import Told
from deploy.demo.plan import DemoFailed
from deploy.demo.watching import HIT, NAME, watched_share, with_rule, worst
from expectations.rules.rule_set import RuleSet, payload_of
from lakehouse import settings as conf


def decision(offset, *rules, hits=(HIT,)):
    return {"offset": offset, "rules_fired": list(rules), "lists_hit": list(hits)}


def test_the_rule_that_is_added_stands_behind_the_shipped_ones_and_passes_its_own_tests():
    shipped = (conf.home() / "conf" / "rules.json").read_text()
    before, after = (RuleSet.of(payload_of(json.loads(text))) for text in (shipped, with_rule(shipped)))
    after.check_follows(before)
    assert [rule.name for rule in after.rules] == [*(rule.name for rule in before.rules), NAME]


def test_merchants_are_watched_from_the_worst_on_until_they_have_one_payment_in_a_hundred():
    payments = {"a": 9_830, "b": 40, "c": 60, "d": 60, "e": 10}
    assert worst(payments, {"a": 30, "b": 4, "c": 6, "d": 5, "e": 1, "gone": 9}, 0.01) == ["b", "c"]
    assert worst(payments, {}, 0.01) == []


def test_a_long_live_part_meets_about_a_hundred_watched_payments_and_a_short_one_as_many_as_it_can():
    assert [watched_share(payments) for payments in (200, 6_000, 180_000)] == [0.01, 0.01, 100 / 180_000]


def test_a_rule_acts_from_its_position_on_and_nowhere_before():
    before = [decision(5), decision(7, "other@1", hits=())]
    assert live_rule([*before, decision(12, NAME)], 10) == {
        "rule": NAME,
        "position": 10,
        "decisions_before": 2,
        "list_hits": 2,
        "fired": 1,
    }
    for wrong in (before, [decision(5, NAME), decision(12, NAME)], [decision(12, NAME), decision(13)]):
        with pytest.raises(DemoFailed):
            live_rule(wrong, 10)


def test_rules_are_counted_most_frequent_first_and_none_at_all_fails():
    rows = [decision(1, "a@1"), decision(2, "a@1", "b@2"), {"offset": 3, "rules_fired": None, "lists_hit": None}]
    assert rules_fired(rows) == {"a@1": 2, "b@2": 1}
    with pytest.raises(DemoFailed):
        rules_fired(rows[2:])


def test_an_answer_that_is_not_in_the_lake_or_says_something_else_fails():
    told = Told(1, 1, 0, 2, {"t1": "me", "t2": "not-me"})
    ends = {"t1": "approved", "t2": "declined", "t3": "expired"}
    assert customers(told, ends, {"t1": ["approve"], "t2": ["decline"], "t3": ["decline"]}) == {
        "asked": 2,
        "answers": {"me": 1, "not-me": 1},
        "ends": {"approved": 1, "declined": 1},
        "effective_outcomes": {"approve": 1, "decline": 1},
    }
    for wrong in ({"t1": "approved"}, {**ends, "t2": "approved"}):
        with pytest.raises(DemoFailed):
            customers(told, wrong, {})
    with pytest.raises(DemoFailed):
        customers(Told(1, 1, 0, 2, {}), ends, {})


def test_a_challenger_decides_between_its_two_offsets_and_nowhere_else():
    rows = [{"offset": at, "model_digest": "b" if 10 < at < 20 else "a"} for at in (5, 12, 15, 25)]
    versions = [(1, "a"), (10, "b"), (20, "a")]
    assert challenged(rows, versions, 7) == {
        "challenger": "b",
        "shadow": 7,
        "promoted": 10,
        "back": 20,
        "decided": 2,
    }
    for wrong in (
        (rows, versions[:2], 7),
        (rows, versions, 0),
        (rows, [(1, "a"), (13, "b"), (20, "a")], 7),
        (rows, [(1, "a"), (10, "b"), (20, "c")], 7),
    ):
        with pytest.raises(DemoFailed):
            challenged(*wrong)
