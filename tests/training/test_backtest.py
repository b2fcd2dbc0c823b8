"""A backtest decides the past as the engine did; what is changed changes the payments that it should, and no other."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from decisions import bundle
from decisions.exploration import key_of
from decisions.keeping import folders
from decisions.past import Past
from decisions.shelf import Shelf
from decisions.stages import Stages
from expectations.rules.rule_set import RuleSet
from features import snapshot
from lakehouse import keys
from lakehouse.signing import signer
from tests.decisions import logs, models
from tests.decisions.ruled import rule
from tests.training.backtested import LARGE, LARGER, LOOKED_AT, REMOTE, made, payload
from training.backtest import main
from training.interval import interval
from training.policy import Changes, Judge


@pytest.fixture(scope="module")
def world(broker, new_settings, context, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backtest")
    settings = new_settings(folder)
    training = settings.training.model_copy(update={"label_gap_d": 0})
    settings = settings.model_copy(update={"training": training})
    return made(settings, context(settings), folder / "scratch")


NOTHING = Changes()


def judged(world, changes=NOTHING, start=None, end=None):
    """(offset, was, is, stretch, row) of every payment of an interval."""
    settings = world.settings
    root = settings.lake.root
    past = Past(settings, root, interval(root, start, end).span, [], Stages())
    draws = key_of(keys.source(settings).keyring())
    judge = Judge(Shelf.of(settings), settings.ladder, draws, NOTHING, changes, Stages())
    for stretch in past.stretches():
        before, after = judge.both(stretch)
        for row, offset in enumerate(stretch.offset.tolist()):
            yield offset, before, after, stretch, row


FIELDS = {"rules_fired": "fired", "rules_shadow": "shadow", "rules_suppressed": "suppressed"}
FIELDS |= {"reason_codes": "codes", "lists_hit": "lists"}


def body(found, stretch, row):
    """What a decision's body says of a verdict."""
    names = ("score", "score_xgboost", "score_isolation_forest", "score_with_rules")
    return {
        **{name: found.score[at, row] for at, name in enumerate(names)},
        **{name: getattr(found.ruling, of).get(row, []) for name, of in FIELDS.items()},
        "outcome": found.outcome[row],
        "risk": found.risk[row],
        "vector": stretch.payments.vectors[row].tobytes(),
        "explored_from": found.explored_from.get(row),
        "amount_base_minor": int(stretch.payments.amount_base_minor[row]),
    }


def test_without_a_change_every_decision_is_the_one_that_the_topic_has(world):
    rebuilt = {offset: body(before, stretch, row) for offset, before, _, stretch, row in judged(world)}
    accepted = {at: one for at, one in world.decided.items() if one["outcome"] != "rejected"}
    assert {one["rung"] for one in accepted.values()} == {"full"}
    assert rebuilt.keys() == accepted.keys()
    for offset, one in accepted.items():
        assert rebuilt[offset] == {name: one[name] for name in rebuilt[offset]}, offset
    told = accepted.values()
    assert len({one["control_digest"] for one in told}) >= 3
    assert len({one["model_digest"] for one in told}) == 2
    assert {one["outcome"] for one in told} == {"approve", "challenge", "review", "decline"}
    for name in (*FIELDS, "explored_from"):
        assert any(one[name] for one in told), name


def before_the_change(world, changes):
    """(offset, outcome before, outcome with the changes) of what was decided under the first rules."""
    for at, was, now, _, row in judged(world, changes):
        if at < world.changed_at:
            yield at, was.outcome[row], now.outcome[row]


def test_a_rule_that_declines_from_an_amount_on_declines_these_payments_and_changes_no_other(world):
    ban = rule("ban", "amount_base_minor >= 30000", {"outcome": "decline"})
    found = list(before_the_change(world, Changes(rules=RuleSet.of(payload(LARGE, REMOTE, LOOKED_AT, ban)))))
    changed = {at: (was, now) for at, was, now in found if was != now}
    large = {
        at
        for at, was, _ in found
        if world.decided[at]["amount_base_minor"] >= 30_000 and not world.decided[at]["lists_hit"] and was != "decline"
    }
    assert changed == dict.fromkeys(large, ("review", "decline"))
    assert len(large) > 3


def test_another_model_gives_its_own_scores_and_leaves_what_rules_say(world):
    model = Shelf.of(world.settings).loaded(world.decided[max(world.decided)]["model_digest"])
    differs = 0
    for at, was, now, stretch, row in judged(world, Changes(model=model)):
        alone = model.scores(stretch.payments.vectors[row : row + 1]).ensemble[0]
        assert now.score[0, row] == alone
        assert now.ruling.fired.get(row) == was.ruling.fired.get(row)
        differs += at < world.changed_at and now.score[0, row] != was.score[0, row]
    assert differs > 100


def test_with_other_thresholds_the_same_score_means_something_else(world):
    cuts = {"challenge": 0.0, "review": 1.0, "decline": 1.0}
    for at, was, now, _, row in judged(world, Changes(cuts=cuts)):
        assert (now.score[:3, row] == was.score[:3, row]).all()
        said = world.decided[at]
        if not said["lists_hit"] and "LARGE" not in said["reason_codes"] and not said["explored_from"]:
            assert now.outcome[row] == "challenge"


def test_nothing_behind_a_payment_changes_its_features(world):
    whole = {at: stretch.payments.vectors[row].tobytes() for at, _, _, stretch, row in judged(world)}
    root = world.settings.lake.root
    span = replace(interval(root, None, None).span, end=world.changed_at)
    cut = [
        (at, vector.tobytes())
        for stretch in Past(world.settings, root, span, [], Stages()).stretches()
        for at, vector in zip(stretch.offset.tolist(), stretch.payments.vectors, strict=True)
    ]
    assert len(cut) > 200
    assert dict(cut) == {at: vector for at, vector in whole.items() if at < world.changed_at}


def test_an_interval_within_is_the_same_from_a_snapshot_and_from_nothing(world):
    (clock,) = {one["engine_clock"] for at, one in world.decided.items() if at == first_behind(world)}
    over = interval(world.settings.lake.root, clock, None).span
    whole = {at: one for at, one in world.decided.items() if at >= over.start}
    assert min(whole) == over.start
    assert world.changed_at in map(snapshot.position, snapshot.newest(folders(world.settings)))
    for base in ([], folders(world.settings)):
        past = Past(world.settings, world.settings.lake.root, over, base, Stages())
        found = {
            at: (vector.tobytes(), stretch.in_force.digest)
            for stretch in past.stretches()
            for at, vector in zip(stretch.offset.tolist(), stretch.payments.vectors, strict=True)
        }
        assert found == {at: (one["vector"], one["control_digest"]) for at, one in whole.items()}


def first_behind(world):
    """Offset of the first payment behind the change of rules."""
    return min(at for at in world.decided if at > world.changed_at)


@pytest.fixture
def command(world, monkeypatch, capsys):
    """Runs the command over the world; (exit code, standard output, standard error)."""
    of = world.settings
    values = {
        "LAKE__ROOT": of.lake.root,
        "FEATURES__SNAPSHOT_FOLDER": of.features.snapshot_folder,
        "MODELS__STORE": of.models.store,
        "ENGINE__STATE_FOLDER": of.engine.state_folder,
        "TRAINING__LABEL_GAP_D": of.training.label_gap_d,
    }
    for name, value in values.items():
        monkeypatch.setenv(f"FRAUDLAKE__{name}", str(value))

    def run(*arguments):
        code = main(list(map(str, arguments)))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_the_command_reports_both_policies_their_difference_and_each_rule(world, command, tmp_path):
    ban = rule("ban", "amount_base_minor >= 30000", {"outcome": "decline"})
    file = tmp_path / "new.json"
    file.write_text(payload(LARGE, REMOTE, LOOKED_AT, ban))
    code, out, _ = command("--rules", file, "--json")
    assert code == 0
    told = json.loads(out)
    accepted = [one for one in world.decided.values() if one["outcome"] != "rejected"]
    assert told["payments"] == len(accepted) == told["matured"] + told["not_matured"]
    assert told["frauds"] >= 1
    for name, count in told["original"]["outcomes"].items():
        assert count == sum(one["outcome"] == name for one in accepted)
    for one, row in told["shifts"].items():
        assert sum(row.values()) == told["original"]["outcomes"][one]
    fired = {one["rule"]: one for one in told["changed_rules"]}
    large = [one for one in accepted if one["amount_base_minor"] >= 30_000]
    assert (fired["ban@1"]["new"], fired["ban@1"]["fired"]) == (True, len(large))
    assert fired["ban@1"]["stopped_already"] == sum(one["outcome"] != "approve" for one in large)
    assert fired["ban@1"]["overlap"]["large@1"] == len(large)
    assert fired["looked-at@1"]["state"] == "shadow"
    saved = told["changed"]["net_minor"] - told["original"]["net_minor"]
    difference = told["difference"]["net_minor"]
    assert difference["value"] == pytest.approx(saved)
    assert difference["low"] <= difference["value"] <= difference["high"]
    assert told["original"]["review_hours"] == pytest.approx(told["original"]["outcomes"]["review"] * 5 / 60)
    assert "patterns_unknown" in told
    code, out, _ = command("--rules", file)
    assert code == 0
    assert "*ban@1" in out


def test_a_truth_file_names_the_patterns_of_frauds(world, command, tmp_path):
    ids = [one["transaction_id"] for at, one in sorted(world.decided.items())][:3]
    truth = tmp_path / "truth.parquet"
    pq.write_table(pa.table({"transaction_id": ids, "scenario": ["card_testing", None, "bust_out"]}), truth)
    told = json.loads(command("--truth", truth, "--json")[1])
    assert {name: one["frauds"] for name, one in told["patterns"].items()} == {"bust_out": 1, "card_testing": 1}
    truth.write_bytes(b"no Parquet")
    assert "--truth takes Parquet" in refused(command, "--truth", truth)


def test_beside_what_is_in_force_now_the_same_rules_change_nothing(command, tmp_path):
    file = tmp_path / "now.json"
    file.write_text(payload(LARGER, REMOTE))
    told = [json.loads(command("--rules", file, "--original", one, "--json")[1]) for one in ("then", "now")]
    assert told[0]["original"] != told[0]["changed"]
    assert told[1]["original"] == told[1]["changed"]
    assert {one["rule"] for one in told[1]["original_rules"]} == {"large@2", "remote@1"}


def refused(command, *arguments):
    """What the command says on its way out with 2."""
    code, out, said = command(*arguments)
    assert (code, out) == (2, "")
    return said.splitlines()[-1]


def test_what_cannot_be_taken_again_is_refused_by_name(command):
    late, early = "2100-01-01T00:00:00Z", "1999-01-01T00:00:00Z"
    assert "is not after --start" in refused(command, "--start", late, "--end", early)
    assert "Silver has payments from" in refused(command, "--end", early)
    assert "Silver has payments from" in refused(command, "--start", late)


def test_rules_that_do_not_parse_are_refused_with_their_place(command, tmp_path):
    file = tmp_path / "rules.json"
    file.write_text(payload(rule("bad", "amount_base_minor >=", {"outcome": "review"})))
    assert "Rule bad: At line 1, column 19: this is not a SQL expression" in refused(command, "--rules", file)
    file.write_text("{")
    assert "cannot be read" in refused(command, "--rules", file)


def test_a_model_that_is_unsigned_altered_or_of_another_feature_set_is_refused(world, command, tmp_path):
    store, key_folder = world.settings.models.store, logs.keys_folder(world.settings)
    digest = models.stored(store, tmp_path, key_folder, 3, note="another")
    mend = models.altered(world.settings, digest, bundle.XGBOOST)
    assert "xgboost.json was altered" in refused(command, "--model", digest)
    mend()
    (store / digest / bundle.SIGNATURE).unlink()
    assert f"{bundle.SIGNATURE} is missing" in refused(command, "--model", digest)
    manifest = json.loads((store / digest / bundle.MANIFEST).read_bytes()) | {"feature_set": "0" * 64}
    files = {name: (store / digest / name).read_bytes() for name in manifest.pop("files")}
    other = bundle.write(store, files, manifest, signer(key_folder / "author.pem"))
    assert "another feature set" in refused(command, "--model", other)
    assert "is missing" in refused(command, "--model", "f" * 64)
