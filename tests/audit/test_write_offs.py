"""What Kafka deleted before bronze had it is lost until somebody accepts it; then it is shown as written off."""

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import CommitProperties, DeltaTable

from audit.__main__ import main
from lakehouse import broker as log
from lakehouse import delta, topics
from lakehouse.contracts.lake import WRITE_OFFS
from tests.audit.little_lake import LIVE_FROM, TABLES, LittleLake, arguments
from tests.lakehouse.records import raw


@dataclass(frozen=True)
class Gone:
    """A lake of which topics `decisions` and `shadow` have forgotten a range that bronze had not read."""

    lake: LittleLake
    decisions: tuple[int, int]
    shadow: tuple[int, int]
    payments: int
    """How many lost their only decision."""


@pytest.fixture(scope="module")
def gone(broker, new_settings, tmp_path_factory):
    settings = new_settings(tmp_path_factory.mktemp("gone"))
    lake = LittleLake(settings)
    held = lake.rows["silver.decisions"]
    starts = sorted({row["epoch"] for row in held})
    # The second engine's start is in it, and decisions of both engines around it.
    lost = (starts[1] - 2, starts[1] + 3)
    writer = log.producer(settings)
    # One that begins far back, after everything was decided.
    value = raw("engine_start", topic_id=lake.id[topics.EVENTS], next_offset=LIVE_FROM)
    writer.produce(topics.topic_name(settings, topics.DECISIONS), value, partition=0)
    assert writer.flush(20) == 0
    for topic, low in ((topics.DECISIONS, lost[1]), (topics.SHADOW, 3)):
        log.delete_below(settings, topics.topic_name(settings, topic), 0, low)
    here = [row for row in held if lost[0] <= row["decision_offset"] < lost[1]]
    _delete(lake.root, "bronze.decisions", "offset", *lost)
    _delete(lake.root, "silver.decisions", "decision_offset", *lost)
    for row in here:
        _delete(lake.root, "gold.decisions", "offset", row["offset"], row["offset"] + 1)
    _delete(lake.root, "bronze.shadow", "offset", 1, 3)
    _delete(lake.root, "silver.shadow", "shadow_offset", 1, 3)
    return Gone(lake, lost, (1, 3), len(here))


@pytest.fixture
def copied(gone, tmp_path):
    """A copy of its tables."""
    return Path(shutil.copytree(gone.lake.root, tmp_path / "lake"))


def _delete(root, name, column, start, end, **told):
    properties = CommitProperties({"userMetadata": json.dumps(told)}) if told else None
    where = f"`{column}` >= {start} AND `{column}` < {end}"
    DeltaTable(TABLES[name].path(str(root))).delete(where, commit_properties=properties)


def _accept(lake, root, topic, start, end):
    row = {"topic_id": lake.id[topic], "partition": 0, "start_offset": start, "end_offset": end}
    who = {"actor": "ada@lake-1", "reason": "the disk was full", "written_off_at": datetime(2026, 3, 2, tzinfo=UTC)}
    delta.append(str(root), WRITE_OFFS, [{**row, **who, "place": f"bronze.{topic}"}])


def _look(lake, root, capsys, *more):
    code = main([*arguments(lake.settings, root), *more])
    return code, json.loads(capsys.readouterr().out)


def _found(found):
    return [(f["what"], f["tables"], f["from_offset"], f["to_offset"], f["repair"]) for f in found["findings"]]


def _written_off(found):
    lines = [line for hop in found["hops"] for line in hop["tables"]]
    return {line["table"]: line["written_off"] for line in lines if line["written_off"]}


def test_what_nobody_accepted_is_lost_and_the_repair_is_to_accept_it(gone, copied, capsys):
    code, found = _look(gone.lake, copied, capsys)
    accept = "python -m bronze.write_offs --topic {}   # Kafka has no record of them any more"
    told = {(what, *tables): (start, end, repair) for what, tables, start, end, repair in _found(found)}
    assert code == 1
    assert told["lost", "bronze.decisions"] == (*gone.decisions, accept.format("decisions"))
    assert told["lost", "bronze.shadow"] == (*gone.shadow, accept.format("shadow"))
    assert ("lost", "silver.decisions") in told
    assert _written_off(found) == {}


@pytest.mark.parametrize("more", [(), ("--without-topics",), ("--window", "3")])
def test_what_was_accepted_is_written_off_by_name_and_not_lost(gone, copied, capsys, more):
    _accept(gone.lake, copied, topics.DECISIONS, *gone.decisions)
    _accept(gone.lake, copied, topics.SHADOW, *gone.shadow)
    code, found = _look(gone.lake, copied, capsys, *more)
    assert (code, _found(found)) == (0, [])
    assert _written_off(found) == {"bronze.decisions": 5, "bronze.shadow": 2, "silver.decisions": gone.payments}
    start, end = gone.decisions
    notes = [note for hop in found["hops"] for note in hop["notes"] if "written off" in note]
    assert notes == [
        f"partition 0: offsets {offsets} of topic {topic} were written off by ada@lake-1 on 2026-03-02: "
        "the disk was full"
        for topic, offsets in (("decisions", f"{start} to {end}"), ("shadow", "1 to 3"))
    ]


def test_what_the_topic_still_has_cannot_be_written_off(gone, copied, capsys):
    _accept(gone.lake, copied, topics.DECISIONS, *gone.decisions)
    _accept(gone.lake, copied, topics.SHADOW, 1, 7)
    _delete(copied, "bronze.shadow", "offset", 5, 6)
    code, found = _look(gone.lake, copied, capsys)
    assert (code, [one[:4] for one in _found(found)]) == (1, [("lost", ["bronze.shadow"], 5, 6)])


def test_decisions_lost_elsewhere_are_not_excused_by_a_write_off(gone, copied, capsys):
    _accept(gone.lake, copied, topics.DECISIONS, *gone.decisions)
    _accept(gone.lake, copied, topics.SHADOW, *gone.shadow)
    first = gone.lake.rows["silver.decisions"][0]
    _delete(copied, "silver.decisions", "offset", first["offset"], first["offset"] + 1)
    code, found = _look(gone.lake, copied, capsys)
    assert code == 1
    assert ("lost", ["silver.decisions"], first["offset"], first["offset"] + 1) in [one[:4] for one in _found(found)]


def test_a_topic_that_forgot_what_its_table_has_not_reached_has_lost_it_whether_the_job_ran_or_not(
    gone, copied, capsys
):
    _accept(gone.lake, copied, topics.DECISIONS, *gone.decisions)
    told = {"fraudlake_positions": {f"{gone.lake.id[topics.SHADOW]}/0": 1}}
    _delete(copied, "bronze.shadow", "offset", 1, 99, **told)
    _delete(copied, "silver.shadow", "shadow_offset", 1, 99, **told)
    code, found = _look(gone.lake, copied, capsys)
    assert (code, [one[:4] for one in _found(found)]) == (1, [("lost", ["bronze.shadow"], 1, 3)])
    line = next(line for hop in found["hops"] for line in hop["tables"] if line["table"] == "bronze.shadow")
    assert line["behind"] == len(gone.lake.rows["bronze.shadow"]) - 3
    _accept(gone.lake, copied, topics.SHADOW, *gone.shadow)
    assert _look(gone.lake, copied, capsys)[0] == 0
