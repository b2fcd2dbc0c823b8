"""The control tool for rules, lists, suppressions and thresholds, on a real log."""

import os
import subprocess
import sys

import orjson
import pytest

from decisions.control import past
from decisions.rule_control import checked
from expectations.rules.thresholds import Exploration
from lakehouse import broker as log
from lakehouse import keys, signing, topics, trail
from lakehouse.crypto import Tokens
from lakehouse.errors import RuleRefused
from lakehouse.settings import home

RULES = home() / "conf" / "rules.json"
CARD = "4111111111111111"


@pytest.fixture
def world(broker, settings):
    topics.ensure(settings)
    return settings


def run(settings, *arguments, stdin=""):
    env = {**os.environ, "FRAUDLAKE__KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix}
    env["FRAUDLAKE__LAKE__ROOT"] = settings.lake.root
    command = [sys.executable, "-m", "decisions.control", *arguments]
    done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def now(settings):
    return past(settings, signing.trust(settings.keys.folder)).now


def with_rules(folder, change):
    """The shipped rules with one change, as a file."""
    content = orjson.loads(RULES.read_bytes())
    change(content["rules"])
    path = folder / "rules.json"
    path.write_bytes(orjson.dumps(content))
    return str(path)


def test_rules_are_checked_before_anything_is_signed(tmp_path):
    assert checked(str(RULES)).splitlines()[1].split() == [
        *("testing-small-burst@1", "active", "review", "CARD_TESTING", "fraud-strategy"),
    ]

    def two_mistakes(rules):
        rules[0]["sql"] = "card_tx_count_24h > 1\n AND channel = 3"
        rules[1]["tests"]["not_matching"] = rules[1]["tests"]["matching"]

    with pytest.raises(RuleRefused) as refused:
        checked(with_rules(tmp_path, two_mistakes))
    assert str(refused.value).splitlines() == [
        "Rule takeover-new-device: At line 2, column 16: this is a number, and what stands beside it a text.",
        "Rule testing-small-burst: not_matching test 1 fires.",
    ]


def test_an_active_rule_needs_a_test_of_both_kinds(tmp_path):
    with pytest.raises(RuleRefused, match="takeover-new-device is active and has no not matching test"):
        checked(with_rules(tmp_path, lambda rules: rules[0]["tests"].update(not_matching=[])))
    checked(
        with_rules(tmp_path, lambda rules: rules[0].update(state="draft", tests={"matching": [], "not_matching": []}))
    )


def test_rules_come_into_force_say_what_they_use_and_go_back(world, tmp_path):
    assert run(world, "rules", "activate", str(RULES))[0] == 0
    fewer = with_rules(tmp_path, lambda rules: rules.pop())
    assert run(world, "rules", "activate", fewer)[0] == 0
    assert "bust-out-spending" not in run(world, "rules", "show")[1]
    changed = with_rules(tmp_path, lambda rules: rules[0].update(action={"outcome": "review"}))
    status, _, why = run(world, "rules", "activate", changed)
    assert (status, why.splitlines()[-1]) == (
        1,
        "ControlRefused: Rule takeover-new-device@1 was changed under its old version. Raise its version.",
    )
    status, said, _ = run(world, "rollback", "--scope", "rules", "--to-version", "1")
    assert (status, said.startswith("rules version 3 ")) == (0, True)
    assert "bust-out-spending" in run(world, "rules", "show")[1]
    assert run(world, "rules", "uses", "card_speed_kmh")[1].split() == [
        *("card_speed_kmh", "feature", "travel-impossible-speed@1", "(active)"),
    ]


def test_a_card_on_a_list_is_a_token_everywhere(world):
    status, _, _ = run(
        world, "lists", "add", "--list", "block", "--kind", "card", "--reason", "stolen", stdin=f"{CARD}\n"
    )
    token = Tokens(keys.source(world).keyring()).text(
        Tokens(keys.source(world).keyring()).digests("card", [CARD.encode()])[0]
    )
    assert status == 0
    assert now(world).entries["lists"].by_key == {("card", token, "block"): ("stolen", 1 << 62)}
    name = topics.topic_name(world, topics.EVENTS)
    records = b"".join(m.value() or b"" for m in log.read_range(world, name, 0, 0, log.watermarks(world, name, 0)[1]))
    told = "".join(str(entry) for entry in trail.entries(trail.place_of(world)))
    assert token.encode() in records
    assert CARD.encode() not in records
    assert CARD not in told
    assert run(world, "lists", "show")[1] == f"card {token} block  for ever  stolen\n"
    assert run(world, "lists", "remove", "--list", "block", "--kind", "card", stdin=token)[0] == 0
    assert run(world, "lists", "show")[1] == "no lists are in force\n"


def test_suppressions_and_thresholds_come_into_force(world):
    until = ("--until", "2099-01-01T00:00:00Z", "--reason", "travels")
    assert run(world, "suppress", "add", "--rule", "bust-out-spending", *until, stdin="customer-7")[0] == 0
    assert "bust-out-spending  until" in run(world, "suppress", "show")[1]
    cuts = ("--challenge", "0.3", "--review", "0.5", "--decline", "0.8")
    assert run(world, "thresholds", *cuts)[0] == 0
    assert now(world).cuts == {"challenge": 0.3, "review": 0.5, "decline": 0.8}
    status, _, why = run(world, "thresholds", "--challenge", "0.9", "--review", "0.5", "--decline", "0.8")
    assert (status, "The cuts must rise" in why) == (1, True)
    assert now(world).exploration is None
    assert run(world, "thresholds", *cuts, "--explore-share", "0.02", "--explore-up-to-minor", "3000")[0] == 0
    assert now(world).exploration == Exploration(0.02, 3000)
    assert "belong together" in run(world, "thresholds", *cuts, "--explore-share", "0.02")[2]
    assert run(world, "thresholds", *cuts)[0] == 0
    assert now(world).exploration is None
