"""Rules, lists, suppressions and thresholds in the engine: what acts, what is only named, and from when on."""

import logs
import models
import numpy as np
import orjson
import pytest
from ruled import rule

from features import snapshot, store
from lakehouse import keys
from lakehouse.crypto import Tokens
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.single import read

NEVER_CUTS = {"challenge": 0.999998, "review": 0.999999, "decline": 1.0}


def rule_set(*rules):
    return orjson.dumps({"rules": rules}).decode()


def delta(add=(), remove=()):
    return orjson.dumps({"add": list(add), "remove": list(remove)}).decode()


def entry(name, kind, token, expires_at=None):
    return {"list": name, "kind": kind, "token": token, "reason": "a test", "expires_at": expires_at}


class Log:
    """Values of a log under construction: control events in a chain, and payments."""

    def __init__(self, settings, scratch):
        self.settings, self.versions, self.values = settings, {}, []
        digest = models.stored(settings.models.store, scratch, logs.keys_folder(settings), cuts=NEVER_CUTS)
        self.put("reference", logs.reference())
        self.values += logs.model(settings, self.versions, digest)

    def put(self, scope, payload):
        self.values.append(logs.control(self.settings, self.versions, scope, payload))
        return self

    def pay(self, values):
        self.values += values
        return self

    @property
    def messages(self):
        return logs.messages(self.values)

    def decided(self):
        return logs.columns(logs.decided(logs.engine(self.settings), self.messages))


@pytest.fixture
def log(settings, tmp_path):
    return Log(settings, tmp_path / "scratch")


@pytest.fixture(scope="module")
def few():
    return logs.payments(per_day=100, span=1)


def person(settings, value, kind="customer", field="customer_id"):
    """The token of who made a payment."""
    schema = next(s for s in registry().schemas if s.prefix == value[:PREFIX_BYTES])
    tokens = Tokens(keys.source(settings).keyring())
    return tokens.text(tokens.digests(kind, [read(schema, value)[field].encode()])[0])


def first_payment(values):
    return next(v for v in values if v[:PREFIX_BYTES] == registry().latest("payment").prefix)


def test_an_active_rule_acts_and_a_shadow_rule_is_only_named(log, few):
    log.put("rules", rule_set(rule("acts"), rule("looks", action={"outcome": "decline"}, state="shadow")))
    found = log.pay(few).decided()
    assert {one["outcome"] for one in found} == {b"review"}
    assert all(one["rules_fired"] == ["acts@1"] and one["rules_shadow"] == ["looks@1"] for one in found)
    assert all(one["reason_codes"] == ["ACTS"] for one in found)


def test_drafts_and_retired_rules_are_not_evaluated(log, few):
    log.put("rules", rule_set(rule("one", state="draft"), rule("other", state="retired")))
    found = log.pay(few).decided()
    assert {(one["outcome"], tuple(one["rules_fired"]), tuple(one["rules_shadow"])) for one in found} == {
        (b"approve", (), ())
    }


def test_the_most_severe_outcome_wins_and_a_score_is_added_within_one(log, few):
    rules = [rule("a", action={"outcome": "challenge"}), rule("b", "channel = 'ecom'", {"outcome": "decline"})]
    log.put("rules", rule_set(*rules, rule("c", action={"score": 0.25}), rule("d", action={"score": 1})))
    found = log.pay(few).decided()
    remote = {tuple(one["rules_fired"]) for one in found}
    assert remote == {("a@1", "c@1", "d@1"), ("a@1", "b@1", "c@1", "d@1")}
    assert all(one["score_with_rules"] == 1.0 and one["score"] < 1 and one["risk"] == b"critical" for one in found)
    assert {one["outcome"] for one in found} == {b"decline"}


def test_thresholds_in_force_replace_the_cuts_of_the_model(log, few):
    log.pay(few[: len(few) // 2])
    log.put("thresholds", orjson.dumps({"cuts": {"challenge": 1e-6, "review": 1e-6, "decline": 1}}).decode())
    at = len(log.values)
    found = log.pay(few[len(few) // 2 :]).decided()
    assert {one["outcome"] for one in found if one["offset"] < at} == {b"approve"}
    assert {one["outcome"] for one in found if one["offset"] >= at} == {b"review"}


def test_a_block_list_declines_and_an_allow_list_approves_unless_a_rule_declines(log, few):
    who = person(log.settings, first_payment(few))

    def outcomes(*lists, action="review"):
        one = Log(log.settings, log.settings.models.store.parent / "again")
        one.put("rules", rule_set(rule("all", action={"outcome": action})))
        one.put("lists", delta(entry(name, "customer", who) for name in lists))
        hit = [d for d in one.pay(few).decided() if d["lists_hit"]]
        assert {d["customer_token"].decode() for d in hit} == {who}
        return {(d["outcome"].decode(), *d["lists_hit"], *d["reason_codes"]) for d in hit}

    assert outcomes("block") == {("decline", "block:customer", "LIST_BLOCK", "ALL")}
    assert outcomes("allow") == {("approve", "allow:customer", "LIST_ALLOW", "ALL")}
    assert outcomes("allow", action="decline") == {("decline", "allow:customer", "LIST_ALLOW", "ALL")}
    both = ("decline", "allow:customer", "block:customer", "LIST_BLOCK", "LIST_ALLOW", "ALL")
    assert outcomes("allow", "block") == {both}
    assert outcomes("watch") == {("review", "watch:customer", "ALL")}


def test_rules_see_who_is_on_a_list_until_the_engines_clock_reaches_its_end(log, few):
    found = log.pay(few).decided()
    clocks = sorted({one["engine_clock"] for one in found})
    middle = clocks[len(clocks) // 2]
    again = Log(log.settings, log.settings.models.store.parent / "again")
    shops = sorted({one["merchant_id"].decode() for one in found})
    again.put("lists", delta(entry("watch", "merchant", shop, middle) for shop in shops))
    test = {"matching": [{"merchant_on_watch_list": True}], "not_matching": [{"merchant_on_watch_list": False}]}
    again.put("rules", rule_set(rule("watched", "merchant_on_watch_list", tests=test)))
    fired = {one["engine_clock"]: bool(one["rules_fired"]) for one in again.pay(few).decided()}
    assert all(fires == (clock < middle) for clock, fires in fired.items())


def test_a_rule_counts_within_its_time_on_the_engines_clock(log, few):
    clocks = sorted({one["engine_clock"] for one in log.pay(few).decided()})
    since, until = clocks[len(clocks) // 3], clocks[len(clocks) // 2]
    again = Log(log.settings, log.settings.models.store.parent / "again")
    again.put("rules", rule_set(rule("timed", valid_from=since, valid_to=until)))
    for one in again.pay(few).decided():
        assert bool(one["rules_fired"]) == (since <= one["engine_clock"] < until)


def test_a_suppressed_rule_is_named_and_does_nothing(log, few):
    who = person(log.settings, first_payment(few))
    log.put("rules", rule_set(rule("all")))
    log.put("suppressions", delta([{"customer": who, "rule": "all", "reason": "travels", "until": 4_000_000_000_000}]))
    found = log.pay(few).decided()
    mine = [one for one in found if one["customer_token"].decode() == who]
    assert {(one["outcome"], *one["rules_suppressed"], *one["rules_fired"]) for one in mine} == {(b"approve", "all@1")}
    assert {one["outcome"] for one in found if one not in mine} == {b"review"}


def test_what_is_removed_from_a_list_counts_no_more(log, few):
    who = person(log.settings, first_payment(few))
    gone = [{"list": "block", "kind": "customer", "token": who}]
    log.put("lists", delta([entry("block", "customer", who)])).put("lists", delta(remove=gone))
    assert {one["outcome"] for one in log.pay(few).decided()} == {b"approve"}


def _changing(log, values):
    """Payments with changes of every scope between them."""
    who = person(log.settings, first_payment(values))
    pieces = np.array_split(np.arange(len(values)), 6)
    changes = [
        ("rules", rule_set(rule("one", "card_tx_count_24h > 1 OR channel = 'ecom'"))),
        ("lists", delta([entry("block", "customer", who), entry("watch", "merchant", "m")])),
        ("thresholds", orjson.dumps({"cuts": {"challenge": 0.1, "review": 0.2, "decline": 0.9}}).decode()),
        ("suppressions", delta([{"customer": who, "rule": "one", "reason": "x", "until": 4_000_000_000_000}])),
        ("rules", rule_set(rule("one", version=2), rule("two", "merchant_country <> 'DE'", {"score": 0.1}))),
    ]
    for piece, change in zip(pieces, [None, *changes], strict=True):
        if change:
            log.put(*change)
        log.pay([values[i] for i in piece])
    return log.messages


def test_with_changes_of_every_scope_between_payments_no_cut_changes_a_byte(log, seed):
    messages = _changing(log, logs.payments(faults=1))
    whole = logs.decided(logs.engine(log.settings), messages)
    random = np.random.default_rng(seed)
    cuts = np.sort(random.integers(1, len(messages), 20)).tolist()
    assert logs.decided(logs.engine(log.settings), messages, cuts) == whole, f"seed {seed}"
    assert logs.decided(logs.engine(log.settings), messages, range(1, len(messages))) == whole
    digests = [one["control_digest"] for one in logs.columns(whole)]
    assert len(set(digests)) == 6


def test_with_changes_of_every_scope_a_restart_changes_nothing(log, seed, tmp_path):
    messages = _changing(log, logs.payments(faults=1))
    whole = logs.decided(logs.engine(log.settings), messages)
    for place in np.random.default_rng(seed).integers(10, len(messages) - 10, 3).tolist():
        first = logs.engine(log.settings)
        before = logs.decided(first, messages[:place])
        path = tmp_path / snapshot.file_name(place)
        snapshot.write(path, *store.saved(first.state))
        second = logs.engine(log.settings, store.load(path, log.settings, logs.TOPIC_ID))
        assert before + logs.decided(second, messages[place:]) == whole, f"seed {seed}, place {place}"


def test_a_rule_set_that_is_refused_changes_nothing(log, few):
    log.put("rules", rule_set(rule("good", version=3)))
    good = log.versions["rules"]
    for wrong in (rule("bad", "no_such_column > 1"), rule("good", "channel = 'pos'", version=3)):
        log.put("rules", rule_set(wrong))
        log.versions["rules"] = good
    assert {tuple(one["rules_fired"]) for one in log.pay(few).decided()} == {("good@3",)}
