"""Which records of the engine's topics become rows of silver.decisions and silver.shadow."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from bronze.sealing import sealing
from lakehouse.errors import ContractBroken
from lakehouse.fencing import Fence
from lakehouse.keys import KeySource
from lakehouse.registry import registry
from lakehouse.single import written
from silver.emitted import EMITTED, opening
from tests.lakehouse.avro import decoded
from tests.lakehouse.records import T0, raw, record
from tests.silver.conftest import World
from tests.silver.conftest import decided as topic


def test_the_decisions_that_count_are_those_of_a_reader_that_sees_record_by_record(world: World) -> None:
    fence, expected = Fence(), []
    for offset, value in enumerate(topic()):
        if value[4:5] == b"\x05":
            fence.start(offset)
        elif value[:5] == registry().latest("decision").prefix:
            batch = decoded(registry().latest("decision"), [value[5:]]).batch
            source = int(batch.numbers("offset")[0])
            if fence.counts(int(batch.numbers("epoch")[0]), source):
                expected.append((source, offset))
    found = [(row["offset"], row["decision_offset"]) for row in world.first["silver.decisions"]]
    assert found == expected
    assert [source for source, _ in found] == list(range(43))


def test_of_repeats_the_first_one_counts(world: World) -> None:
    latencies = [row["latency_us"] for row in world.first["silver.decisions"]]
    assert latencies == [1] * 40 + [3, 3, 5]


def test_a_decision_keeps_its_values(world: World) -> None:
    row = world.first["silver.decisions"][0]
    assert {
        name: row[name] for name in ("transaction_id", "rejected_by", "score", "vector", "epoch", "decided_at")
    } == {
        "transaction_id": "t0",
        "rejected_by": ["a", "b"],
        "score": 0.25,
        "vector": None,
        "epoch": 0,
        "decided_at": datetime.fromtimestamp((T0 + 5) / 1000, UTC),
    }


def test_a_decision_that_cannot_be_decoded_stops_the_job_and_names_its_offset(state_folder: Path) -> None:
    source = KeySource("file", str(state_folder / "keys"))
    good = raw("decision")
    now = datetime(2026, 1, 5, tzinfo=UTC)
    rows = {
        "key": pa.array([None, None], pa.binary()),
        "value": pa.array([good, good[:-1]], pa.binary()),
        "headers": pa.array([None, None], pa.string()),
        "partition": pa.array([0, 0], pa.int32()),
        "offset": pa.array([7, 8], pa.int64()),
        "timestamp": pa.array([now, now], pa.timestamp("us", "UTC")),
    }
    sealed = list(sealing(source, "T", now)([pa.RecordBatch.from_pydict(rows)]))
    with pytest.raises(ContractBroken, match=r"record at offset 8 of bronze\.decisions cannot be decoded"):
        list(opening(source, EMITTED[0], registry().latest("decision").id)(sealed))


def test_a_decision_of_an_older_release_is_read_with_the_defaults_of_what_it_lacks(state_folder: Path) -> None:
    source = KeySource("file", str(state_folder / "keys"))
    older = registry().versions("decision")[0]
    fields = {name: value for name, value in record("decision").items() if name in {f.name for f in older.codec.fields}}
    now = datetime(2026, 1, 5, tzinfo=UTC)
    rows = {
        "key": pa.array([None], pa.binary()),
        "value": pa.array([written(older, fields)], pa.binary()),
        "headers": pa.array([None], pa.string()),
        "partition": pa.array([0], pa.int32()),
        "offset": pa.array([7], pa.int64()),
        "timestamp": pa.array([now], pa.timestamp("us", "UTC")),
    }
    sealed = list(sealing(source, "T", now)([pa.RecordBatch.from_pydict(rows)]))
    (batch,) = opening(source, EMITTED[0], older.id)(sealed)
    (found,) = batch.to_pylist()
    assert (found["transaction_id"], found["score"]) == ("t1", 0.25)
    assert (found["rules_fired"], found["lists_hit"], found["score_with_rules"]) == ([], [], None)


def test_what_a_challenger_says_of_a_payment_counts_once_whoever_wrote_it(world: World) -> None:
    rows = world.first["silver.shadow"]
    assert [(row["offset"], row["shadow_offset"], row["outcome"]) for row in rows] == [
        (4, 0, "approve"),
        (5, 1, "review"),
        (6, 3, "decline"),
    ]
    assert (rows[0]["champion_outcome"], rows[0]["score_xgboost"], rows[0]["amount_base_minor"]) == ("approve", None, 5)
