"""Every generated record is one that the lake must accept: the row rules of the contracts, evaluated by hand."""

import ipaddress
import re

import numpy as np
import numpy.typing as npt
import pytest
from simulated import Log, words

from lakehouse.codec import Batch
from lakehouse.contracts.silver import BY_KIND
from lakehouse.tables import Between, Digits, Holds, Length, OneOf, Required, Rule

Flags = npt.NDArray[np.bool_]
TEST_RANGES = {b"400000", b"401288", b"411111", b"424242", b"510510", b"520082", b"555555", b"222300"}


def _luhn(number: bytes) -> bool:
    digits = [int(c) for c in number.decode()][::-1]
    return sum(d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits)) % 10 == 0


def _numbers(batch: Batch, name: str) -> npt.NDArray[np.float64]:
    if name == "seconds_late":
        return (batch.numbers("received_at") - batch.numbers("event_time")) / 1000
    if name == "seconds_until_available":
        return (batch.numbers("label_available_at") - batch.numbers("received_at")) / 1000
    return batch.numbers(name).astype(np.float64)


def _holds(rule: Rule, batch: Batch) -> Flags:
    """Which rows pass; a rule passes where its column is null, except Required."""
    if isinstance(rule, Between) and rule.column == "seconds_behind_broker":
        return np.ones(batch.rows, np.bool_)  # the broker's clock is not the record's
    if isinstance(rule, Holds):
        if rule.column == "dates_plausible":
            days = [batch.numbers(name) for name in ("account_opened_on", "card_issued_on")]
            return np.all([(day >= -36_525) & (day <= 36_525) for day in days], axis=0)
        assert rule.column == "card_well_formed"
        return np.array([len(n) == 16 and _luhn(n) for n in batch.texts("card_number").to_list()])
    has = batch.has(rule.column)
    match rule:
        case Required():
            return has
        case Between():
            value = _numbers(batch, rule.column)
            return ~has | ((rule.low <= value) & (value <= rule.high))
        case OneOf():
            return ~has | np.isin(words(batch.texts(rule.column)), [v.encode() for v in rule.values])
        case Digits():
            matches = [bool(re.fullmatch(rb"\d{%d}" % rule.length, t)) for t in batch.texts(rule.column).to_list()]
            return ~has | np.array(matches)
        case Length():
            length = np.array([len(t.decode()) for t in batch.texts(rule.column).to_list()])
            return ~has | ((rule.low <= length) & (length <= rule.high))
    raise AssertionError(f"a rule type this test does not know: {rule}")


@pytest.mark.parametrize("kind", ["payment", "authorisation", "label"])
def test_every_record_satisfies_the_contract(small: Log, kind: str) -> None:
    batch = {"payment": small.payments, "authorisation": small.authorisations, "label": small.labels}[kind]
    assert batch.rows > 300
    broken = {rule.name: int((~_holds(rule, batch)).sum()) for rule in BY_KIND[kind].rules}
    assert set(broken.values()) == {0}, f"seed {small.options.seed}: {broken}"


def test_only_test_card_ranges_appear(usual: Log) -> None:
    numbers = set(usual.payments.texts("card_number").to_list())
    assert {n[:6] for n in numbers} == TEST_RANGES
    assert {len(n) for n in numbers} == {16}


def test_no_address_is_anybody_s(usual: Log) -> None:
    has = usual.payments.has("ip_address")
    addresses = {ipaddress.ip_address(a.decode()) for a in words(usual.payments.texts("ip_address"))[has].tolist()}
    assert {a.version for a in addresses} == {4, 6}
    reserved, documentation = ipaddress.ip_network("240.0.0.0/4"), ipaddress.ip_network("2001:db8::/32")
    assert all(a in (reserved if a.version == 4 else documentation) for a in addresses)
    mails = words(usual.payments.texts("customer_email"))[usual.payments.has("customer_email")]
    assert {m.split(b"@")[1] for m in mails.tolist()} == {b"example.com", b"example.org", b"example.net"}


@pytest.mark.parametrize(
    ("channel", "always", "never"),
    [
        (
            "pos",
            ["terminal_id", "latitude", "longitude"],
            ["device_id", "ip_address", "cvv_result", "shipping_address"],
        ),
        ("atm", ["terminal_id", "pin_attempts"], ["device_id", "ip_address", "customer_email", "three_ds_result"]),
        ("wallet", ["device_id", "device_os", "language", "latitude"], ["ip_address", "browser", "cvv_result"]),
        ("moto", [], ["device_id", "ip_address", "terminal_id", "latitude", "three_ds_result", "pin_attempts"]),
        ("ecom", ["is_recurring"], ["pin_attempts"]),
    ],
)
def test_fields_are_filled_as_the_channel_would(usual: Log, channel: str, always: list[str], never: list[str]) -> None:
    mine = words(usual.payments.texts("channel")) == channel.encode()
    assert mine.mean() > 0.01
    assert {name: usual.payments.has(name)[mine].mean() for name in always} == dict.fromkeys(always, 1.0)
    assert {name: usual.payments.has(name)[mine].mean() for name in never} == dict.fromkeys(never, 0.0)


def test_online_fields_are_there_more_often_than_not(usual: Log) -> None:
    online = (words(usual.payments.texts("channel")) == b"ecom") & ~usual.payments.numbers("is_recurring").astype(bool)
    share = {name: usual.payments.has(name)[online].mean() for name in ("device_id", "ip_address", "billing_address")}
    assert share["device_id"] == share["ip_address"] == 1.0
    assert 0.85 < share["billing_address"] < 0.95
    for name, low, high in (("cvv_result", 0.3, 0.6), ("avs_result", 0.4, 0.7), ("three_ds_result", 0.75, 0.85)):
        assert low < usual.payments.has(name)[online].mean() < high, name


def test_few_fail_in_3_d_secure_by_the_codes_that_features_know(usual: Log) -> None:
    given = words(usual.payments.texts("three_ds_result"))[usual.payments.has("three_ds_result")]
    assert set(given.tolist()) == {b"Y", b"A", b"N"}
    assert 0.01 < (given == b"N").mean() < 0.05


def test_most_payments_are_in_euro_and_many_are_not(usual: Log) -> None:
    currency, count = np.unique(words(usual.payments.texts("currency")), return_counts=True)
    share = dict(zip(currency.tolist(), (count / count.sum()).tolist(), strict=True))
    assert share[b"EUR"] > 0.6
    assert min(share[c] for c in (b"GBP", b"USD", b"CHF", b"SEK", b"PLN", b"JPY")) > 0.005


def test_yen_have_no_decimals(usual: Log) -> None:
    currency = words(usual.payments.texts("currency"))
    amount = usual.payments.numbers("amount_minor")
    in_euro, in_yen = np.median(amount[currency == b"EUR"]), np.median(amount[currency == b"JPY"])
    assert 1_500 < in_euro < 4_500  # cents
    assert 1_500 < in_yen < 16_000  # yen, some 160 for a euro


def test_cards_and_accounts_are_older_than_their_payments(usual: Log) -> None:
    day = usual.payments.numbers("event_time") // 86_400_000
    opened, issued = usual.payments.numbers("account_opened_on"), usual.payments.numbers("card_issued_on")
    has = usual.payments.has("card_issued_on")
    assert (opened <= day).all()
    assert ((opened <= issued) & (issued <= day))[has].all()
