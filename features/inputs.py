"""Admitted columns -> the records that the kernel reads. Engine and history driver both come through here."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from features.entities import WHO
from features.own import Own, named
from features.records import AUTHORISED, DECLINED, FRAUD, LABELLED, PAID, Records, empty
from lakehouse.codec import Batch
from lakehouse.texts import Bytes8, Flags, Ints, Texts

Doubles = npt.NDArray[np.float64]


class Whom(NamedTuple):
    """64-bit keys of the people and things behind tokens; zero for none."""

    card: Ints
    customer: Ints
    device: Ints
    ip: Ints
    email: Ints


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


PUBLIC = {
    "merchant": "merchant_id",
    "country": "merchant_country",
    "issuer_country": "issuer_country",
    "category": "merchant_category_code",
}
_PEOPLE_AT = [WHO.index(name) for name in Whom._fields]
_PUBLIC_AT = [WHO.index(name) for name in PUBLIC]


def _who(batch: Batch, whom: Whom) -> Ints:
    out = np.empty((batch.rows, len(WHO)), np.int64)
    out[:, _PUBLIC_AT] = named(batch, tuple(PUBLIC.values()))
    for at, keys in zip(_PEOPLE_AT, whom, strict=True):
        out[:, at] = keys
    return out


_DECLINED, _RULE = (int(Texts.of([word]).hash64()[0]) for word in ("declined", "rule"))


def payments(batch: Batch, whom: Whom, admitted: Admitted, addresses_differ: Doubles) -> Placed:
    """Payments as records; `addresses_differ` is 1, 0 or unknown."""
    n, base = batch.rows, admitted.amount_base_minor
    own = Own.of(batch, base, admitted.category_risk, admitted.country_risk, whom.device, addresses_differ)
    records = empty(n)._replace(
        what=np.full(n, PAID, np.int8),
        event_ms=batch.numbers("event_time").astype(np.int64),
        amount=base,
        place=own.place,
        who=_who(batch, whom),
        flags=own.flags,
        payment=own.statistics,
    )
    return Placed(records, admitted.offset, admitted.clock_ms)


def authorisations(batch: Batch, whom: Whom, offset: Ints, clock_ms: Ints) -> Placed:
    """Authorisation results as records."""
    declined = batch.texts("result").hash64() == _DECLINED
    records = empty(batch.rows)._replace(
        what=np.full(batch.rows, AUTHORISED, np.int8),
        event_ms=batch.numbers("event_time").astype(np.int64),
        who=_who(batch, whom),
        flags=np.where(declined, DECLINED, 0).astype(np.uint8),
    )
    return Placed(records, offset, clock_ms)


def labels(batch: Batch, whom: Whom, amount_base_minor: Ints, offset: Ints, clock_ms: Ints) -> Placed:
    """Labels as records; their time is the one at which they take effect: max(label_available_at, engine clock).

    What a rule of ours predicted is no finding, whoever sends it: features must not learn from decisions.
    """
    fraud = batch.numbers("is_fraud").astype(np.bool_) & (batch.texts("source").hash64() != _RULE)
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
