"""Admitted columns -> the records that the kernel reads. Engine and history driver both come through here."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from expectations.reference import short_codes
from features.entities import WHO
from features.records import AUTHORISED, DECLINED, FOREIGN, FRAUD, LABELLED, PAID, REMOTE, SMALL, Records, empty
from features.statistics import PAYMENT
from features.windows import DAY_MS, HOUR_MS
from lakehouse.codec import Batch
from lakehouse.texts import Bytes8, Flags, Ints, Texts

Doubles = npt.NDArray[np.float64]

ROUND_MINOR = 1000
"""Ten units of a currency with two decimals: what people choose, prices end otherwise."""
SMALL_BASE_MINOR = 500
"""Five units of base currency: the size of a test payment, and of parking and coffee."""
NIGHT_HOURS = 6
"""Hours 0 to 5, UTC."""
HOME_OFFSET_MIN = 60
"""Central Europe in winter: the reference from which a device's time zone is measured."""


class Whom(NamedTuple):
    """64-bit keys of the people and things behind tokens; zero for none."""

    card: Ints
    customer: Ints
    device: Ints
    ip: Ints


class Admitted(NamedTuple):
    """What admission adds to a record."""

    offset: Ints
    clock_ms: Ints
    amount_base_minor: Ints
    category_risk: Doubles
    country_risk: Doubles


class Placed(NamedTuple):
    """Records with their place in the log and the engine's clock at it."""

    records: Records
    offset: Ints
    clock_ms: Ints


@njit(cache=True)
def _token_keys(buffer: Bytes8, start: Ints, length: Ints, out: Ints) -> None:
    # base64url after the colon; the first 64 bits, little-endian, are the key.
    for i in range(len(start)):
        at, end = start[i], start[i] + length[i]
        while at < end and buffer[at] != 58:
            at += 1
        raw = np.uint64(0)
        bits = 0
        at += 1
        key = np.uint64(0)
        done = 0
        while at < end and done < 8:
            c = buffer[at]
            if 65 <= c <= 90:
                v = c - 65
            elif 97 <= c <= 122:
                v = c - 71
            elif 48 <= c <= 57:
                v = c + 4
            else:
                v = 62 if c == 45 else 63
            raw = (raw << np.uint64(6)) | np.uint64(v)
            bits += 6
            if bits >= 8:
                bits -= 8
                byte = (raw >> np.uint64(bits)) & np.uint64(0xFF)
                key |= byte << np.uint64(8 * done)
                done += 1
            at += 1
        out[i] = np.int64(key)


def token_keys(tokens: Texts, has: Flags) -> Ints:
    """The 64-bit keys of tokens, zero where there is none."""
    out = np.zeros(len(tokens), np.int64)
    _token_keys(tokens.buffer, tokens.start, tokens.length, out)
    return nonzero(out, has)


def nonzero(keys: Ints, has: Flags) -> Ints:
    """Keys where somebody is, zero where nobody is."""
    return np.where(has, np.where(keys == 0, 1, keys), 0)


def _public(batch: Batch, name: str) -> Ints:
    return nonzero(batch.texts(name).hash64(), batch.has(name))


def _who(batch: Batch, whom: Whom) -> Ints:
    out = np.zeros((batch.rows, len(WHO)), np.int64)
    named = {"card": whom.card, "customer": whom.customer, "device": whom.device, "ip": whom.ip}
    named["merchant"] = _public(batch, "merchant_id")
    for column, field in (
        ("country", "merchant_country"),
        ("issuer_country", "issuer_country"),
        ("category", "merchant_category_code"),
    ):
        if field in batch.columns:
            named[column] = _public(batch, field)
    for column, keys in named.items():
        out[:, WHO.index(column)] = keys
    return out


def _code(text: str) -> int:
    return int(short_codes(Texts.of([text]))[0])


_HASHES = {name: int(Texts.of([name]).hash64()[0]) for name in ("manual", "swipe", "stored", "declined")}


def _flag(values: Flags, known: Flags) -> Doubles:
    return np.where(known, values.astype(np.float64), np.nan)


def payments(batch: Batch, whom: Whom, admitted: Admitted, addresses_differ: Doubles) -> Placed:
    """Payments as records; `addresses_differ` is 1, 0 or unknown."""
    n = batch.rows
    has = batch.has
    codes = {
        name: np.where(has(name), short_codes(batch.texts(name)), -1)
        for name in (
            *("channel", "merchant_country", "issuer_country", "ip_country", "billing_country", "shipping_country"),
            *("cvv_result", "avs_result", "three_ds_result"),
        )
    }
    entry = batch.texts("entry_mode").hash64()
    event_ms, amount = batch.numbers("event_time").astype(np.int64), batch.numbers("amount_minor").astype(np.int64)
    base = admitted.amount_base_minor
    hour, day = (event_ms // HOUR_MS) % 24, event_ms // DAY_MS
    weekday = (day + 3) % 7  # 1970-01-01 was a Thursday
    remote = (codes["channel"] == _code("ecom")) | (codes["channel"] == _code("moto"))
    everywhere = np.ones(n, np.bool_)

    def differ(one: str, other: str) -> Doubles:
        return _flag(codes[one] != codes[other], has(one) & has(other))

    def stated(name: str) -> Doubles:
        return _flag(batch.numbers(name).astype(np.bool_), has(name))

    def age_d(name: str) -> Doubles:
        return np.where(has(name), day - batch.numbers(name), np.nan)

    three_ds = codes["three_ds_result"]
    own: Mapping[str, Doubles | Flags | Ints] = {
        "amount_minor": base,
        "amount_log": np.log1p(base),
        "amount_is_round": (amount % ROUND_MINOR == 0) & (amount > 0),
        "amount_is_small": base <= SMALL_BASE_MINOR,
        "hour_utc": hour,
        "weekday": weekday,
        "is_night": hour < NIGHT_HOURS,
        "is_weekend": weekday >= 5,
        "is_remote": remote,
        "is_wallet": codes["channel"] == _code("wallet"),
        "is_atm": codes["channel"] == _code("atm"),
        "is_manual_entry": _flag(entry == _HASHES["manual"], has("entry_mode")),
        "is_swipe": _flag(entry == _HASHES["swipe"], has("entry_mode")),
        "is_stored": _flag(entry == _HASHES["stored"], has("entry_mode")),
        "is_recurring": stated("is_recurring"),
        "is_new_payee": stated("is_new_payee"),
        "category_risk": admitted.category_risk,
        "country_risk": admitted.country_risk,
        "merchant_is_foreign": differ("merchant_country", "issuer_country"),
        "ip_is_foreign": differ("ip_country", "issuer_country"),
        "ip_differs_from_merchant": differ("ip_country", "merchant_country"),
        "shipping_country_differs": differ("shipping_country", "billing_country"),
        "billing_country_differs": differ("billing_country", "issuer_country"),
        "addresses_differ": addresses_differ,
        "timezone_gap_h": np.where(
            has("timezone_offset_min"), np.abs(batch.numbers("timezone_offset_min") - HOME_OFFSET_MIN) / 60, np.nan
        ),
        "ip_is_proxy": stated("ip_is_proxy"),
        "device_is_emulator": stated("device_is_emulator"),
        "device_is_rooted": stated("device_is_rooted"),
        "device_is_known": whom.device != 0,
        "cvv_failed": _flag(codes["cvv_result"] != _code("M"), has("cvv_result")),
        "avs_failed": _flag(codes["avs_result"] != _code("Y"), has("avs_result")),
        "three_ds_failed": _flag((three_ds != _code("Y")) & (three_ds != _code("A")), has("three_ds_result")),
        "three_ds_absent": _flag(~has("three_ds_result"), remote),
        "pin_attempts": np.where(has("pin_attempts"), batch.numbers("pin_attempts"), np.nan),
        "account_age_d": age_d("account_opened_on"),
        "card_age_d": age_d("card_issued_on"),
        "seconds_late": batch.numbers("seconds_late"),
    }
    statistics = np.empty((n, len(PAYMENT)))
    for column, name in enumerate(PAYMENT):
        statistics[:, column] = own[name]
    foreign = (codes["merchant_country"] != codes["issuer_country"]) & has("merchant_country") & has("issuer_country")
    flags = np.where(remote, REMOTE, 0) | np.where(base <= SMALL_BASE_MINOR, SMALL, 0) | np.where(foreign, FOREIGN, 0)
    records = empty(n)._replace(
        what=np.full(n, PAID, np.int8),
        event_ms=event_ms,
        amount=base,
        latitude=np.where(has("latitude"), batch.numbers("latitude"), np.nan),
        longitude=np.where(has("longitude"), batch.numbers("longitude"), np.nan),
        who=_who(batch, whom),
        flags=(flags * everywhere).astype(np.uint8),
        payment=statistics,
    )
    return Placed(records, admitted.offset, admitted.clock_ms)


def authorisations(batch: Batch, whom: Whom, offset: Ints, clock_ms: Ints) -> Placed:
    """Authorisation results as records."""
    declined = batch.texts("result").hash64() == _HASHES["declined"]
    records = empty(batch.rows)._replace(
        what=np.full(batch.rows, AUTHORISED, np.int8),
        event_ms=batch.numbers("event_time").astype(np.int64),
        who=_who(batch, whom),
        flags=np.where(declined, DECLINED, 0).astype(np.uint8),
    )
    return Placed(records, offset, clock_ms)


def labels(batch: Batch, whom: Whom, amount_base_minor: Ints, offset: Ints, clock_ms: Ints) -> Placed:
    """Labels as records; their time is the one at which they take effect: max(label_available_at, engine clock)."""
    fraud = batch.numbers("is_fraud").astype(np.bool_)
    effective = np.maximum(batch.numbers("label_available_at").astype(np.int64), clock_ms)
    records = empty(batch.rows)._replace(
        what=np.full(batch.rows, LABELLED, np.int8),
        event_ms=effective,
        amount=amount_base_minor,
        who=_who(batch, whom),
        flags=np.where(fraud, FRAUD, 0).astype(np.uint8),
        label_id=_public(batch, "label_id"),
        reverses=_public(batch, "reverses"),
    )
    return Placed(records, offset, clock_ms)
