"""A lake whose tables were damaged in every way is what it was before, or says which offsets cannot be had back."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import CommitProperties, DeltaTable

import bronze.job
import features.job
import gold.job
import silver.job
from lakehouse import broker as log
from lakehouse import delta, high_water, mending, repair, storage, topics, trail
from lakehouse.contracts import bronze as landed
from lakehouse.contracts import gold as ready
from lakehouse.contracts import silver as true
from lakehouse.contracts.register import TABLES
from lakehouse.damage import DAMAGED_FILE, LOST_FILE, TO_THE_END, look
from lakehouse.errors import BalanceBroken, TableDamaged
from lakehouse.expired import EXPIRED
from lakehouse.jobs import Context, Interval
from lakehouse.repair import WAYS, Repair, looked
from lakehouse.spans import Span
from lakehouse.tables import Table
from tests.conftest import NewContext, NewSettings
from tests.lakehouse.records import SECOND, T0, raw, raw_control, signed
from tests.lakehouse.test_high_water import flipped, torn_checkpoint
from tests.silver.conftest import Sent, produce

JOBS = (bronze.job, silver.job, features.job, gold.job)
VOLATILE = {"sealed", "ingested_at", "ingest_date", "sealing_key", "personal", "run"}
"""Sealed anew, with new nonces, landed at another time and judged by another run."""
BATCHES = {"silver.balance", "quality.scores"}
"""A row a batch: what is done again in one batch is one row."""

Digests = dict[str, str]


def digest(root: str, table: Table) -> str:
    """A digest of a table's rows without their order."""
    names = [name for name in table.column_names if name not in VOLATILE]
    rows = sorted(repr(list(row.values())) for row in delta.rows(root, table, names).to_pylist())
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def digests(root: str) -> Digests:
    made = (table for name, table in TABLES.items() if name in WAYS and name not in BATCHES)
    return {table.name: digest(root, table) for table in made if delta.exists(root, table)}


def payments(first: int, last: int) -> list[Sent]:
    return [
        Sent(raw("payment", transaction_id=f"t{n}", received_at=T0 + n * SECOND, event_time=T0 + n * SECOND))
        for n in range(first, last)
    ]


@dataclass(frozen=True)
class Lake:
    context: Context
    with_interval: Callable[[Interval], Context]
    before: Digests

    @property
    def root(self) -> str:
        return self.context.root

    def told(self, action: str) -> list[dict[str, Any]]:
        place = trail.place_of(self.context.settings)
        found = (e for e in trail.entries(place) if e.action == f"repair.{action}")
        return [{"table": e.subject, **e.details} for e in found]

    def repaired(self) -> list[str]:
        said: list[str] = []
        Repair(self.context, said.append).mend(looked(self.root, list(TABLES.values())))
        return said


@pytest.fixture(scope="module")
def lake(
    broker: str,
    mlflow_server: str,
    new_settings: NewSettings,
    context: NewContext,
    tmp_path_factory: pytest.TempPathFactory,
) -> Lake:
    """A world of two passes through every layer."""
    settings = new_settings(tmp_path_factory.mktemp("lake"))
    # Every run makes a training set as of the last payment, so that all runs make the same one.
    settings = settings.model_copy(update={"gold": settings.gold.model_copy(update={"training_set_interval_h": 0})})
    now = context(settings)
    topics.ensure(settings)
    reference = Sent(raw_control(signed(settings.keys.folder)))
    for first, last in ((0, 8), (8, 12)):
        start = [reference, *payments(0, 1)] if first == 0 else [*payments(2, 3), Sent(b"no record")]
        produce(settings, topics.EVENTS, [*start, *payments(first, last)])
        decided = [Sent(raw("decision", offset=n, epoch=0, transaction_id=f"t{n}")) for n in range(first, last)]
        produce(settings, topics.DECISIONS, [Sent(raw("engine_start")), *decided] if first == 0 else decided)
        for job in JOBS:
            job.run(now)
    return Lake(now, lambda interval: context(settings, interval), digests(now.root))


def last_commit(root: str, table: Table) -> Path:
    version = DeltaTable(table.path(root)).version()
    return Path(table.path(root)) / high_water.commit_name(version)


def files(root: str, table: Table) -> list[Path]:
    found = [Path(table.path(root)) / path for path in high_water.paths(DeltaTable(table.path(root)))]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def test_every_table_that_follows_from_another_has_a_way_back() -> None:
    assert set(TABLES) - set(WAYS) == {
        "quality.releases",
        "quality.validations",
        "quality.drift",
        "lake.runs",
        "lake.purges",
        "lake.write_offs",
    }


def test_offsets_of_files_that_spell_their_topic_in_two_ways_are_one_range() -> None:
    topic = "f668cd61-1039-49b0-a207-478b412581e0"
    found = {f"{topic}/0": (1, 10), f"{topic[:32]}/0": (12, 16)}
    assert repair._spelled_out(found, {f"{topic}/0": 16}) == {f"{topic}/0": (1, 16)}


def test_a_lake_that_is_damaged_in_every_layer_is_what_it_was_before(lake: Lake) -> None:
    root = lake.root
    assert looked(root, list(TABLES.values())) == []
    files(root, landed.EVENTS)[0].unlink()
    last_commit(root, true.PAYMENTS).write_bytes(b"")
    last_commit(root, true.DECISIONS).unlink()
    vectors = files(root, ready.VECTORS)[0]
    flipped(vectors, 8 * (vectors.stat().st_size // 2))
    torn = last_commit(root, ready.FEATURES)
    torn.write_bytes(torn.read_bytes()[:-9])
    for path in files(root, ready.FRAUD_DAILY) + files(root, ready.TRAINING_SET):
        path.unlink()
    record = Path(root) / "_high_water" / "silver.quarantine.json"
    record.write_bytes(orjson.dumps(orjson.loads(record.read_bytes()) | {"rows": 7}))
    assert {finding.table.name: finding.kind for finding in looked(root, list(TABLES.values()))} == {
        "bronze.events": "file",
        "silver.payments": "log",
        "silver.quarantine": "record",
        "silver.decisions": "log",
        "features.vectors": "file",
        "gold.features": "log",
        "gold.training_set": "file",
        "gold.fraud_daily": "file",
    }
    said = lake.repaired()
    assert digests(root) == lake.before
    assert looked(root, list(TABLES.values())) == []
    assert {entry["table"] for entry in lake.told("done")} >= {"bronze.events", "silver.payments", "gold.features"}
    assert [entry["symptom"] for entry in lake.told("log_cut")] == [
        high_water.EMPTY,
        high_water.MISSING,
        high_water.TORN,
    ]
    assert {entry["symptom"] for entry in lake.told("files_dropped")} == {LOST_FILE, DAMAGED_FILE}
    # A version that its recipe names held the file of vectors that is damaged.
    assert [line for line in said if "rows_lost" in line] == [
        "gold.training_set: rows_lost, reason its sources cannot be read any more; gold.job makes a new one"
    ]


def test_a_torn_checkpoint_is_put_aside_and_no_row_is_made_again(lake: Lake) -> None:
    root, cut, again = lake.root, len(lake.told("log_cut")), len(lake.told("rows_again"))
    version, path = storage.version(root, true.PAYMENTS), torn_checkpoint(true.PAYMENTS, root)
    lake.repaired()
    assert lake.told("checkpoints_put_aside")[-1]["files"] == f"_delta_log/{path.name}"
    assert (len(lake.told("log_cut")), len(lake.told("rows_again"))) == (cut, again)
    assert looked(root, list(TABLES.values())) == []
    assert storage.version(root, true.PAYMENTS) == version
    assert digests(root) == lake.before


def test_a_repair_that_was_interrupted_is_found_and_finished(lake: Lake) -> None:
    root = lake.root
    good = storage.version(root, true.PAYMENTS) - 1
    mending.note(root, true.PAYMENTS, {TO_THE_END: (0, 0)})
    mending.cut(root, true.PAYMENTS, good)
    (finding,) = look(root, true.PAYMENTS)
    assert (finding.kind, finding.symptom) == ("unfinished", high_water.UNFINISHED)
    # Until it is finished nobody takes what is left for all there is.
    refused = rf"silver\.payments is damaged: {high_water.UNFINISHED}"
    with pytest.raises(TableDamaged, match=refused):
        silver.job.run(lake.context)
    with pytest.raises(TableDamaged, match=refused):
        features.job.run(lake.with_interval(Interval(4, 9)))
    lake.repaired()
    assert looked(root, list(TABLES.values())) == []
    assert digests(root) == lake.before


@pytest.mark.parametrize("lost", [slice(0, 1), slice(None)], ids=["the oldest", "all"])
def test_lost_data_files_of_decisions_are_cut_back_to_and_taken_over_again(lake: Lake, lost: slice) -> None:
    root = lake.root
    gone = files(root, true.DECISIONS)[lost]
    assert gone
    for path in gone:
        path.unlink()
    (finding,) = looked(root, list(TABLES.values()))
    assert (finding.table, finding.kind, finding.symptom) == (true.DECISIONS, "file", LOST_FILE)
    lake.repaired()
    assert looked(root, list(TABLES.values())) == []
    assert digests(root) == lake.before


def test_a_table_that_is_believed_stays_as_it_is_and_its_record_is_made_anew(lake: Lake) -> None:
    root, table = lake.root, true.PAYMENTS
    before, commit = storage.version(root, table), last_commit(root, table)
    # Another, valid commit of the same version, as a backup that was taken elsewhere would have.
    commit.write_bytes(commit.read_bytes().replace(b'"operation":', b'"operation": ', 1))
    (commit.parent / f".{commit.name}.crc").unlink(missing_ok=True)  # Hadoop's own checksum, which a backup leaves out
    (finding,) = looked(root, list(TABLES.values()))
    assert (finding.table, finding.kind, finding.symptom) == (table, "log", high_water.OTHER)
    done = len(lake.told("rows_again"))
    Repair(lake.context, [].append).mend([finding], believe_table=True)
    assert looked(root, list(TABLES.values())) == []
    assert storage.version(root, table) == before
    assert lake.told("record_made_anew")[-1] == {"table": table.name, "symptom": high_water.OTHER}
    assert len(lake.told("rows_again")) == done
    assert digests(root) == lake.before


def test_a_replay_of_all_that_is_kept_changes_no_digest(lake: Lake) -> None:
    end = delta.count(lake.root, landed.EVENTS)
    for job in JOBS:
        job.run(lake.with_interval(Interval(0, end)))
    assert digests(lake.root) == lake.before


def test_a_replay_of_a_part_changes_no_digest(lake: Lake) -> None:
    for job in JOBS[1:]:
        job.run(lake.with_interval(Interval(4, 9)))
    assert digests(lake.root) == lake.before


def test_what_kafka_has_no_more_is_named_by_its_offsets(lake: Lake) -> None:
    settings = lake.context.settings
    name = topics.topic_name(settings, topics.EVENTS)
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    for deleted in admin.delete_records([TopicPartition(name, 0, 5)]).values():
        deleted.result(20)
    assert log.watermarks(settings, name, 0)[0] == 5
    before = delta.count(lake.root, landed.EVENTS)
    for path in files(lake.root, landed.EVENTS):
        path.unlink()
    lake.repaired()
    *_, lost = lake.told("rows_lost")
    assert (lost["table"], lost["from_offset"], lost["to_offset"]) == ("bronze.events", 0, 5)
    offsets = delta.rows(lake.root, landed.EVENTS, ["offset"]).column("offset").to_pylist()
    assert sorted(offsets) == list(range(5, before))
    assert {n: d for n, d in digests(lake.root).items() if n != "bronze.events"} == {
        n: d for n, d in lake.before.items() if n != "bronze.events"
    }


def expired(root: str, table: Table, first: int, end: int) -> None:
    """Rows leave a table of bronze, as by its retention."""
    (key,) = storage.written_ends(root, table)
    properties = CommitProperties({"userMetadata": orjson.dumps({EXPIRED: {key: end}}).decode()})
    DeltaTable(table.path(root)).delete(f"offset >= {first} AND offset < {end}", commit_properties=properties)
    delta.followed(root, table)


def offsets(root: str, table: Table) -> list[int]:
    assert table.position is not None
    name = table.position[2]
    return sorted(delta.rows(root, table, [name]).column(name).to_pylist())


def test_decisions_that_bronze_holds_no_more_stay_or_are_named(lake: Lake) -> None:
    root = lake.root
    (key,) = storage.written_ends(root, true.DECISIONS)
    storage.cut_back(lake.context.spark, root, true.DECISIONS, Span(key.rpartition("/")[0], 0, 9, 9))
    silver.job.run(lake.context)
    assert offsets(root, true.DECISIONS) == list(range(1, 13))
    gone = files(root, true.DECISIONS)[0]
    lost = pq.read_table(gone).column("decision_offset").to_pylist()
    assert max(lost) < 9
    gone.unlink()
    # 9 and 10 lie in a sound file and could not be taken over again. The engine's start, 0, was landed on a later day.
    expired(root, landed.DECISIONS, 1, 11)
    lake.repaired()
    assert lake.told("rows_lost")[-1] == {
        "table": "silver.decisions",
        "no_more_in": "bronze.decisions",
        "from_offset": min(lost),
        "to_offset": max(lost) + 1,
    }
    assert offsets(root, true.DECISIONS) == sorted(set(range(1, 13)) - set(lost))


def test_what_silver_made_of_records_that_bronze_holds_no_more_is_named_and_silver_goes_on(lake: Lake) -> None:
    root = lake.root
    expired(root, landed.EVENTS, 0, 6)
    for path in files(root, true.PAYMENTS):
        path.unlink()
    lake.repaired()
    told = lake.told("rows_lost")[-1]
    assert (told["table"], told["no_more_in"], told["to_offset"]) == ("silver.payments", "bronze.events", 6)
    # Offset 10 repeated a payment that is lost; offset 11 is no record.
    assert offsets(root, true.PAYMENTS) == [6, 7, 8, 9, 10, 12, 13, 14, 15]
    assert looked(root, [true.PAYMENTS]) == []
    silver.job.run(lake.context)


def test_a_loss_of_what_bronze_still_holds_is_refused_with_a_command_that_works(lake: Lake) -> None:
    root = lake.root
    mending.drop(root, true.PAYMENTS, high_water.paths(DeltaTable(true.PAYMENTS.path(root))))
    with pytest.raises(BalanceBroken, match=r"9 offsets from 6 on lie in no table.*--from-position 6 --to-position 16"):
        silver.job.run(lake.context)
    silver.job.run(lake.with_interval(Interval(6, 16)))
    silver.job.run(lake.context)
