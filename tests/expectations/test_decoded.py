import hashlib
import hmac
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from expectations.decoded import Decoded, broken_rules, decode, pairs
from lakehouse.crypto import Digests
from lakehouse.keys import Keyring
from lakehouse.registry import registry
from lakehouse.texts import Texts
from lakehouse.topics import EVENT_KINDS
from tests.lakehouse.records import DAY, SECOND, T0, raw
from tests.lakehouse.test_keys import FIRST, hkdf

DIGESTS = Digests(Keyring({1: FIRST}))


def _decoded(kind: str, *records: bytes, broker_ms: int = T0) -> Decoded:
    texts = Texts.of(records)
    times = np.full(len(records), broker_ms)
    ends = texts.start + texts.length
    return decode(registry().latest(kind), texts.buffer.tobytes(), texts.start, ends, times, DIGESTS)


def test_derived_columns_say_what_the_rules_look_at() -> None:
    found = _decoded(
        "payment",
        raw("payment", event_time=T0 - 2500, account_opened_on=-25_567, card_issued_on=84_005),
        raw("payment", received_at=T0 + SECOND, card_number="4539148803436468", account_opened_on=-25_568),
        raw("payment", card_issued_on=84_006),
        raw("payment", event_time=T0 + SECOND),
    ).batch
    assert found.numbers("seconds_late").tolist() == [2.5, 2.0, 1.0, -1.0]
    assert found.numbers("seconds_behind_broker").tolist() == [0.0, -1.0, 0.0, 0.0]
    assert found.numbers("card_well_formed").tolist() == [True, False, True, True]
    assert found.numbers("dates_plausible").tolist() == [True, False, False, True]
    label = _decoded("label", raw("label", label_available_at=T0 + DAY)).batch
    assert label.numbers("seconds_until_available").tolist() == [86_400.0]


def test_a_number_that_is_none_counts_as_missing() -> None:
    found = _decoded("label", raw("label", confidence=float("nan")), raw("label", confidence=0.5))
    assert found.batch.has("confidence").tolist() == [False, True]
    assert broken_rules(found) == ["confidence_required", ""]
    place = _decoded("payment", raw("payment", latitude=float("nan"), longitude=float("inf")))
    assert broken_rules(place) == ["longitude_plausible"]


BLANK = ("", " ", " \t\r\n\v\f")


@pytest.mark.parametrize("blank", BLANK)
def test_a_blank_device_or_address_is_none(blank: str) -> None:
    given = [{"device_id": " d", "ip_address": blank}, {"device_id": blank, "ip_address": "203.0.113.7"}, {}]
    for kind in ("payment", "authorisation", "label"):
        found = _decoded(kind, *(raw(kind, **fields) for fields in given)).batch
        assert found.has("device_id").tolist() == [True, False, False], kind
        assert found.has("ip_address").tolist() == [False, True, False], kind


@pytest.mark.parametrize(
    "field",
    [
        *("customer_email", "billing_address", "shipping_address"),
        *("cvv_result", "avs_result", "three_ds_result"),
    ],
)
def test_a_blank_mail_box_postal_address_or_result_of_a_check_is_none(field: str) -> None:
    found = _decoded("payment", *(raw("payment", **{field: text}) for text in ("M", *BLANK, " M ", None))).batch
    assert found.has(field).tolist() == [True, False, False, False, True, False]


def test_a_label_that_takes_back_a_blank_id_takes_back_none() -> None:
    found = _decoded("label", *(raw("label", reverses=text) for text in ("l0", *BLANK, None))).batch
    assert found.has("reverses").tolist() == [True, False, False, False, False]


def test_a_blank_field_is_still_part_of_the_content() -> None:
    assert len({_content("payment", device_id=text) for text in (None, *BLANK)}) == 4


def _content(kind: str, **changes: Any) -> tuple[int, int]:
    high, low = _decoded(kind, raw(kind, **changes)).content[0].tolist()
    return high, low


OTHER: dict[str, Any] = {
    "string": "other",
    "int": 7,
    "long": T0 - 7,
    "boolean": False,
    "double": 0.75,
    "bytes": b"other",
}


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_the_content_is_every_field_but_when_it_was_received(kind: str) -> None:
    usual = _content(kind)
    assert _content(kind, received_at=T0 + 12_345_678) == usual
    found = {usual}
    for field in registry().latest(kind).parsed["fields"]:
        if field["name"] == "received_at":
            continue
        declared = field["type"][1] if isinstance(field["type"], list) else field["type"]
        declared = declared["type"] if isinstance(declared, dict) else declared
        found.add(_content(kind, **{field["name"]: OTHER[declared]}))
    assert len(found) == len(registry().latest(kind).parsed["fields"])


def test_digests_are_the_keyed_ones_of_the_record() -> None:
    one = raw("outcome", outcome_id="o1", transaction_id="t", received_at=1, result="approved")
    assert one == b"\x00\x00\x00\x00\x08" + b"\x04o1" + b"\x02t" + b"\x02" + b"\x10approved"
    found = _decoded("outcome", one)

    def by_hand(purpose: str, message: bytes) -> bytes:
        return hmac.digest(hkdf(FIRST, f"digest|{purpose}|v1"), message, hashlib.sha256)[:16]

    assert DIGESTS.payloads(found.records.to_list()) == [by_hand("payload", one)]
    assert found.identity.astype(">i8").tobytes() == by_hand("identity", b"outcome\x00o1")
    assert found.content.astype(">i8").tobytes() == by_hand(
        "content", b"outcome\x00" + b"\x04o1\x02t" + b"\x10approved"
    )


def test_an_authorisation_is_unique_by_transaction_and_result() -> None:
    found = _decoded(
        "authorisation",
        raw("authorisation"),
        raw("authorisation", result="declined"),
        raw("authorisation", merchant_id="M-2"),
        raw("authorisation", transaction_id="t2"),
    ).identity.tolist()
    assert found[0] == found[2]
    assert len({tuple(pair) for pair in found}) == 3


def test_an_undecodable_record_breaks_exactly_that() -> None:
    good = raw("payment")
    found = _decoded("payment", good, good[:-1], good + b"\x00", good[:5] + b"\x01")
    assert broken_rules(found) == [
        *("", "undecodable_ends_too_early", "undecodable_trailing_bytes", "undecodable_length_out_of_range")
    ]
    assert found.identity[1:].tolist() == [[0, 0]] * 3
    assert found.records.to_list() == [good, good[:-1], good + b"\x00", good[:5] + b"\x01"]


class Counting(Digests):
    """Digests that count the bytes of the bodies handed to them."""

    bodies = 0

    def contents(self, kind: str, bodies: Iterable[bytes]) -> list[bytes]:
        bodies = list(bodies)
        self.bodies += sum(len(one) for one in bodies)
        return super().contents(kind, bodies)


def test_a_record_that_is_no_record_costs_the_digests_no_bytes() -> None:
    good = raw("payment")
    texts = Texts.of([good[:-1]] * 50 + [good[:6]] * 50)
    counting = Counting(Keyring({1: FIRST}))
    ends = texts.start + texts.length
    decoded = decode(
        registry().latest("payment"), texts.buffer.tobytes(), texts.start, ends, np.full(100, T0), counting
    )
    assert decoded.fault.all()
    assert counting.bodies == 0


def test_digests_become_pairs_of_integers() -> None:
    assert pairs([bytes(15) + b"\x01", b"\xff" * 16]).tolist() == [[0, 1], [-1, -1]]
    assert pairs([]).shape == (0, 2)


def test_the_usual_records_break_no_rule() -> None:
    for kind in EVENT_KINDS:
        assert broken_rules(_decoded(kind, raw(kind))) == [""], kind


RULES: dict[str, tuple[str, dict[str, Any], str]] = {
    "a negative amount": ("payment", {"amount_minor": -1}, "amount_plausible"),
    "an amount beyond every card": ("payment", {"amount_minor": 100_000_000_001}, "amount_plausible"),
    "an unknown currency": ("payment", {"currency": "EUX"}, "currency_known"),
    "a currency in lower case": ("payment", {"currency": "eur"}, "currency_known"),
    "a card with another last digit": ("payment", {"card_number": "4539148803436468"}, "card_well_formed"),
    "an event after its arrival": ("payment", {"event_time": T0 + 300_001}, "event_time_plausible"),
    "an event of two years ago": ("payment", {"event_time": T0 - 731 * DAY}, "event_time_plausible"),
    "a record from the future": ("payment", {"received_at": T0 + 300_001}, "received_at_not_ahead"),
    "no transaction id": ("payment", {"transaction_id": ""}, "transaction_id_length"),
    "a long transaction id": ("payment", {"transaction_id": "t" * 65}, "transaction_id_length"),
    "no merchant": ("payment", {"merchant_id": ""}, "merchant_id_length"),
    "an unknown channel": ("payment", {"channel": "POS"}, "channel_known"),
    "an unknown entry mode": ("payment", {"entry_mode": ""}, "entry_mode_known"),
    "a category of three digits": ("payment", {"merchant_category_code": "541"}, "merchant_category_code_digits"),
    "an unknown country": ("payment", {"ip_country": "XX"}, "ip_country_known"),
    "a place beyond the pole": ("payment", {"latitude": 90.0000001}, "latitude_plausible"),
    "a time zone of 15 hours": ("payment", {"timezone_offset_min": 900}, "timezone_plausible"),
    "a negative count of tries": ("payment", {"pin_attempts": -1}, "pin_attempts_plausible"),
    "a card of the year 2200": ("payment", {"card_issued_on": 84_006}, "dates_plausible"),
    "an unknown result": ("authorisation", {"result": "maybe"}, "result_known"),
    "a confidence above one": ("label", {"confidence": 1.01}, "confidence_plausible"),
    "an unknown source": ("label", {"source": "guess"}, "source_known"),
    "a label of the next decade": ("label", {"label_available_at": T0 + 4000 * DAY}, "available_at_plausible"),
    "an unknown scope": ("control", {"scope": "everything"}, "scope_known"),
    "version zero": ("control", {"version": 0}, "version_plausible"),
    "an unknown outcome": ("answer", {"outcome": "maybe"}, "outcome_known"),
}


@pytest.mark.parametrize(("kind", "changes", "rule"), RULES.values(), ids=RULES)
def test_a_record_that_breaks_a_rule_names_it(kind: str, changes: dict[str, Any], rule: str) -> None:
    names = broken_rules(_decoded(kind, raw(kind), raw(kind, **changes), raw(kind)))
    assert names[0] == names[2] == ""
    assert rule in names[1].split(",")
    if "received_at" not in changes:
        assert names[1] == rule
