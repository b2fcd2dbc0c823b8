"""What a payment says of itself: literal fields in, literal statistics out; what is missing is never zero."""

import numpy as np
import pytest

from expectations.decoded import decode
from features.inputs import Admitted, Whom, payments
from features.own import named
from features.records import FOREIGN, REMOTE, SMALL
from features.statistics import PAYMENT
from lakehouse.codec import Batch
from lakehouse.crypto import Digests
from lakehouse.keys import Keyring
from lakehouse.registry import registry
from lakehouse.texts import Texts
from tests.lakehouse.records import DAY, raw

NAN = float("nan")
MONDAY_3_UTC = 1_767_582_000_000
"""2026-01-05T03:00:00Z"""


def batch_of(**fields):
    """One payment, decoded as engine and silver decode it."""
    schema = registry().latest("payment")
    record = raw("payment", event_time=MONDAY_3_UTC, received_at=MONDAY_3_UTC + 2000, **fields)
    start, end = np.zeros(1, np.int64), np.full(1, len(record))
    decoded = decode(schema, record, start, end, np.full(1, MONDAY_3_UTC), Digests(Keyring({1: bytes(32)})))
    assert decoded.fault.tolist() == [0]
    return decoded.batch


def placed_of(batch, base=1234, device=0, differ=NAN):
    """The payment as a record."""
    zero = np.zeros(1, np.int64)
    whom = Whom(zero + 1, zero + 2, zero + device, zero, zero)
    admitted = Admitted(zero + 7, zero + MONDAY_3_UTC, zero + base, np.array([0.25]), np.array([NAN]))
    return payments(batch, whom, admitted, np.array([differ]))


def said(names, base=1234, device=0, differ=NAN, **fields):
    """Statistics by name."""
    row = placed_of(batch_of(**fields), base, device, differ).records.payment[0]
    return [float(row[PAYMENT.index(name)]) for name in names.split()]


def same(found, expected):
    return np.array_equal(found, expected, equal_nan=True)


ENTRY = "is_manual_entry is_swipe is_stored"
PLACES = "merchant_is_foreign ip_is_foreign ip_differs_from_merchant billing_country_differs shipping_country_differs"
ABROAD = {"merchant_country": "FR", "issuer_country": "DE", "ip_country": "DE"}


@pytest.mark.parametrize(
    ("names", "fields", "expected"),
    [
        (ENTRY, {"entry_mode": "contactless"}, [0, 0, 0]),
        (ENTRY, {"entry_mode": "chip"}, [0, 0, 0]),
        (ENTRY, {"entry_mode": "manual"}, [1, 0, 0]),
        (ENTRY, {"entry_mode": "swipe"}, [0, 1, 0]),
        (ENTRY, {"entry_mode": "stored"}, [0, 0, 1]),
        (ENTRY, {"entry_mode": None}, [NAN, NAN, NAN]),
        ("is_remote is_wallet is_atm three_ds_absent three_ds_failed", {"channel": "ecom"}, [1, 0, 0, 1, NAN]),
        ("is_remote is_wallet is_atm three_ds_absent", {"channel": "moto", "three_ds_result": "Y"}, [1, 0, 0, 0]),
        ("is_remote is_wallet is_atm three_ds_absent", {"channel": "wallet"}, [0, 1, 0, NAN]),
        ("is_remote is_wallet is_atm three_ds_absent", {"channel": "atm"}, [0, 0, 1, NAN]),
        ("three_ds_failed cvv_failed avs_failed", {"three_ds_result": "A"}, [0, NAN, NAN]),
        ("three_ds_failed cvv_failed avs_failed", {"three_ds_result": "N", "cvv_result": "M"}, [1, 0, NAN]),
        ("cvv_failed avs_failed", {"cvv_result": "N", "avs_result": "Y"}, [1, 0]),
        ("cvv_failed avs_failed", {"cvv_result": "", "avs_result": " "}, [NAN, NAN]),
        ("three_ds_failed three_ds_absent", {"channel": "ecom", "three_ds_result": ""}, [NAN, 1]),
        (PLACES, ABROAD, [1, 0, 1, NAN, NAN]),
        (PLACES, {**ABROAD, "billing_country": "DE", "shipping_country": "US"}, [1, 0, 1, 0, 1]),
        (PLACES, {}, [NAN] * 5),
        ("is_recurring is_new_payee", {"is_recurring": True, "is_new_payee": False}, [1, 0]),
        ("is_recurring is_new_payee ip_is_proxy device_is_emulator device_is_rooted", {}, [NAN] * 5),
        ("timezone_gap_h", {"timezone_offset_min": -300}, [6]),
        ("timezone_gap_h pin_attempts account_age_d card_age_d", {}, [NAN] * 4),
        ("pin_attempts", {"pin_attempts": 0}, [0]),
        ("account_age_d card_age_d", {"account_opened_on": MONDAY_3_UTC // DAY - 10, "card_issued_on": 0}, [10, 20458]),
        ("hour_utc weekday is_night is_weekend seconds_late", {}, [3, 0, 1, 0, 2]),
        ("amount_is_round", {"amount_minor": 5000}, [1]),
        ("amount_is_round", {"amount_minor": 5001}, [0]),
        ("amount_is_round", {"amount_minor": 0}, [0]),
        ("category_risk country_risk", {}, [0.25, NAN]),
    ],
)
def test_a_payment_says_of_itself(names, fields, expected):
    assert same(said(names, **fields), expected)


@pytest.mark.parametrize(("base", "small"), [(0, 1), (500, 1), (501, 0)])
def test_amounts_are_those_of_the_base_currency(base, small):
    found = said("amount_minor amount_log amount_is_small", base=base, amount_minor=77)
    assert found == [base, pytest.approx(np.log1p(base)), small]


def test_what_others_know_of_it_is_passed_on():
    assert said("device_is_known addresses_differ", device=9, differ=1.0) == [1, 1]
    assert same(said("device_is_known addresses_differ"), [0, NAN])


@pytest.mark.parametrize(
    ("fields", "base", "flags"),
    [({"channel": "pos"}, 501, 0), ({"channel": "ecom", **ABROAD}, 500, REMOTE | SMALL | FOREIGN)],
)
def test_flags_and_place_go_into_the_record(fields, base, flags):
    records = placed_of(batch_of(latitude=0.0, longitude=90.0, **fields), base).records
    assert records.flags.tolist() == [flags]
    assert records.place[0].tolist() == pytest.approx([0, 1, 0])
    assert records.event_ms.tolist() == [MONDAY_3_UTC]


@pytest.mark.parametrize("half", [{"latitude": 48.5}, {"longitude": 2.25}])
def test_half_a_place_is_no_place(half):
    assert same(placed_of(batch_of(**half), 100).records.place[0], [NAN, NAN, NAN])


def test_a_batch_without_a_column_is_refused_and_never_read_from_another():
    batch = batch_of()
    less = Batch(1, {name: column for name, column in batch.columns.items() if name != "entry_mode"}, batch.valid)
    with pytest.raises(KeyError, match="entry_mode"):
        placed_of(less)


def test_names_are_hashed_and_nobody_is_zero():
    texts = Texts.of(["a", "b", ""])
    batch = Batch(3, {"x": texts, "y": texts}, {"x": np.array([True, False, True])})
    found = named(batch, ("x", "lacking", "y"))
    assert found[:, 0].tolist() == [texts.hash64()[0], 0, texts.hash64()[2]]
    assert found[:, 1].tolist() == [0, 0, 0]
    assert found[:, 2].tolist() == texts.hash64().tolist()
