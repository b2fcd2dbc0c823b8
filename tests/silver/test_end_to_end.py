"""Where every record of a small literal world ends up."""

from datetime import UTC, datetime
from typing import Any

import pytest

from lakehouse import keys, topics
from lakehouse.contracts.silver import BY_KIND
from lakehouse.crypto import Digests, RecordSeal, Tokens
from lakehouse.data_keys import DataKeys
from lakehouse.envelope import packed
from lakehouse.errors import KeyDestroyed
from silver.personal import opened
from tests.lakehouse.records import DAY, SECOND, T0
from tests.silver.conftest import PERSON, Rows, World

ACCEPTED = {
    "silver.payments": ["good", "dollars", "late"],
    "silver.authorisations": ["authorisation"],
    "silver.labels": ["label", "reversed label"],
    "silver.control": ["reference"],
    "silver.answers": ["answer"],
    "silver.outcomes": ["outcome"],
    "silver.erasures": ["erasure"],
    "silver.staged": ["staged"],
}
QUARANTINED = {
    "before the tables": ("payment", ["no_reference_in_force"]),
    "conflict": ("payment", ["conflict"]),
    "negative amount": ("payment", ["amount_plausible"]),
    "unknown currency": ("payment", ["currency_known"]),
    "currency without rate": ("payment", ["currency_without_rate"]),
    "from the future": ("payment", ["received_at_not_ahead"]),
    "bad luhn": ("payment", ["card_well_formed"]),
    "truncated": ("payment", ["undecodable_ends_too_early"]),
    "trailing byte": ("payment", ["undecodable_trailing_bytes"]),
    "unknown id": (None, ["unknown_schema_id"]),
    "no prefix": (None, ["not_in_confluent_wire_format"]),
    "tombstone": (None, ["not_in_confluent_wire_format"]),
    "empty": (None, ["not_in_confluent_wire_format"]),
    "other topic's kind": (None, ["kind_of_another_topic"]),
    "two rules": ("payment", ["currency_known", "channel_known"]),
    "unsigned": ("control", ["control_refused: The author's signature by {author} does not verify."]),
    "unknown scope": ("control", ["scope_known"]),
}
DUPLICATES = {"repeated": "good"}


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _row(rows: Rows, offset: int) -> dict[str, Any]:
    (found,) = [row for row in rows if row["offset"] == offset]
    return found


def test_every_accepted_record_lies_in_the_table_of_its_kind(world: World) -> None:
    assert {name: [row["offset"] for row in world.first[name]] for name in ACCEPTED} == {
        name: [world.offset(record) for record in records] for name, records in ACCEPTED.items()
    }


def test_every_refused_record_lies_in_quarantine_with_its_reasons(world: World) -> None:
    found = {row["offset"]: (row["kind"], row["reasons"]) for row in world.first["silver.quarantine"]}
    author = world.first["silver.control"][0]["author"]
    expected = {
        world.offset(name): (kind, [reason.format(author=author) for reason in reasons])
        for name, (kind, reasons) in QUARANTINED.items()
    }
    assert found == expected


def test_every_repeat_lies_in_duplicates_beside_the_record_it_repeats(world: World) -> None:
    found = {row["offset"]: (row["kind"], row["first_offset"]) for row in world.first["silver.duplicates"]}
    assert found == {world.offset(repeat): ("payment", world.offset(first)) for repeat, first in DUPLICATES.items()}
    good = _row(world.first["silver.payments"], world.offset("good"))
    assert world.first["silver.duplicates"][0]["content_digest"] == good["content_digest"]


def test_a_conflict_names_both_contents(world: World) -> None:
    row = _row(world.first["silver.quarantine"], world.offset("conflict"))
    good = _row(world.first["silver.payments"], world.offset("good"))
    assert (row["first_offset"], row["first_content_digest"]) == (good["offset"], good["content_digest"])
    assert row["content_digest"] not in (None, good["content_digest"])
    others = [r for r in world.first["silver.quarantine"] if r["offset"] != row["offset"]]
    assert {(r["first_offset"], r["content_digest"], r["first_content_digest"]) for r in others} == {(None, None, None)}


def test_received_is_accepted_and_quarantined_and_duplicates(world: World) -> None:
    (balance,) = world.first["silver.balance"]
    counts = (len(world.first[name]) for name in ("bronze.events", "silver.quarantine", "silver.duplicates"))
    assert (balance["received"], balance["quarantined"], balance["duplicates"]) == tuple(counts)
    assert balance["accepted"] == sum(len(world.first[table.name]) for table in BY_KIND.values())
    assert balance["received"] == balance["accepted"] + balance["quarantined"] + balance["duplicates"] == 29
    assert (balance["start_offset"], balance["offset"]) == (0, 28)
    assert balance["engine_clock"] == _time(T0)


def test_bronze_holds_every_record_as_received(world: World) -> None:
    rows = world.first["bronze.events"]
    keyring = keys.source(world.settings).keyring()
    data_keys = DataKeys(keys.source(world.settings))
    digests, topic_id = Digests(keyring), topics.identify(world.settings, topics.EVENTS).topic_id
    for (_, record), (offset, row) in zip(world.sent.items(), enumerate(rows), strict=False):
        assert (row["topic_id"], row["partition"], row["offset"]) == (topic_id, 0, offset)
        (opened,) = RecordSeal.opening(data_keys, row["sealing_key"]).open(
            [row["sealed"]], [f"{topic_id}/0/{offset}".encode()]
        )
        assert opened == packed(record.key, record.headers or [], record.value)
        assert row["payload_digest"] == digests.payload(record.value or b"")
        assert row["ingest_date"] == row["ingested_at"].date()
    assert len(rows) == 29


def test_the_payload_digest_goes_with_the_record_wherever_it_goes(world: World) -> None:
    of_bronze = {row["offset"]: row["payload_digest"] for row in world.first["bronze.events"]}
    names = [*ACCEPTED, "silver.quarantine", "silver.duplicates"]
    elsewhere = {row["offset"]: row["payload_digest"] for name in names for row in world.first[name]}
    assert elsewhere == of_bronze


def test_a_payment_is_typed_converted_and_masked(world: World) -> None:
    row = _row(world.first["silver.payments"], world.offset("good"))
    keyring = keys.source(world.settings).keyring()
    tokens = Tokens(keyring)
    assert row["card_token"] == tokens.text(tokens.digests("card", [PERSON["card_number"].encode()])[0])
    assert (row["received_at"], row["event_time"], row["engine_clock"]) == (_time(T0), _time(T0 - SECOND), _time(T0))
    assert (row["amount_minor"], row["amount_base_minor"], row["reference_version"]) == (1250, 1250, 1)
    assert (row["category_risk"], row["country_risk"], row["seconds_late"]) == (0.02, 0.05, 1.0)
    # Its customer is erased some records later.
    with pytest.raises(KeyDestroyed, match=r"subject|was destroyed"):
        opened(DataKeys(keys.source(world.settings)), "silver.payments", row)
    other = _row(world.first["silver.payments"], world.offset("dollars"))
    assert opened(DataKeys(keys.source(world.settings)), "silver.payments", other)["customer_id"] == "C-1"


def test_what_the_reference_does_not_know_is_missing(world: World) -> None:
    row = _row(world.first["silver.payments"], world.offset("dollars"))
    assert (row["amount_minor"], row["amount_base_minor"]) == (1000, 862)
    assert (row["category_risk"], row["country_risk"]) == (None, 0.9)


def test_a_late_record_keeps_its_own_time_and_takes_the_engines_clock(world: World) -> None:
    row = _row(world.first["silver.payments"], world.offset("late"))
    assert (row["received_at"], row["engine_clock"]) == (_time(T0 - 3600 * SECOND), _time(T0))


def test_a_label_counts_from_when_it_is_available_but_not_before_it_came(world: World) -> None:
    rows = world.first["silver.labels"]
    assert [row["effective_at"] for row in rows] == [_time(T0 + DAY), _time(T0)]
    assert [row["amount_base_minor"] for row in rows] == [1250, 1250]
    assert [row["reverses"] for row in rows] == [None, "l1"]
