"""A lake without damage is clean; what was not compared is said; where the auditor cannot look, it says why."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import CommitProperties, DeltaTable
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from audit import belonging, repairs, scoring
from audit.__main__ import main
from audit.findings import Finding
from audit.places import configured, parser, places
from audit.tables import Source
from lakehouse import broker as log
from lakehouse import jobs, topics
from lakehouse import settings as conf
from lakehouse.registry import registry
from tests.audit.little_lake import TABLES, LittleLake, arguments
from tests.lakehouse.records import raw

WHAT = ("lost", "doubled", "altered", "moved", "unknown")


def lines(found):
    """The lines of all hops."""
    return [table for hop in found["hops"] for table in hop["tables"]]


def test_a_lake_without_damage_is_clean_in_every_column(look):
    code, found = look()
    assert (code, found["clean"], found["findings"], found["not_compared"]) == (0, True, [], [])
    assert {line[what] for line in lines(found) for what in (*WHAT, "behind")} == {0}
    assert {line["table"] for line in lines(found)} == {*TABLES, "topic events", "topic decisions", "topic shadow"}


def test_every_term_is_counted_and_amounts_are_summed(lake, look):
    _, found = look()
    rows = {line["table"]: line["rows"] for line in lines(found)}
    for name, held in lake.rows.items():
        assert rows[name] == len(held), name
    sums = {line["table"]: line["amount_minor"] for line in lines(found)}
    assert sums["silver.payments"] == sum(row["amount_base_minor"] for row in lake.rows["silver.payments"])


def test_the_size_of_a_window_changes_nothing(look):
    _, whole = look()
    code, found = look(None, "--window", "7")
    assert code == 0
    assert lines(found) == lines(whole)


def test_people_get_a_table_a_hop(lake, capsys):
    assert main([argument for argument in arguments(lake.settings) if argument != "--json"]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if "->" in line] == [
        "topic events -> bronze.events",
        "bronze.events -> silver",
        "silver.payments -> features.vectors -> gold.features, gold.scores",
        "topic decisions -> bronze.decisions -> silver.decisions -> gold.decisions",
        "topic shadow -> bronze.shadow -> silver.shadow",
    ]
    assert re.search(r"gold\.decisions +17 +[\d,]+ +0 +0 +0 +0 +0 +0 +0\n", out)
    assert out.splitlines()[-1].startswith("clean, ")


@pytest.fixture
def copied(lake, tmp_path):
    """A copy of the tables."""
    return Path(shutil.copytree(lake.root, tmp_path / "lake"))


def test_without_the_key_it_says_what_it_left_out_and_finds_the_rest(lake, copied, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FRAUDLAKE__KEYS__FOLDER", str(tmp_path / "nowhere"))
    at = lake.rows["silver.labels"][0]["offset"]
    DeltaTable(TABLES["silver.labels"].path(str(copied))).update({"label_id": "'another'"}, predicate=f"offset = {at}")
    given = arguments(lake.settings, copied)
    place = given.index("--digest-key")
    code = main([*given[:place], *given[place + 2 :]])
    found = json.loads(capsys.readouterr().out)
    assert code == 1
    assert [note for note in found["not_compared"] if note.startswith("without a digest key")]
    assert [(f["tables"], f["fact"]) for f in found["findings"]] == [(["silver.labels"], "content")]


def test_without_topics_two_tables_that_disagree_are_both_named(lake, copied, look):
    at = lake.rows["silver.labels"][0]["offset"]
    DeltaTable(TABLES["silver.labels"].path(str(copied))).update(
        {"payload_digest": "X'00'"}, predicate=f"offset = {at}"
    )
    _, found = look(copied, "--without-topics")
    assert [(f["tables"], f["examples"]) for f in found["findings"]] == [
        (["silver.labels", "bronze.events"], [{"offset": at}])
    ]
    _, found = look(copied)
    assert [f["tables"] for f in found["findings"]] == [["silver.labels"]]


@pytest.mark.parametrize("more", [(), ("--without-topics",)], ids=["with topics", "without"])
def test_what_the_retention_of_bronze_took_is_no_loss_and_what_it_did_not_take_is(lake, copied, look, more):
    bronze = DeltaTable(TABLES["bronze.events"].path(str(copied)))
    told = json.dumps({"fraudlake_expired": {f"{lake.id[topics.EVENTS]}/0": 20}})
    bronze.delete("offset < 20", commit_properties=CommitProperties({"userMetadata": told}))
    code, found = look(copied, *more)
    assert (code, found["findings"]) == (0, [])
    (note,) = [note for hop in found["hops"] for note in hop["notes"] if "retention of bronze" in note]
    assert "has passed below offset 20" in note
    bronze.delete("offset = 25")
    code, found = look(copied, *more)
    assert (code, [(f["what"], f["tables"], f["examples"]) for f in found["findings"]]) == (
        1,
        [("lost", ["bronze.events"], [{"offset": 25}])],
    )


def test_what_the_topic_no_longer_keeps_and_what_has_not_landed_is_no_loss(broker, settings, capsys):
    lake = LittleLake(settings)
    names = [topics.topic_name(settings, topic) for topic in (topics.EVENTS, topics.DECISIONS)]
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.delete_records({TopicPartition(names[0], 0): 30, TopicPartition(names[1], 0): 8})
    admin.close()
    writer = log.producer(settings)
    writer.produce(names[0], raw("payment", transaction_id="later"), partition=0)
    assert writer.flush(20) == 0
    assert main(arguments(settings)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hops"][0]["notes"] == [
        "partition 0: the topic keeps offsets from 30 on; what is older was compared among the tables only"
    ]
    landed = next(line for line in lines(found) if line["table"] == "bronze.events")
    assert (landed["lost"], landed["behind"]) == (0, 1)
    DeltaTable(TABLES["bronze.events"].path(lake.root)).delete("offset = 3")
    DeltaTable(TABLES["silver.decisions"].path(lake.root)).delete("decision_offset = 2")
    assert main(arguments(settings)) == 1
    found = json.loads(capsys.readouterr().out)
    assert {(f["what"], f["tables"][0]) for f in found["findings"]} >= {("lost", "bronze.events")}
    assert any("silver.decisions" in f["tables"] or "gold.decisions" in f["tables"] for f in found["findings"])


def test_a_refused_record_whose_schema_a_later_release_knows_is_no_finding(look, tmp_path):
    schemas = Path(shutil.copytree(conf.home() / "lakehouse" / "schemas", tmp_path / "schemas"))
    shutil.copy(schemas / "payment.v1.avsc", schemas / "payment.v2.avsc")
    known = json.loads((schemas / "registry.json").read_text())
    # The little lake has refused a record of this id.
    known.append({"subject": "payment", "version": 2, "id": 0x63})
    (schemas / "registry.json").write_text(json.dumps(known))
    code, found = look(None, "--schemas", str(schemas))
    assert (code, found["findings"]) == (0, [])


@pytest.mark.parametrize("more", [(), ("--without-topics",)], ids=["with topics", "without"])
def test_what_a_challenger_said_of_another_payment_is_altered_in_silver(lake, copied, look, more):
    row = lake.rows["silver.shadow"][2]
    table = DeltaTable(TABLES["silver.shadow"].path(str(copied)))
    table.update({"amount_base_minor": "1"}, predicate=f"shadow_offset = {row['shadow_offset']}")
    code, found = look(copied, *more)
    assert code == 1
    assert {tuple(f["tables"]) for f in found["findings"]} == {("silver.shadow",)}
    assert [{"offset": row["offset"]}] in [f["examples"] for f in found["findings"]]


def test_of_a_challenger_what_the_topic_no_longer_keeps_is_compared_with_bronze(broker, settings, capsys):
    lake = LittleLake(settings)
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.delete_records({TopicPartition(topics.topic_name(settings, topics.SHADOW), 0): 3})
    admin.close()
    assert main(arguments(settings)) == 0
    capsys.readouterr()
    DeltaTable(TABLES["bronze.shadow"].path(lake.root)).delete("offset = 1")
    silver = TABLES["silver.shadow"].path(lake.root)
    DeltaTable(silver).update({"shadow_offset": "0"}, predicate="shadow_offset = 2")
    assert main(arguments(settings)) == 1
    found = json.loads(capsys.readouterr().out)
    assert {(f["what"], f["tables"][0], f["examples"][0]["offset"]) for f in found["findings"]} == {
        ("lost", "bronze.shadow", 1),
        ("doubled", "silver.shadow", 0),
    }


def test_an_engine_whose_start_nobody_keeps_is_in_office_and_a_decision_that_is_dropped_is_found(
    broker, settings, capsys
):
    lake = LittleLake(settings)
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.delete_records({TopicPartition(topics.topic_name(settings, topics.DECISIONS), 0): 3})
    admin.close()
    told = json.dumps({"fraudlake_expired": {f"{lake.id[topics.DECISIONS]}/0": 2}})
    bronze = DeltaTable(TABLES["bronze.decisions"].path(lake.root))
    bronze.delete("offset < 2", commit_properties=CommitProperties({"userMetadata": told}))
    # An older release wrote what bronze alone still has.
    bronze.update({"schema_id": str(registry().versions("decision")[0].id)}, predicate="offset = 2")
    for more in ((), ("--without-topics",), ("--window", "3")):
        code = main([*arguments(settings), *more])
        assert (code, json.loads(capsys.readouterr().out)["findings"]) == (0, []), more
    dropped = lake.rows["silver.decisions"][3]
    DeltaTable(TABLES["silver.decisions"].path(lake.root)).delete(f"decision_offset = {dropped['decision_offset']}")
    assert main(arguments(settings)) == 1
    found = json.loads(capsys.readouterr().out)
    assert ("lost", ["silver.decisions"], [{"offset": dropped["decision_offset"]}]) in [
        (f["what"], f["tables"], f["examples"]) for f in found["findings"]
    ]


def test_a_decision_that_silver_and_gold_lack_is_lost_though_no_topic_tells_of_it_any_more(lake, copied, look):
    row = lake.rows["silver.decisions"][4]
    for name in ("silver.decisions", "gold.decisions"):
        DeltaTable(TABLES[name].path(str(copied))).delete(f"`offset` = {row['offset']}")
    code, found = look(copied, "--without-topics")
    told = [(f["what"], f["fact"], f["tables"], f["examples"]) for f in found["findings"]]
    expected = ("lost", "decisions of live payments", ["silver.decisions"], [{"offset": row["offset"]}])
    assert (code, told) == (1, [expected])


def refused(capsys, *given):
    """What it says when it cannot look."""
    assert main(given) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_it_says_why_it_cannot_look(lake, tmp_path, capsys):
    good = arguments(lake.settings)
    assert "There is no lake at" in refused(capsys, *good, "--lake", str(tmp_path))
    assert "There is no topic nothing" in refused(capsys, *good, "--events", "nothing")
    assert "does not answer" in refused(capsys, *good, "--bootstrap-servers", "127.0.0.1:1")
    assert "the topic was replaced" in refused(capsys, *good, "--events", good[good.index("--decisions") + 1])
    assert "There is no " in refused(capsys, *good, "--digest-key", str(tmp_path / "none"))
    key = tmp_path / "other.key"
    key.write_text("A" * 43 + "=")
    assert "chmod 600" in refused(capsys, *good, "--digest-key", str(key))
    key.chmod(0o600)
    assert "names the keyring of this lake" in refused(capsys, *good, "--digest-key", str(key))


def test_a_table_that_cannot_be_read_is_a_reason_and_no_finding(lake, copied, capsys):
    path = Path(DeltaTable(TABLES["gold.scores"].path(str(copied))).file_uris()[0])
    path.write_bytes(path.read_bytes()[:100])
    assert "gold.scores cannot be read" in refused(capsys, *arguments(lake.settings, copied))
    path.unlink()
    assert "gold.scores cannot be read" in refused(capsys, *arguments(lake.settings, copied))


@pytest.mark.parametrize("env", ["local", "test", "prod"])
def test_it_looks_where_every_process_looks(env, monkeypatch):
    monkeypatch.delenv("FRAUDLAKE_ENV")
    settings = conf.load(env)
    found = places(parser().parse_args(["--env", env]))
    assert found.bootstrap_servers == settings.kafka.bootstrap_servers
    assert (found.events, found.decisions) == tuple(
        topics.topic_name(settings, topic) for topic in (topics.EVENTS, topics.DECISIONS)
    )
    assert found.root == conf.lake_root(settings)
    assert configured(env)["gold"] == settings.gold.model_dump()


ALL = (
    *("bronze.events", "bronze.decisions", "bronze.shadow", "silver.balance", "silver.decisions", "silver.shadow"),
    "gold.decisions",
)


@pytest.mark.parametrize("table", [*ALL, *belonging.TABLES, *scoring.TABLES])
@pytest.mark.parametrize("what", WHAT)
def test_every_repair_is_a_command_that_exists(table, what):
    finding = Finding("a hop", what, table, "rows", "another", False, Source("T", 0), 1, 5, 9)
    command = repairs.command(finding, "lake")
    modules = re.findall(r"python -m ([a-z.]+)((?: --[a-z-]+(?: \d+)?)+)", command)
    assert modules, command
    for module, flags in modules:
        assert (conf.home() / (module.replace(".", "/") + ".py")).exists()
        jobs.parser(module, None).parse_args(shlex.split(flags))


def test_it_loads_no_room_and_no_spark():
    rooms = sorted(path.parent.name for path in conf.home().glob("*/__init__.py") if path.parent.name != "audit")
    code = f"import sys, audit.__main__; sys.exit(bool({{'pyspark', *{rooms!r}}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
