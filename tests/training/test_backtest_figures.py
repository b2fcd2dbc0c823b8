"""The figures of a backtest over eight payments whose every number is written down."""

import numpy as np
import orjson
import pytest

from expectations.rules.rule_set import OUTCOMES, RuleSet
from lakehouse import settings as conf
from lakehouse.moments import DAY_MS
from tests.training.backtested import LARGE, LOOKED_AT, REMOTE, payload
from tests.training.pricing import COSTS
from training.backtest_report import Asked, Report
from training.effect_figures import by_pattern, by_rule, difference, of_side, shifts
from training.effects import Effects, Fired, Side

APPROVE, CHALLENGE, REVIEW, DECLINE = range(len(OUTCOMES))
RULES = {rule.name: rule for rule in RuleSet.of(payload(LARGE, REMOTE, LOOKED_AT)).evaluated}


@pytest.fixture(scope="module")
def experiment():
    return conf.load().experiment.model_copy(update={"costs": COSTS, "review_minutes": 6})


def side(outcome, fired, names):
    payment, rule = zip(*fired, strict=True)
    rules = {name: RULES[name] for name in names}
    return Side(np.array(outcome), np.zeros(len(outcome), np.int64), Fired(np.array(payment), np.array(rule)), rules)


@pytest.fixture
def effects():
    """Payments 0 to 5 are matured; 0, 1 and 2 are frauds of 100.00, the others are worth 50.00."""
    fraud = np.arange(8) < 3
    return Effects(
        event_ms=np.arange(8) * DAY_MS,
        card=np.arange(8) % 4,
        amount_minor=np.where(fraud, 10_000, 5_000),
        fraud=fraud,
        matured=np.arange(8) < 6,
        pattern=np.array([0, 1, 1, -1, -1, -1, -1, 1]),
        patterns=("bust_out", "card_testing"),
        before=side(
            [DECLINE, APPROVE, APPROVE, REVIEW, APPROVE, APPROVE, APPROVE, REVIEW],
            [(0, 0), (3, 0), (7, 0)],
            ["large@1"],
        ),
        after=side(
            [DECLINE, REVIEW, APPROVE, APPROVE, CHALLENGE, APPROVE, APPROVE, DECLINE],
            [(0, 0), (0, 1), (1, 1), (4, 1), (7, 0), (7, 2)],
            ["large@1", "remote@1", "looked-at@1"],
        ),
    )


def test_money_and_rates_are_of_matured_payments_and_reviews_of_all(effects, experiment):
    was, now = of_side(effects, effects.before, experiment), of_side(effects, effects.after, experiment)
    assert was["outcomes"] == {"approve": 5, "challenge": 0, "review": 2, "decline": 1}
    assert (was["reviews"], was["review_hours"]) == (2, 0.2)
    assert (was["prevented_minor"], was["friction_minor"], was["review_minor"]) == (10_000, 200, 400)
    assert (was["recall"], was["precision"], was["false_positive_rate"]) == (1 / 3, 1 / 2, 1 / 3)
    assert (now["prevented_minor"], now["friction_minor"], now["review_minor"]) == (18_000, 30, 400)
    assert (now["recall"], now["precision"], now["false_positive_rate"]) == (2 / 3, 2 / 3, 1 / 3)
    assert was["rungs"] == now["rungs"] == {"full": 8}


def test_the_difference_is_changed_minus_original_within_its_interval(effects):
    found = difference(effects, COSTS, seed=0)
    assert found["net_minor"]["value"] == (18_000 - 30 - 400) - (10_000 - 200 - 400)
    assert found["recall"]["value"] == pytest.approx(1 / 3)
    assert found["precision"]["value"] == pytest.approx(1 / 6)
    assert found["false_positive_rate"]["value"] == 0
    assert found["net_minor"]["low"] < found["net_minor"]["value"] < found["net_minor"]["high"]
    assert found == difference(effects, COSTS, seed=0)


def test_outcomes_shift_from_row_to_column(effects):
    found = shifts(effects)
    moved = {(a, b): n for a, row in found.items() for b, n in row.items() if n}
    assert moved == {
        ("approve", "approve"): 3,
        ("approve", "challenge"): 1,
        ("approve", "review"): 1,
        ("review", "approve"): 1,
        ("review", "decline"): 1,
        ("decline", "decline"): 1,
    }


def test_a_pattern_counts_its_matured_frauds(effects):
    found = by_pattern(effects)
    assert [(name, one["frauds"], one["original_stopped"], one["changed_stopped"]) for name, one in found.items()] == [
        ("bust_out", 1, 1, 1),
        ("card_testing", 2, 0, 1),
    ]


def test_a_rule_says_what_others_stop_already(effects):
    large, remote, looked_at = by_rule(effects, effects.after, effects.before)
    assert remote == {
        "rule": "remote@1",
        "state": "active",
        "new": True,
        "fired": 3,
        "matured": 3,
        "frauds": 2,
        "precision": 2 / 3,
        "stopped_already": 1,
        "with_other_rules": 1,
        "overlap": {"large@1": 1},
    }
    assert (large["new"], large["fired"], large["with_other_rules"], large["overlap"]) == (False, 2, 1, {"remote@1": 1})
    assert (looked_at["state"], looked_at["fired"], looked_at["matured"], looked_at["precision"]) == (
        "shadow",
        1,
        0,
        None,
    )
    assert (looked_at["with_other_rules"], looked_at["overlap"]) == (1, {"large@1": 1})


def test_nothing_matured_has_no_rates_no_difference_and_a_report_all_the_same(effects, experiment):
    nothing = Effects(**{**effects.__dict__, "matured": np.zeros(8, np.bool_), "patterns": None})
    report = Report.of(Asked(0, 8 * DAY_MS, 0, 8, 8 * DAY_MS, 0, {}), nothing, experiment, 0)
    told = orjson.loads(report.as_json())
    assert (told["matured"], told["not_matured"], told["difference"], told["patterns"]) == (0, 8, {}, None)
    assert told["original"]["recall"] is None
    assert "changed: nothing" in report.as_text()
    assert "was fitted on" not in report.as_text()
    known = Report.of(Asked(0, 8 * DAY_MS, 0, 8, 8 * DAY_MS, 0, {}, 2 * DAY_MS), nothing, experiment, 0)
    assert "the model was fitted on payments until 1970-01-03 00:00: before that it knows them" in known.as_text()
    assert "by pattern: labels say fraud or not" in report.as_text()
