"""Sealed rows become typed and masked rows in Arrow alone."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.contracts.silver import BY_KIND
from lakehouse.crypto import Digests, Tokens
from lakehouse.data_keys import DataKeys
from lakehouse.errors import ContractBroken
from lakehouse.files import arrow_schema
from lakehouse.keys import Keyring, KeySource
from lakehouse.registry import registry
from lakehouse.topics import EVENT_KINDS
from silver.masking import BY_ADMISSION, NARROW, Masker
from silver.personal import opened
from tests.lakehouse.records import CARD, DAY, SECOND, T0, raw
from tests.silver.sealed import in_bronze

RECEIVED = datetime(2025, 1, 6, 8, tzinfo=UTC)
BROKER_TIME = datetime(2025, 1, 6, 8, 0, 2, 500_000, UTC)


@pytest.fixture(scope="module")
def source(state_folder: Path) -> KeySource:
    return KeySource("file", str(state_folder / "keys"))


@pytest.fixture(scope="module")
def keyring(source: KeySource) -> Keyring:
    return source.keyring()


def _sealed(source: KeySource, values: list[bytes]) -> pa.RecordBatch:
    return in_bronze(source, values, BROKER_TIME, BROKER_TIME)


def _masked(source: KeySource, kind: str, *values: bytes) -> list[dict[str, Any]]:
    kept, looked_at = Masker(source, registry().latest(kind), {}, 1).masked(_sealed(source, list(values)))
    for batch in (kept, looked_at):
        batch.validate(full=True)
    return [{**row, **narrow} for row, narrow in zip(kept.to_pylist(), looked_at.to_pylist(), strict=True)]


PERSON = {
    "card_number": "4539 1488 0343 6467",
    "customer_id": "C-17",
    "customer_email": "A.B@Example.ORG",
    "billing_address": "1 Main Street",
    "shipping_address": None,
    "device_id": "D-5",
    "ip_address": "2001:DB8::1",
}


def test_a_personal_field_becomes_a_token_and_moves_into_the_sealed_record(source: KeySource, keyring: Keyring) -> None:
    (row,) = _masked(source, "payment", raw("payment", **PERSON))
    tokens = Tokens(keyring)

    def token(kind: str, value: str) -> str:
        return tokens.text(tokens.digests(kind, [value.encode()])[0])

    assert {name: row[name] for name in row if name.endswith("_token")} == {
        "card_token": token("card", CARD),
        "customer_token": token("customer", "C-17"),
        "email_token": token("email", "a.b@example.org"),
        "billing_address_token": token("address", "1 main street"),
        "shipping_address_token": None,
        "device_token": token("device", "D-5"),
        "ip_token": token("ip", "2001:db8::1"),
    }
    assert row["personal_key"] == "subject|g0"
    assert opened(DataKeys(source), "silver.payments", row) == PERSON
    with pytest.raises(ContractBroken, match="belongs to another row"):
        opened(DataKeys(source), "silver.payments", {**row, "offset": 1})
    for value in filter(None, PERSON.values()):
        assert value not in str({name: column for name, column in row.items() if name != "personal"})


def test_every_other_field_keeps_its_value_in_the_type_of_the_contract(source: KeySource) -> None:
    changes = {
        "latitude": -0.5,
        "longitude": 180.0,
        "pin_attempts": 2,
        "is_recurring": False,
        "device_is_rooted": True,
        "account_opened_on": 20_000,
        "card_issued_on": -25_567,
        "terminal_id": "",
        "language": "ü",
    }
    (row,) = _masked(source, "payment", raw("payment", **changes))
    assert {name: row[name] for name in changes} == {
        **changes,
        "account_opened_on": date(2024, 10, 4),
        "card_issued_on": date(1900, 1, 1),
    }
    assert (row["received_at"], row["event_time"]) == (RECEIVED, RECEIVED.replace(hour=7, minute=59, second=59))
    assert (row["amount_minor"], row["currency"], row["browser"]) == (1250, "EUR", None)
    assert (row["seconds_late"], row["seconds_behind_broker"]) == (1.0, 2.5)
    assert (row["card_well_formed"], row["dates_plausible"]) == (True, True)


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_every_kind_has_the_columns_of_its_table(source: KeySource, kind: str) -> None:
    kept, looked_at = Masker(source, registry().latest(kind), {}, 1).masked(
        _sealed(source, [raw(kind), raw(kind)[:-1]])
    )
    table = arrow_schema(BY_KIND[kind])
    wanted = [table.field(name) for name in table.names if name not in BY_ADMISSION]
    assert [(f.name, f.type) for f in kept.schema] == [(f.name, f.type) for f in wanted]
    assert looked_at.schema == NARROW


def test_what_admission_looks_at_is_taken_before_masking(source: KeySource, keyring: Keyring) -> None:
    body = raw("payment", merchant_category_code=None, merchant_country="FR", amount_minor=-5, currency="JPY")
    (row,) = _masked(source, "payment", body)
    assert {name: row[name] for name in ("broken", "received_ms", "amount", "currency_code", "category_code")} == {
        "broken": "amount_plausible",
        "received_ms": T0,
        "amount": -5,
        "currency_code": 0x4A5059,
        "category_code": -1,
    }
    digests = Digests(keyring)
    halves = [int(row[f"identity_{half}"]).to_bytes(8, "big", signed=True) for half in ("high", "low")]
    assert b"".join(halves) == digests.identity("payment", b"t1")
    halves = [int(row[f"content_{half}"]).to_bytes(8, "big", signed=True) for half in ("high", "low")]
    assert b"".join(halves) == row["content_digest"]
    (outcome,) = _masked(source, "outcome", raw("outcome"))
    assert [outcome[name] for name in ("amount", "currency_code", "category_code", "country_code")] == [-1] * 4


def test_an_undecodable_record_keeps_its_place_and_shows_nothing(source: KeySource) -> None:
    good = raw("payment", **{**PERSON, "card_number": CARD})
    bad = good[:-3]
    first, row, last = _masked(source, "payment", good, bad, good)
    assert (first["broken"], row["broken"], last["broken"]) == (None, "undecodable_ends_too_early", None)
    shown = {
        "topic_id",
        "partition",
        "offset",
        "payload_digest",
        "ingested_at",
        "content_digest",
    }
    typed = {c.name for c in BY_KIND["payment"].columns} - shown
    assert {name: row[name] for name in typed & set(row)} == dict.fromkeys(typed & set(row))
    assert first["card_token"] == last["card_token"]


@pytest.mark.parametrize("moment", [2**62, -(2**62), 2**63 - 1, -(2**63)])
def test_times_that_no_calendar_has_are_no_crash(source: KeySource, moment: int) -> None:
    changes = {"event_time": moment, "account_opened_on": 2**31 - 1, "card_issued_on": -(2**31)}
    kept, looked_at = Masker(source, registry().latest("payment"), {}, 1).masked(
        _sealed(source, [raw("payment", **changes)])
    )
    (row,) = kept.select(["dates_plausible", "seconds_late"]).to_pylist()
    assert row["dates_plausible"] is False
    assert "dates_plausible" in looked_at.column("broken")[0].as_py().split(",")
    assert abs(row["seconds_late"]) > 10**15


def test_records_of_another_time_are_measured_against_the_broker(source: KeySource) -> None:
    early, late = raw("outcome", received_at=T0 + DAY), raw("outcome", received_at=T0 - SECOND)
    assert [row["seconds_behind_broker"] for row in _masked(source, "outcome", early, late)] == [-86_397.5, 3.5]
