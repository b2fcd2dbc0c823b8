"""A customer is erased: a small world before, after, done again, restored, and with a day's key gone."""

import io
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

import bronze.job
import silver.job
from lakehouse import keys, topics, trail
from lakehouse.contracts import silver as tables
from lakehouse.crypto import Tokens
from lakehouse.data_keys import DataKeys, day_key_name
from lakehouse.errors import KeyDestroyed
from lakehouse.jobs import Context, Interval
from lakehouse.settings import Settings
from lakehouse.tables import Table
from silver import erasure, resubmit
from silver.erasure_report import PERSONAL
from silver.personal import opened
from tests.conftest import NewContext, NewSettings
from tests.lakehouse.records import raw, raw_control, signed
from tests.silver.conftest import PERSON, Rows, Sent, land, produce, rows

GONE, OTHER = PERSON["customer_id"], "Another-Customer-4"
ERASURE = "erasure-1"
CHANGING = {"personal", "run", "ingested_at", "sealed"}


@dataclass(frozen=True)
class Erased:
    """The world and what its tables held: before the erasure, after it, and after the whole log was done again."""

    settings: Settings
    context: Context
    before: Mapping[str, Rows]
    after: Mapping[str, Rows]
    again: Mapping[str, Rows]
    restored: int
    """Keys that an old copy of the key store brought back, after the next run of silver."""

    @property
    def keys(self) -> DataKeys:
        return DataKeys(keys.source(self.settings))

    @property
    def token(self) -> str:
        tokens = Tokens(keys.source(self.settings).keyring())
        return tokens.text(tokens.digests("customer", [GONE.encode()])[0])


def _paid(number: int, customer: str, **more: Any) -> Sent:
    return Sent(raw("payment", **{**PERSON, "transaction_id": f"t{number}", "customer_id": customer, **more}))


def _held(root: str) -> dict[str, Rows]:
    return {table.name: rows(root, table) for table in tables.TABLES}


def _apart(settings: Settings, folder: Path) -> Settings:
    """With keys and an audit trail of its own: their day's key is destroyed at the end."""
    keys.create(folder / "keys")
    return settings.model_copy(
        update={
            "keys": settings.keys.model_copy(update={"folder": folder / "keys"}),
            "trail": settings.trail.model_copy(update={"folder": folder / "trail", "heads_folder": folder / "heads"}),
        }
    )


@pytest.fixture(scope="module")
def world(
    broker: str, new_settings: NewSettings, context: NewContext, tmp_path_factory: pytest.TempPathFactory
) -> Erased:
    folder = tmp_path_factory.mktemp("erasure")
    settings = _apart(new_settings(folder), folder)
    now = context(settings)
    topics.ensure(settings)
    first = [
        Sent(raw_control(signed(settings.keys.folder))),
        *(_paid(1, GONE), _paid(2, OTHER), _paid(3, GONE), _paid(4, GONE, amount_minor=-1)),
        Sent(raw("authorisation", customer_id=GONE)),
        Sent(raw("label", customer_id=GONE)),
    ]
    produce(settings, topics.EVENTS, first)
    land(now)
    before, copy = _held(now.root), folder / "copy"
    shutil.copy(DataKeys(keys.source(settings)).store.path, copy)
    assert erasure.request(settings, GONE, ERASURE) == [7]
    assert erasure.request(settings, GONE, ERASURE) == [8]
    produce(settings, topics.EVENTS, [_paid(9, GONE), _paid(10, OTHER)])
    land(now)
    after = _held(now.root)
    land(context(settings, Interval(0, 11)))
    again = _held(now.root)
    store = DataKeys(keys.source(settings)).store
    new = [key for key in store.all("subject") if key.wrapped is not None]
    shutil.copy(copy, store.path)
    store.put(new)
    silver.job.run(now)
    living = [key.name for key in store.all("subject") if key.wrapped is not None]
    return Erased(settings, now, before, after, again, len([n for n in living if n not in {key.name for key in new}]))


def _personal(held: Mapping[str, Rows]) -> Iterator[tuple[Table, dict[str, Any]]]:
    for table in PERSONAL:
        for row in held[table.name]:
            yield table, row


def _of(world: Erased, held: Mapping[str, Rows], below: int = 8) -> list[tuple[Table, dict[str, Any]]]:
    return [(t, r) for t, r in _personal(held) if r["customer_token"] == world.token and r["offset"] < below]


def test_before_the_erasure_everything_could_be_read(world: Erased) -> None:
    assert sorted(table.name for table, _ in _of(world, world.before)) == [
        *("silver.authorisations", "silver.labels", "silver.payments", "silver.payments")
    ]
    assert {row["personal_key"] for _, row in _personal(world.before)} == {"subject|g0"}


def test_no_version_of_any_table_gives_a_plaintext_of_the_erased(world: Erased) -> None:
    looked = 0
    for table in PERSONAL:
        path = table.path(world.context.root)
        for version in range(DeltaTable(path).version() + 1):
            for row in DeltaTable(path, version=version).to_pyarrow_table().to_pylist():
                if row["customer_token"] == world.token and row["offset"] < 8:
                    looked += 1
                    if row["personal"] is not None:
                        with pytest.raises(KeyDestroyed):
                            opened(world.keys, table.name, row)
    assert looked > 2 * len(_of(world, world.after))


def test_the_personal_data_of_others_and_of_later_can_be_read(world: Erased) -> None:
    for held in (world.after, world.again):
        left = [(row["offset"], row) for table, row in _personal(held) if table is tables.PAYMENTS]
        read = {at: opened(world.keys, "silver.payments", row) for at, row in left if at not in (1, 3)}
        assert {at: values["customer_id"] for at, values in read.items()} == {2: OTHER, 9: GONE, 10: OTHER}
        assert [row["personal_key"] for at, row in left if at == 9] == ["subject|g1"]


def test_a_rerun_leaves_the_erased_empty_and_everything_else_as_it_was(world: Erased) -> None:
    assert {(row["personal"], row["personal_key"]) for _, row in _of(world, world.again)} == {(None, "subject|g0")}

    def kept(found: Rows) -> Rows:
        return [{name: value for name, value in row.items() if name not in CHANGING} for row in found]

    for table in tables.TABLES:
        if table is not tables.BALANCE:
            assert kept(world.again[table.name]) == kept(world.after[table.name]), table.name
    for table in PERSONAL:
        first = world.before[table.name]
        assert kept(world.after[table.name])[: len(first)] == kept(first)
        assert world.after[table.name][: len(first)] == first


def test_an_old_copy_of_the_key_store_brings_nobody_back(world: Erased) -> None:
    assert world.restored == 0
    with pytest.raises(KeyDestroyed):
        opened(world.keys, "silver.payments", world.before["silver.payments"][0])


def test_an_erasure_is_on_record_by_token_once(world: Erased) -> None:
    entries = list(trail.entries(trail.place_of(world.settings)))
    told = [(entry.action, entry.subject) for entry in entries if "eras" in entry.action]
    assert told[:3] == [("erasure.requested", world.token)] * 2 + [("personal.erased", world.token)]
    # The second one tells of the copy of the key store that was put back.
    assert told[3:] == [("personal.erased", world.token)]
    assert [value for value in PERSON.values() if any(value.encode() in entry.line for entry in entries)] == []


@pytest.fixture
def command(world: Erased, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment in which a command sees the world."""
    for name, value in (
        ("KAFKA__TOPIC_PREFIX", world.settings.kafka.topic_prefix),
        ("LAKE__ROOT", world.settings.lake.root),
        ("KEYS__FOLDER", world.settings.keys.folder),
        ("TRAIL__FOLDER", world.settings.trail.folder),
        ("TRAIL__HEADS_FOLDER", world.settings.trail.heads_folder),
    ):
        monkeypatch.setenv(f"FRAUDLAKE__{name}", str(value))


def test_the_report_names_every_place_and_what_is_left_there(
    world: Erased, command: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert erasure.main(["report", "--erasure-id", ERASURE, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["customer_token"], found["keys"], found["keys_left"]) == (world.token, 1, 0)
    assert found["destroyed_at"] is not None
    places = {place["place"]: place for place in found["places"]}
    unreadable = {n: p["rows"] for n, p in places.items() if p["state"] == "unreadable"}
    assert unreadable == {
        "silver.payments": 2,
        "silver.authorisations": 1,
        "silver.labels": 1,
        "silver.erasures": 1,
    }
    expiring = {name.removeprefix("topic ").split(".")[-1] for name, p in places.items() if p["state"] == "expires"}
    assert expiring == {"events", "quarantine"}
    assert all(place["until"] for place in places.values() if place["state"] == "expires")
    assert {"silver.decisions, tokens", "engine snapshots"} <= {n for n, p in places.items() if p["state"] == "kept"}
    assert all(place["ground"] for place in places.values() if place["state"] == "kept")
    assert erasure.main(["report", "--erasure-id", ERASURE]) == 0
    said = capsys.readouterr().out
    assert "unreadable               silver.payments: personal records, sealed" in said
    assert [value for value in PERSON.values() if value in said] == []
    assert erasure.main(["report", "--erasure-id", "nobody"]) == 1
    assert "Silver has no erasure nobody" in capsys.readouterr().err


def test_a_request_reads_ids_from_standard_input_and_prints_none(
    world: Erased, command: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"\n{OTHER}\n  Third-Customer-5 \n"))
    assert erasure.main(["request", "--customer-id-file", "-"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 2
    assert OTHER not in said
    silver_before = rows(world.context.root, tables.ERASURES)
    land(world.context)
    assert len(rows(world.context.root, tables.ERASURES)) == len(silver_before) + 2
    row = world.after["silver.payments"][1]
    assert row["customer_token"] != world.token
    with pytest.raises(KeyDestroyed):
        opened(world.keys, "silver.payments", row)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert erasure.main(["request", "--customer-id-file", "-"]) == 1
    assert "There is no customer id" in capsys.readouterr().err


def test_records_of_a_day_whose_key_is_gone_wait_in_quarantine_by_its_name(
    world: Erased, context: NewContext, command: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last test of this world: afterwards bronze of today cannot be opened."""
    first = len(rows(world.context.root, bronze.job.TABLES[topics.EVENTS]))
    produce(world.settings, topics.EVENTS, [_paid(20, OTHER), Sent(b"no prefix")])
    bronze.job.run(world.context)
    held = rows(world.context.root, bronze.job.TABLES[topics.EVENTS])
    names = {row["sealing_key"] for row in held}
    world.keys.destroy([day_key_name(name) for name in names])
    silver.job.run(world.context)
    found = {row["offset"]: row for row in rows(world.context.root, tables.QUARANTINE) if row["offset"] >= first}
    assert [found[first + at]["reasons"] for at in (0, 1)] == [
        [f"unreadable: key {held[-1]['sealing_key']} is destroyed"],
        ["not_in_confluent_wire_format"],
    ]
    assert found[first]["sealed"] == held[-2]["sealed"]
    assert resubmit.main(["send", "--offset", str(first), "--same"]) == 1
    assert "cannot be opened any more: The data key" in capsys.readouterr().err
    with pytest.raises(KeyDestroyed, match=r"cannot be opened any more.*nothing was written"):
        silver.job.run(context(world.settings, Interval(0, 5)))
    assert rows(world.context.root, tables.PAYMENTS)[0]["offset"] == 1
