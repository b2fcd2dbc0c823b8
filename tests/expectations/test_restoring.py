"""The state that a restart takes from the tables is the state that an uninterrupted run would have had."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from expectations.admission import ACCEPTED, Admission, Candidates, Verdicts
from expectations.decoded import pairs
from expectations.restoring import restored
from lakehouse import keys, signing
from lakehouse.contracts.silver import BY_KIND
from lakehouse.crypto import Digests
from lakehouse.settings import Settings
from lakehouse.topics import EVENT_KINDS
from tests.expectations.worlds import MODEL, Record, columns, fresh, judgements, state
from tests.lakehouse.records import REFERENCE, signed

TOPIC = "T"


def _identity(digests: Digests, record: Record) -> bytes:
    key = f"{record.identity}\0approved" if record.kind == "authorisation" else record.identity
    return digests.identity(record.kind, key.encode())


def _columns(log: list[Record], first: int, digests: Digests) -> Candidates:
    """The records with the identities that tables are read back to."""
    made = columns(log, first)
    made.identity[:] = pairs([_identity(digests, r) for r in log])
    return made


def _write(
    root: str, log: list[Record], candidates: Candidates, verdicts: Verdicts, topic_id: str = TOPIC, partition: int = 0
) -> None:
    """What silver keeps of the accepted records, as far as a restart reads it."""
    for number, kind in enumerate(EVENT_KINDS):
        rows = np.flatnonzero((candidates.kind == number) & (verdicts.status == ACCEPTED))
        if not len(rows):
            continue
        found = [log[row] for row in rows]
        table: dict[str, Any] = {
            "topic_id": [topic_id] * len(rows),
            "partition": pa.array([partition] * len(rows), pa.int32()),
            "offset": candidates.offset[rows],
            "engine_clock": pa.array(verdicts.engine_clock[rows] * 1000).cast(pa.timestamp("us", "UTC")),
            "content_digest": pa.array(
                [pair.tobytes() for pair in candidates.content[rows].astype(">i8")], pa.binary()
            ),
            BY_KIND[kind].key[0]: [r.identity for r in found],
        }
        if kind == "authorisation":
            table["result"] = ["approved"] * len(rows)
        if kind == "staged":
            table |= {"model_digest": [MODEL["digest"]] * len(rows)}
            table |= {"refused": pa.array([r.refused for r in found], pa.string())}
        if kind == "control":
            table |= {
                "scope": [r.event.scope for r in found if r.event],
                "version": pa.array([r.event.version for r in found if r.event], pa.int32()),
                "previous_digest": [r.event.previous_digest for r in found if r.event],
                "payload": [r.event.payload for r in found if r.event],
            }
        write_deltalake(BY_KIND[kind].path(root), pa.table(table), mode="append")


@pytest.fixture
def log(state_folder: Path) -> list[Record]:
    """A log of every kind in which ids come again before and after their horizons, and the tables change twice."""
    folder = state_folder / "keys"
    first = signed(folder)
    tables = {**REFERENCE, "rates_micro": {"EUR": 1_000_000, "USD": 900_000}}
    second = signed(folder, payload=tables, version=2, previous_digest=first.digest, control_id="c2")
    model = signed(folder, "model", MODEL, control_id="c3")
    asked = signed(folder, "staging", MODEL, control_id="c4")
    made = [Record("t0", 0), Record("c1", 0, kind="control", event=first)]
    for hour in range(0, 130, 7):
        made.append(Record(f"t{hour % 5}", hour, hour % 3 == 0, amount=1000, currency=("EUR", "USD", "JPY")[hour % 3]))
        made.append(Record(f"l{hour % 4}", hour, kind="label"))
        made.append(Record(f"t{hour % 5}", hour - 60, kind="authorisation"))
        made.append(Record(f"x{hour % 3}", hour, kind=("answer", "outcome", "erasure", "staged")[hour % 4]))
        if hour == 35:
            made.append(Record("c2", hour, kind="control", event=second))
            made.append(Record("c3", hour, kind="control", event=model))
            made.append(Record("s1", hour, 1, kind="staged"))
            made.append(Record("c4", hour, kind="control", event=asked))
    return made


@pytest.mark.parametrize("cut", [0, 1, 2, 25, 26, 50, 78])
def test_a_restart_judges_as_an_uninterrupted_run(settings: Settings, log: list[Record], cut: int) -> None:
    digests = Digests(keys.source(settings).keyring())
    root = settings.lake.root
    uninterrupted = fresh(signing.trust(settings.keys.folder))
    head, tail = _columns(log[:cut], 0, digests), _columns(log[cut:], cut, digests)
    _write(root, log, head, uninterrupted.admit(head))
    again: Admission = restored(settings, root, TOPIC, 0, cut)
    assert state(again) == state(uninterrupted)
    assert judgements(again.admit(tail), log[cut:]) == judgements(uninterrupted.admit(tail), log[cut:])
    assert state(again) == state(uninterrupted)


@pytest.mark.parametrize("stretch", [1, 2, 9, 40])
def test_however_far_a_restart_looks_back_at_a_time_it_finds_the_same(
    settings: Settings, log: list[Record], stretch: int
) -> None:
    digests = Digests(keys.source(settings).keyring())
    root = settings.lake.root
    uninterrupted = fresh(signing.trust(settings.keys.folder))
    everything = _columns(log, 0, digests)
    _write(root, log, everything, uninterrupted.admit(everything))
    assert state(restored(settings, root, TOPIC, 0, len(log), stretch)) == state(uninterrupted)


def test_payments_from_before_the_horizon_are_not_read_again(settings: Settings, log: list[Record]) -> None:
    digests = Digests(keys.source(settings).keyring())
    root = settings.lake.root
    uninterrupted = fresh(signing.trust(settings.keys.folder))
    for first, end in ((0, 20), (20, len(log))):
        part = _columns(log[first:end], first, digests)
        _write(root, log[first:end], part, uninterrupted.admit(part))
    payments = DeltaTable(BY_KIND["payment"].path(root))
    files = [Path(uri.removeprefix("file://")) for uri in payments.file_uris()]
    (old,) = [path for path in files if pq.read_table(path, columns=["offset"])["offset"][0].as_py() < 20]
    assert state(restored(settings, root, TOPIC, 0, len(log), 8)) == state(uninterrupted)
    old.unlink()
    assert state(restored(settings, root, TOPIC, 0, len(log), 8)) == state(uninterrupted)


def test_rows_from_the_position_on_and_of_other_partitions_do_not_count(settings: Settings, log: list[Record]) -> None:
    digests = Digests(keys.source(settings).keyring())
    root = settings.lake.root
    before = fresh(signing.trust(settings.keys.folder))
    head = _columns(log[:30], 0, digests)
    everything = _columns(log, 0, digests)
    whole = fresh(signing.trust(settings.keys.folder)).admit(everything)
    _write(root, log, everything, whole)
    _write(root, log, everything, whole, partition=1)
    _write(root, log, everything, whole, topic_id="U")
    before.admit(head)
    assert state(restored(settings, root, TOPIC, 0, 30)) == state(before)


def test_without_tables_admission_begins_anew(settings: Settings) -> None:
    trust = signing.trust(settings.keys.folder)
    assert state(restored(settings, settings.lake.root, TOPIC, 0, 100)) == state(fresh(trust))
