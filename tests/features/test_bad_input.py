"""What bad input gets: a defined result, never a crash, never an infinite number, never zero for unknown.

Payments go the engine's whole way: bytes of the log, decoded, admitted, taken through the features. What admission
refuses, and why, is tested in tests/expectations; here, that a refused payment leaves no trace in others' features.
"""

from datetime import UTC, datetime

import numpy as np
import pytest
import worlds
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st

from decisions.driver import Driver
from decisions.identities import identified
from decisions.intake import Message
from expectations.decoded import decode
from features import store
from features.catalogue import FEATURES, NAMES
from features.entities import CLUSTER, WHO
from features.flow import Flow
from features.preparing import placed_of
from features.records import PAID
from features.renaming import Renaming
from features.state import Spec
from features.statistics import PAYMENT
from lakehouse import keys
from lakehouse.crypto import Digests, Tokens, entity_key_of_token
from lakehouse.registry import registry
from lakehouse.settings import resolve
from lakehouse.texts import Texts
from silver.masking import Masker
from tests.lakehouse.records import DAY, HOUR, SECOND, T0, raw, raw_control, signed
from tests.silver.sealed import in_bronze

SPEC = Spec(label_delay_d=7, record_retention_d=400, max_keys=1_000_000)
PARIS, LYON = {"latitude": 48.8566, "longitude": 2.3522}, {"latitude": 45.7640, "longitude": 4.8357}
PARIS_LYON_KM = 391.5
PLACED = ("card_distance_last_km", "card_speed_kmh", "card_distance_home_km", "card_distance_surplus")
NAN = float("nan")


class Vector(dict):
    """Features by name."""

    def of(self, *names):
        return [self[name] for name in names]

    def missing(self):
        return {name for name, value in self.items() if np.isnan(value)}


@pytest.fixture
def taken(settings):
    """Takes payments and labels through a new engine's driver; the vectors of the payments that it accepts."""

    def run(*records):
        folder = resolve(settings.keys.folder)
        driver = Driver(store.new(settings, store.Place("T", 0, 0)), keys.from_file(folder))
        messages = [Message(0, T0 - DAY, raw_control(signed(folder), T0 - DAY))]
        for offset, one in enumerate(records, 1):
            kind = "label" if "label_id" in one else "payment"
            messages.append(Message(offset, one["received_at"], raw(kind, **one)))
        (segment,) = driver.take(messages)
        return [Vector(zip(NAMES, row.tolist(), strict=True)) for row in segment.vectors]

    return run


def at(hours, late_s=1.0, **fields):
    """A payment that arrives so many hours after T0; each has an id of its own."""
    received = T0 + round(hours * HOUR)
    name = f"t-{hours}-{late_s}"
    return {"transaction_id": name, "received_at": received, "event_time": received - round(late_s * SECOND), **fields}


def same(found, expected, rel=1e-5):
    return found == pytest.approx(expected, rel=rel, nan_ok=True)


@pytest.mark.parametrize(
    "nowhere",
    [
        {},
        {"latitude": 45.0},
        {"longitude": 5.0},
        {"latitude": NAN, "longitude": 5.0},
        {"latitude": 45.0, "longitude": NAN},
        {"latitude": NAN, "longitude": NAN},
    ],
)
def test_a_payment_without_a_place_has_no_distance_and_leaves_the_last_place_as_it_was(taken, nowhere):
    _, without, after = taken(at(0, **PARIS), at(1, **nowhere), at(2, **LYON))
    assert same(without.of(*PLACED), [NAN] * 4)
    assert without["card_located_count"] == after["card_located_count"] == 1
    assert same(after.of(*PLACED[:3]), [PARIS_LYON_KM, PARIS_LYON_KM / 2, PARIS_LYON_KM], rel=1e-3)


def test_the_first_place_has_no_distance(taken):
    (first,) = taken(at(0, **PARIS))
    assert same(first.of(*PLACED), [NAN] * 4)


def test_a_late_payment_counts_as_happening_now_and_has_neither_distance_nor_speed(taken):
    _, late, after = taken(at(0, **PARIS), at(1, late_s=7200, **LYON), at(2, **LYON))
    assert late["seconds_late"] == 7200
    assert late.of("card_since_last_s", "card_tx_count_1m", "card_tx_count_1h") == [0, 1, 1]
    assert same(late.of("card_distance_last_km", "card_speed_kmh"), [NAN, NAN])
    # The late one was in Lyon at an hour that nobody knows the order of: the last known place is still Paris.
    assert after["card_distance_last_km"] == pytest.approx(PARIS_LYON_KM, rel=1e-3)
    assert after.of("card_since_last_s", "card_tx_count_6h", "card_located_count") == [7200, 2, 2]


@pytest.mark.parametrize(("late_s", "is_known"), [(60.0, True), (60.001, False)])
def test_a_minute_late_is_on_time(taken, late_s, is_known):
    _, found = taken(at(0, **PARIS), at(1, late_s=late_s, **LYON))
    assert np.isnan(found["card_speed_kmh"]) != is_known


def test_a_payment_five_minutes_ahead_is_taken_and_nothing_after_it_is_negative(taken):
    ahead, after = taken(at(0, late_s=-300), at(1 / 60))
    assert ahead["seconds_late"] == -300
    assert after.of("card_since_last_s", "card_age_s", "card_tx_count_1m", "customer_merchant_since_last_s") == [
        0,
        0,
        1,
        0,
    ]


REFUSED = {
    "a negative amount": {"amount_minor": -1},
    "a place beyond the pole": {"latitude": 90.5, "longitude": 0.0},
    "a place beyond the date line": {"latitude": 0.0, "longitude": 180.5},
    "infinity": {"latitude": 0.0, "longitude": float("inf")},
    "an unknown country": {"merchant_country": "XX"},
    "an event far in the future": {"event_time": T0 + 3 * HOUR},
    "an event of long ago": {"event_time": T0 - 800 * DAY},
    "a currency without a rate": {"currency": "CHF"},
    "the first payment again": {"transaction_id": "first"},
    "the first payment's id with another amount": {"transaction_id": "first", "amount_minor": 9},
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
def test_a_refused_payment_leaves_no_trace(taken, fields):
    first = at(0, **PARIS) | {"transaction_id": "first"}
    bad = (first if fields == REFUSED["the first payment again"] else at(1, **LYON)) | fields
    found, expected = taken(first, bad, at(2, **LYON)), taken(first, at(2, **LYON))
    assert len(found) == len(expected) == 2
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(list(one.values()), list(other.values()))


OF_NOBODY = {f.name for f in FEATURES if f.entity in ("device", "customer_device", "card_device", "ip", "customer_ip")}


@pytest.mark.parametrize("nobody", [{}, *({"device_id": text, "ip_address": text} for text in ("", " ", "\t"))])
def test_without_device_and_address_theirs_is_missing_however_often_it_happens(taken, nobody):
    found = taken(*(at(hour, **nobody) for hour in range(4)))[-1]
    assert found.missing() >= OF_NOBODY | {"customer_same_device", "customer_same_ip"}
    assert found["device_is_known"] == 0
    assert found.of("card_ips_distinct_24h", "customer_devices_distinct_24h") == [0, 0]
    assert found["card_tx_count_24h"] == 3


OF_NO_CUSTOMER = {f.name for f in FEATURES if f.entity.startswith("customer") or f.entity == CLUSTER.name}


@pytest.mark.parametrize("blank", ["", " \t"])
def test_without_a_customer_id_nobody_is_the_customer_however_often_it_happens(taken, blank):
    found = taken(*(at(hour, customer_id=blank, device_id="d") for hour in range(3)), at(3, device_id="d"))
    nobody, somebody = found[2], found[3]
    assert nobody.missing() >= OF_NO_CUSTOMER
    assert nobody.of("card_tx_count_24h", "device_tx_count_24h", "device_customers_distinct_24h") == [2, 2, 0]
    names = ("customer_life_tx_count", "customer_device_known", "ring_customers_count", "device_customers_distinct_24h")
    assert somebody.of(*names) == [0, 0, 0, 0]


def test_engine_and_lake_name_the_same_customers_and_nobody_by_a_blank_id(settings):
    source = keys.KeySource("file", str(resolve(settings.keys.folder)))
    schema, tokens = registry().latest("authorisation"), Tokens(source.keyring())
    values = [raw("authorisation", customer_id=name) for name in ("", "C-1", " \t", " C-1")]
    records, moment = Texts.of(values), datetime(2025, 1, 6, 8, tzinfo=UTC)
    ends = records.start + records.length
    broker_ms, digests = np.full(len(values), T0), Digests(source.keyring())
    batch = decode(schema, records.buffer.tobytes(), records.start, ends, broker_ms, digests).batch
    engine = identified(batch, tokens, {}).whom(np.arange(len(values))).customer.tolist()
    kept, _ = Masker(source, schema, {}, tokens.version).masked(in_bronze(source, values, moment, moment))
    rows = kept.append_column("engine_clock", kept.column("received_at"))
    names = Renaming(blank_customers=(tokens.blank_customer,)).opened()
    lake = placed_of("authorisation", rows, names).records.who[:, WHO.index("customer")].tolist()
    somebody = entity_key_of_token(tokens.texts("customer", [b"C-1"])[0])
    assert engine == lake == [0, somebody, 0, somebody]


def test_an_unknown_device_does_not_replace_the_last_known_one(taken):
    *_, after = taken(at(0, device_id="d"), at(1), at(2, device_id="d"))
    assert after.of("customer_same_device", "device_life_tx_count", "customer_device_tx_count") == [1, 1, 1]


@pytest.mark.parametrize("blank", ["", " "])
def test_an_address_of_white_space_differs_from_none(taken, blank):
    found = taken(
        at(0, billing_address=blank, shipping_address="1 Main Street"),
        at(1, billing_address="1 Main Street", shipping_address=blank),
        at(2, billing_address="1 Main Street", shipping_address=" 1  main street"),
    )
    assert same([one["addresses_differ"] for one in found], [NAN, NAN, 0])


@pytest.mark.parametrize("reverses", [None, "", " "])
def test_a_finding_that_names_no_other_one_to_take_back_is_a_finding(taken, reverses):
    label = {"label_id": "l1", "event_time": T0, "reverses": reverses}
    label |= dict.fromkeys(("received_at", "label_available_at"), T0 + HOUR)
    _, after = taken(at(0), label, at(2))
    assert after.of("card_fraud_count_7d", "customer_life_fraud", "ring_fraud_count") == [1, 1, 1]


def test_what_a_bare_payment_does_not_say_is_missing(taken):
    bare = {"merchant_category_code": None, "merchant_country": None}
    first, second = taken(at(0, **bare), at(1, **bare))
    said = {f.name for f in FEATURES if f.entity == "payment"} - first.missing()
    assert said == {
        *("amount_minor", "amount_is_round", "amount_is_small", "hour_utc", "weekday", "seconds_late"),
        *("is_remote", "is_wallet", "is_atm", "device_is_known", "three_ds_absent"),
    }
    silent = {f.name for f in FEATURES if f.entity in ("customer_category", "customer_country")}
    assert second.missing() >= OF_NOBODY | silent | {"card_same_country", "card_distance_last_km"}
    assert second.of("card_countries_distinct_24h", "card_foreign_count_24h", "card_tx_count_24h") == [0, 0, 1]


def test_a_country_and_a_category_that_the_tables_do_not_hold_have_no_risk(taken):
    unlisted, listed = taken(at(0, merchant_country="US", merchant_category_code="5999"), at(1))
    assert same(unlisted.of("country_risk", "category_risk"), [NAN, NAN])
    assert same(listed.of("country_risk", "category_risk"), [0.05, 0.02])


def test_ratios_over_nothing_but_zero_amounts_are_unknown(taken):
    _, zero, some = taken(*(at(hour, amount_minor=amount) for hour, amount in enumerate((0, 0, 500))))
    over_zero = [
        *("card_amount_to_last", "card_amount_to_max_life", "customer_amount_to_mean_7d", "card_amount_zscore_30d"),
        *("merchant_amount_to_mean_24h", "customer_merchant_amount_to_mean", "card_amount_sum_24h_to_30d"),
    ]
    for found in (zero, some):
        assert found.missing() >= set(over_zero)
        assert found.of("card_amount_sum_24h", "card_amount_max_24h", "card_life_amount_mean") == [0, 0, 0]


@how(max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from([(0,), (0, 1), (-500, 0, 500), (-1,), (0, 10**11 * 90)]))
def test_no_feature_is_ever_infinite(seed, amounts):
    events, labels = worlds.world(seed, n=120, people=3)
    random = np.random.default_rng(seed)
    amount = np.where(events.records.what == PAID, random.choice(amounts, len(events.offset)), 0)
    events.records.payment[:, PAYMENT.index("amount_minor")] = amount
    events = events._replace(records=events.records._replace(amount=amount))
    found = Flow(SPEC).take(events, labels)
    assert [NAMES[column] for column in np.flatnonzero(np.isinf(found).any(axis=0))] == []


@pytest.fixture(scope="module")
def very_first():
    """(own statistics, vector) of a payment that names everybody, in a place, before anything else."""
    events, _ = worlds.world(5, n=1)
    events.records.what[:] = PAID
    events.records.who[:] = np.arange(1, len(WHO) + 1)
    events.records.place[:] = [0.0, 0.6, 0.8]
    (vector,) = Flow(SPEC).take(events, worlds.nobody())
    return dict(zip(PAYMENT, events.records.payment[0], strict=True)), dict(zip(NAMES, vector, strict=True))


@pytest.mark.parametrize("feature", FEATURES, ids=NAMES)
def test_without_history_a_feature_is_what_the_catalogue_says(feature, very_first):
    own, vector = very_first
    expected = {
        "missing": NAN,
        "0": 0.0,
        "1": 1.0,
        "its value": own.get(feature.name),
    }[feature.without_history]
    assert (feature.without_history == "its value") == (feature.entity == "payment")
    assert np.array_equal(vector[feature.name], np.float32(expected), equal_nan=True)
