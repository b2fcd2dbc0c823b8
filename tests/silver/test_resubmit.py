"""Refused records that enter the log again: a small world in which every one of them is mended or judged again."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lakehouse import broker as log
from lakehouse import topics
from lakehouse.contracts import silver as tables
from lakehouse.envelope import REPAIRS
from lakehouse.settings import Settings
from silver import resubmit
from silver.repairing import RepairRefused, record_of
from silver.repairs import Position
from tests.conftest import NewContext, NewSettings
from tests.lakehouse.records import BASE, CARD, OTHER_CARD, SECOND, T0, raw, raw_control, signed
from tests.silver.conftest import PERSON, Sent, land, produce, rows

Run = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Refused:
    """A world with refused records, and where each lies."""

    settings: Settings
    land: Callable[[], None]
    offset: Mapping[str, int]

    def rows(self, table: Any) -> list[dict[str, Any]]:
        return rows(str(self.settings.lake.root), table)

    def end(self) -> int:
        """Where the log ends."""
        return log.watermarks(self.settings, topics.topic_name(self.settings, topics.EVENTS), 0)[1]


@pytest.fixture(scope="module")
def world(
    broker: str, new_settings: NewSettings, context: NewContext, tmp_path_factory: pytest.TempPathFactory
) -> Refused:
    settings = new_settings(tmp_path_factory.mktemp("resubmit"))
    now = context(settings)
    topics.ensure(settings)
    sent = {
        "before the tables": raw("payment", **PERSON, transaction_id="t0"),
        "also before": raw("payment", transaction_id="t1"),
        "reference": raw_control(signed(settings.keys.folder)),
        "good": raw("payment", transaction_id="t2"),
        "negative": raw("payment", **PERSON, transaction_id="t3", amount_minor=-1, received_at=T0 - SECOND),
        "truncated": raw("payment", transaction_id="t4")[:-2],
        "no prefix": b'{"transaction_id": "t5"}',
        "two rules": raw("payment", transaction_id="t6", channel="fax", currency="EUX"),
        "conflict": raw("payment", transaction_id="t2", amount_minor=1251),
        "bad card": raw("payment", transaction_id="t7", card_number=CARD[:-1] + "8"),
    }
    produce(settings, topics.EVENTS, [Sent(value) for value in sent.values()])
    land(now)
    return Refused(settings, lambda: land(now), {name: at for at, name in enumerate(sent)})


@pytest.fixture
def run(world: Refused, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in the world: exit code, what it printed, what it complained of."""
    monkeypatch.setenv("FRAUDLAKE__KAFKA__TOPIC_PREFIX", world.settings.kafka.topic_prefix)
    monkeypatch.setenv("FRAUDLAKE__LAKE__ROOT", world.settings.lake.root)

    def ran(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = resubmit.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return ran


def _json(folder: Path, **fields: Any) -> Path:
    path = folder / "event.json"
    path.write_text(json.dumps(fields))
    return path


def _accepted(world: Refused, transaction_id: str) -> list[dict[str, Any]]:
    return [row for row in world.rows(tables.PAYMENTS) if row["transaction_id"] == transaction_id]


def _repair(world: Refused, name: str) -> dict[str, Any]:
    (found,) = [r for r in world.rows(tables.REPAIRS) if r["repaired_offset"] == world.offset[name]]
    return found


def test_refused_records_are_listed_by_reason_without_what_they_hold(world: Refused, run: Run) -> None:
    code, text, _ = run("list", "--reason", "amount_plausible")
    (line,) = text.splitlines()
    assert code == 0
    assert f"offset {world.offset['negative']} " in line
    assert line.endswith("open")
    everything = run("list")[1]
    assert len(everything.splitlines()) == 8
    assert [value for value in (*PERSON.values(), CARD, "t3", "C-1") if value in everything] == []


def test_the_same_bytes_are_judged_again_once_and_the_position_they_repair_is_named(world: Refused, run: Run) -> None:
    offset, end = world.offset["before the tables"], world.end()
    code, text, _ = run("send", "--offset", offset, "--same")
    assert (code, text) == (0, f"offset {offset} enters the log again at offset {end}\n")
    # Given again before silver has seen it, and after.
    assert run("send", "--offset", offset, "--same")[1] == f"offset {offset} is on the log at offset {end}\n"
    assert world.end() == end + 1
    world.land()
    assert run("send", "--offset", offset, "--same")[1] == f"offset {offset} is on the log at offset {end}\n"
    assert world.end() == end + 1
    (message,) = log.read_range(world.settings, topics.topic_name(world.settings, topics.EVENTS), 0, end, end + 1)
    topic_id = topics.identify(world.settings, topics.EVENTS).topic_id
    assert message.headers() == [(REPAIRS, f"{topic_id}/0/{offset}".encode())]
    assert message.value() == raw("payment", **PERSON, transaction_id="t0")
    assert [row["offset"] for row in _accepted(world, "t0")] == [end]
    assert (_repair(world, "before the tables")["offset"], _repair(world, "before the tables")["outcome"]) == (
        end,
        "accepted",
    )


def test_quarantine_keeps_the_row_and_the_list_says_what_became_of_it(world: Refused, run: Run) -> None:
    offset = world.offset["before the tables"]
    assert offset in [row["offset"] for row in world.rows(tables.QUARANTINE)]
    lines = run("list", "--reason", "no_reference_in_force")[1].splitlines()
    (line,) = [line for line in lines if f"offset {offset} " in line]
    assert line.endswith(": accepted")


def test_all_records_of_a_reason_are_judged_again_in_their_order(world: Refused, run: Run) -> None:
    end = world.end()
    code, text, _ = run("send", "--reason", "no_reference_in_force", "--same")
    assert (code, text) == (0, f"offset {world.offset['also before']} enters the log again at offset {end}\n")
    world.land()
    assert [row["offset"] for row in _accepted(world, "t1")] == [end]


def test_changed_fields_mend_a_record_that_keeps_its_received_at_and_moves_no_clock(
    world: Refused, run: Run, tmp_path: Path
) -> None:
    changes = _json(tmp_path, amount_minor=100)
    assert run("send", "--offset", world.offset["negative"], "--changes", changes)[0] == 0
    world.land()
    (row,) = _accepted(world, "t3")
    (good,) = _accepted(world, "t2")
    assert (row["amount_minor"], row["offset"]) == (100, _repair(world, "negative")["offset"])
    assert row["received_at"] < good["received_at"]
    assert row["engine_clock"] == good["engine_clock"]


def test_an_event_given_as_json_takes_the_place_of_bytes_that_nobody_can_read(
    world: Refused, run: Run, tmp_path: Path
) -> None:
    fields = {**BASE["payment"], "event_time": "2025-01-06T07:59:59Z", "received_at": "2025-01-06T09:00:00+01:00"}
    truncated = _json(tmp_path, **{**fields, "transaction_id": "t4"})
    assert run("send", "--offset", world.offset["truncated"], "--event", truncated)[0] == 0
    unknown = _json(tmp_path, **{**fields, "transaction_id": "t5"})
    code, _, complaint = run("send", "--offset", world.offset["no prefix"], "--event", unknown)
    assert (code, complaint.split(".")[0]) == (
        1,
        f"RepairRefused: Nobody knows what kind of record offset {world.offset['no prefix']} was",
    )
    assert run("send", "--offset", world.offset["no prefix"], "--event", unknown, "--kind", "payment")[0] == 0
    world.land()
    assert len(_accepted(world, "t4")) == len(_accepted(world, "t5")) == 1
    assert _accepted(world, "t4")[0]["event_time"].isoformat() == "2025-01-06T07:59:59+00:00"


def test_bytes_given_as_a_file_enter_as_they_are(world: Refused, run: Run, tmp_path: Path) -> None:
    path, end = tmp_path / "record.bin", world.end()
    path.write_bytes(raw("payment", transaction_id="t6"))
    assert run("send", "--offset", world.offset["two rules"], "--wire", path)[0] == 0
    world.land()
    assert [row["offset"] for row in _accepted(world, "t6")] == [end]


def test_what_would_be_refused_again_does_not_enter_the_log(world: Refused, run: Run) -> None:
    end = world.end()
    code, _, complaint = run("send", "--offset", world.offset["bad card"], "--same")
    assert code == 1
    assert f"offset {world.offset['bad card']} would be refused again: card_well_formed." in complaint
    code, text, _ = run("send", "--reason", "card_well_formed", "--same")
    assert code == 1
    assert f"offset {world.offset['bad card']} is left as it is: " in text
    assert world.end() == end


def test_a_position_has_one_repair(world: Refused, run: Run, tmp_path: Path) -> None:
    end = world.end()
    code, _, complaint = run("send", "--offset", world.offset["negative"], "--changes", _json(tmp_path, amount_minor=7))
    assert code == 1
    assert f"was repaired by offset {_repair(world, 'negative')['offset']}, accepted." in complaint
    assert world.end() == end


def test_a_repair_that_is_refused_again_is_repaired_at_its_own_position(
    world: Refused, run: Run, tmp_path: Path
) -> None:
    offset = world.offset["conflict"]
    assert run("send", "--offset", offset, "--same")[0] == 0
    world.land()
    repair = _repair(world, "conflict")
    assert repair["outcome"] == "quarantined"
    code, _, complaint = run("send", "--offset", offset, "--same")
    assert (code, f"repair offset {repair['offset']} instead" in complaint) == (1, True)
    changes = _json(tmp_path, transaction_id="t2-again")
    assert run("send", "--offset", repair["offset"], "--changes", changes)[0] == 0
    world.land()
    assert len(_accepted(world, "t2-again")) == 1


def test_a_repair_that_says_what_was_accepted_before_is_a_duplicate(world: Refused, run: Run, tmp_path: Path) -> None:
    changes = _json(tmp_path, transaction_id="t2", card_number=CARD)
    assert run("send", "--offset", world.offset["bad card"], "--changes", changes)[0] == 0
    world.land()
    assert _repair(world, "bad card")["outcome"] == "duplicate"
    assert len(_accepted(world, "t2")) == 1


def test_received_is_accepted_and_quarantined_and_duplicates_with_repairs_too(world: Refused) -> None:
    accepted = sum(len(world.rows(table)) for table in tables.BY_KIND.values())
    others = len(world.rows(tables.QUARANTINE)) + len(world.rows(tables.DUPLICATES))
    assert accepted + others == world.end()


def test_every_refused_record_names_the_run_that_judged_it(world: Refused) -> None:
    batches = {row["run"] for row in world.rows(tables.BALANCE)}
    first = {row["run"] for row in world.rows(tables.QUARANTINE) if row["offset"] < len(world.offset)}
    assert len(first) == 1
    assert first < batches


def test_a_position_that_was_not_refused_cannot_be_repaired(world: Refused, run: Run) -> None:
    code, _, complaint = run("send", "--offset", world.offset["good"], "--same")
    assert (code, f"no record at offset {world.offset['good']}" in complaint) == (1, True)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"card_number": None}, "card_number may not be null"),
        ({"amount_minor": "12.50"}, "amount_minor is no long"),
        ({"amount_minor": 2**63}, "amount_minor is no long"),
        ({"pin_attempts": 2**31}, "pin_attempts is no int"),
        ({"amount_minor": True}, "amount_minor is no long"),
        ({"event_time": "2025-01-06T08:00:00"}, "event_time is no long"),
        ({"event_time": "yesterday"}, "event_time is no timestamp-millis"),
        ({"card_issued_on": "2025-02-30"}, "card_issued_on is no date"),
        ({"is_recurring": "yes"}, "is_recurring is no boolean"),
        ({"latitude": "52"}, "latitude is no double"),
        ({"cvv": "123"}, "A payment has no field cvv"),
    ],
)
def test_an_event_that_does_not_fit_its_schema_is_refused_by_field_and_never_by_value(
    changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(RepairRefused, match=complaint) as refused:
        record_of("payment", {**BASE["payment"], "card_number": OTHER_CARD, **changes})
    assert OTHER_CARD not in str(refused.value)
    assert "12.50" not in str(refused.value)


def test_an_event_given_as_json_is_the_record_that_any_writer_would_write() -> None:
    assert record_of("payment", BASE["payment"]) == raw("payment")
    signature = base64.b64encode(b"xyz").decode()
    assert record_of("control", {**BASE["control"], "author_signature": signature, "approver_signature": ""}) == raw(
        "control", author_signature=b"xyz"
    )


def test_a_position_is_written_as_it_is_read() -> None:
    assert str(Position.of("a-topic_id/3/17")) == "a-topic_id/3/17"
