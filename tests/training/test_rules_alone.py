"""What rules alone would have decided of vectors."""

import numpy as np
import orjson
import pytest

from decisions.outcome import OUTCOMES
from expectations.rules.rule_set import RuleSet, payload_of
from features.catalogue import NAMES
from lakehouse import settings as conf
from lakehouse.errors import ControlRefused
from tests.decisions import logs
from training.rules_alone import rules_alone, shipped

CLOCK = 1_700_000_000_000


def rule(name, sql, action, pattern=None, state="active", **times):
    column = {"is_remote": 1, "channel": "ecom", "amount_base_minor": 9_000, "card_tx_count_1h": 5}
    return {
        "id": name,
        "version": 1,
        "state": state,
        "sql": sql,
        "action": action,
        "reason_code": "TEST",
        "sentence": "A test.",
        "owner": "test",
        "pattern": pattern,
        "valid_from": None,
        "valid_to": None,
        **times,
        "tests": {"matching": [column], "not_matching": [{}]},
    }


def rules_of(*rules):
    return RuleSet.of(payload_of({"rules": list(rules)}))


def payments(**columns):
    n = len(next(iter(columns.values())))
    X = np.full((n, len(NAMES)), np.nan, np.float32)
    for name, values in columns.items():
        X[:, NAMES.index(name)] = values
    return X


def decided(rules, amount, **columns):
    X = payments(**columns)
    return rules_alone(rules, X, np.array(amount), np.full(len(X), CLOCK))


def test_the_most_severe_rule_decides_and_what_is_missing_fires_nothing():
    rules = rules_of(
        rule("remote", "is_remote = 1", {"outcome": "challenge"}),
        rule("burst", "card_tx_count_1h >= 5", {"outcome": "decline"}, "card_testing"),
        rule("large", "amount_base_minor >= 9000", {"score": 0.5}, "bust_out"),
    )
    found = decided(rules, [100, 9_000, 100, 9_000], is_remote=[1, 0, np.nan, 1], card_tx_count_1h=[0, 0, 5, np.nan])
    # 0.5 is a review where no model and no thresholds say otherwise.
    assert found.outcome.tolist() == [1, 2, 3, 2]
    assert found.score.tolist() == [0.25, 0.625, 0.75, 0.625]
    assert {name: flags.tolist() for name, flags in found.by_pattern.items()} == {
        "bust_out": [False, True, False, True],
        "card_testing": [False, False, True, False],
    }
    assert found.unheard == ()


def test_rules_in_shadow_and_out_of_their_time_do_nothing():
    rules = rules_of(
        rule("shadow", "is_remote = 1", {"outcome": "decline"}, state="shadow"),
        rule("ended", "is_remote = 1", {"outcome": "review"}, valid_to=CLOCK),
        rule("begins", "is_remote = 1", {"outcome": "challenge"}, valid_from=CLOCK),
    )
    assert decided(rules, [100], is_remote=[1]).outcome.tolist() == [1]


def test_a_rule_that_names_a_field_beside_the_vector_is_not_heard_and_named():
    rules = rules_of(
        rule("channel", "channel = 'ecom' AND is_remote = 1", {"outcome": "decline"}),
        rule("remote", "is_remote = 1", {"outcome": "challenge"}),
    )
    found = decided(rules, [100], is_remote=[1])
    assert found.outcome.tolist() == [1]
    assert found.unheard == ("channel@1",)


def test_without_rules_everything_is_approved():
    found = decided(rules_of(), [100, 200], is_remote=[1, 1])
    assert found.outcome.tolist() == [0, 0]
    assert found.by_pattern == {}


def test_every_active_rule_that_is_shipped_is_heard():
    found = rules_alone(shipped(), payments(is_remote=[1]), np.array([100]), np.array([CLOCK]))
    assert found.unheard == ()


def test_rules_alone_decide_as_the_engine_does_on_the_rung_below_the_models(settings):
    no_limit = settings.ladder.model_copy(update={"approve_up_to_minor": 10**15})
    here, versions = settings.model_copy(update={"ladder": no_limit}), {}
    rules = payload_of(orjson.loads((conf.home() / "conf" / "rules.json").read_bytes()))
    first = [logs.control(here, versions, *one) for one in (("reference", logs.reference()), ("rules", rules))]
    messages = logs.messages([*first, *logs.payments(per_day=1500)])
    bodies = logs.decided(logs.engine(here, told=lambda _: "rules_only"), messages)
    found = [one for one in logs.columns(bodies) if one["vector"]]
    X = np.frombuffer(b"".join(one["vector"] for one in found), np.float32).reshape(len(found), -1)
    amount, clock = (np.array([one[name] for one in found]) for name in ("amount_base_minor", "engine_clock"))
    alone = rules_alone(shipped(), X, amount, clock)
    assert [OUTCOMES[at].encode() for at in alone.outcome] == [one["outcome"] for one in found]
    assert [round(one["score_with_rules"], 6) for one in found] == np.round(alone.score * 4 - alone.outcome, 6).tolist()
    assert 5 < np.count_nonzero(alone.outcome) < len(found)


def test_a_file_that_is_no_rule_set_is_refused(tmp_path):
    path = tmp_path / "rules.json"
    path.write_bytes(orjson.dumps({"rules": [{"id": "x"}]}))
    with pytest.raises(ControlRefused):
        shipped(path)
