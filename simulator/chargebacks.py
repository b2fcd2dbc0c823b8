"""What is found out later: chargebacks and other labels, late, not for every fraud, and now and then wrong.

Most frauds are disputed days later. A few honest payments are disputed, too ("friendly fraud"): most of these labels
are taken back. Analysts also confirm that some odd payments were honest. Everything a day's payments lead to is made
with the day, LONGEST_DAYS ahead at most, so nobody needs to look further back than that.
"""

from dataclasses import dataclass

import numpy as np

from lakehouse.codec import Batch
from lakehouse.texts import Flags, Ints, Texts
from simulator.ids import Ids
from simulator.intents import APPROVED
from simulator.options import DAY_MS, HOUR_MS
from simulator.payments import ROW_BITS, Payments
from simulator.randomness import Doubles, generator

FOUND = 0.97
"""Share of frauds that anybody ever reports; small ones stay unseen."""
MEDIAN_DAYS = 4.0
SIGMA = np.log(7 / 4) / 1.6449
"""So that 95 % of a lognormal delay with median four days lie within seven (1.6449: 95 % point of the normal)."""
LONGEST_DAYS = 20
FRIENDLY_SHARE = 0.02
"""Wrong labels as a share of right ones."""
TAKEN_BACK = 0.85
CLEARED_SHARE = 0.05
"""Analysts' findings that a payment was honest, as a share of the labels of fraud."""

SOURCES = ("chargeback", "early_warning", "analyst", "customer")
_CONFIDENCE = np.array([0.98, 0.9, 0.92, 0.8])
# Money that has moved is charged back; an attempt that was refused is reported by the schemes or found by an analyst.
_AFTER_APPROVAL = (0.76, 0.14, 0.03, 0.07)
_AFTER_REFUSAL = (0.0, 0.45, 0.4, 0.15)

_SOURCES = Texts.of(SOURCES)


@dataclass(frozen=True)
class Findings:
    """Labels by row of the day's payments."""

    row: Ints
    number: Ints
    """Number of the label within its day."""
    available_ms: Ints
    is_fraud: Flags
    source: Ints
    reverses: Ints
    """Number of the label that is taken back, or -1."""


def _found(rng: np.random.Generator, payments: Payments) -> Findings:
    row = np.flatnonzero(payments.meant.is_fraud)
    row = row[rng.random(len(row)) < FOUND]
    delay = np.clip(rng.lognormal(np.log(MEDIAN_DAYS), SIGMA, len(row)), 0.3, LONGEST_DAYS - 1)
    refused = payments.refused[row] != APPROVED
    u = rng.random(len(row))[:, None]
    source = np.where(
        refused,
        (u >= np.cumsum(_AFTER_REFUSAL)[:-1]).sum(axis=1),
        (u >= np.cumsum(_AFTER_APPROVAL)[:-1]).sum(axis=1),
    )
    return _findings(payments, row, np.arange(len(row)), delay, np.ones(len(row), np.bool_), source)


def _findings(
    payments: Payments,
    row: Ints,
    number: Ints,
    delay_days: Doubles,
    is_fraud: Flags,
    source: Ints,
    reverses: Ints | None = None,
) -> Findings:
    at_ms = payments.meant.at_ms[row] + (delay_days * DAY_MS).astype(np.int64)
    # Nothing is known before the payment itself has arrived.
    at_ms = np.maximum(at_ms, payments.received_ms[row] + HOUR_MS)
    return Findings(row, number, at_ms, is_fraud, source, np.full(len(row), -1) if reverses is None else reverses)


def _mistaken(rng: np.random.Generator, payments: Payments, expected: float, first: int) -> list[Findings]:
    honest = np.flatnonzero(~payments.meant.is_fraud & (payments.refused == APPROVED))
    if len(honest) == 0:
        return []
    row = rng.choice(honest, rng.poisson(expected * FRIENDLY_SHARE))
    n = len(row)
    number = first + np.arange(n)
    delay = np.clip(rng.lognormal(np.log(MEDIAN_DAYS), SIGMA, n), 0.3, 10)
    source = np.where(rng.random(n) < 0.6, SOURCES.index("customer"), SOURCES.index("chargeback"))
    back = rng.random(n) < TAKEN_BACK
    later = delay + rng.uniform(2, 9, n)
    odd = np.flatnonzero((payments.meant.lookalike > 0) & ~payments.meant.is_fraud)
    cleared = rng.choice(odd, rng.poisson(expected * CLEARED_SHARE)) if len(odd) else odd
    analyst = SOURCES.index("analyst")
    return [
        _findings(payments, row, number, delay, np.ones(n, np.bool_), source),
        _findings(
            payments,
            row[back],
            number[back] + n,
            later[back],
            np.zeros(int(back.sum()), np.bool_),
            source[back],
            number[back],
        ),
        _findings(
            payments,
            cleared,
            first + 2 * n + np.arange(len(cleared)),
            rng.uniform(0.05, 2, len(cleared)),
            np.zeros(len(cleared), np.bool_),
            np.full(len(cleared), analyst),
        ),
    ]


def labels(ids: Ids, day: int, payments: Payments, frauds_per_day: float) -> tuple[Batch, Ints, Ints]:
    """(label records of the day's payments, when each arrives, the row of its payment)."""
    rng = generator(ids.seed, "labels", day)
    found = _found(rng, payments)
    parts = [found, *_mistaken(rng, payments, frauds_per_day * FOUND, len(payments))]
    row = np.concatenate([p.row for p in parts])
    number = np.concatenate([p.number for p in parts])
    available = np.concatenate([p.available_ms for p in parts])
    source = np.concatenate([p.source for p in parts])
    reverses = np.concatenate([p.reverses for p in parts])
    is_fraud = np.concatenate([p.is_fraud for p in parts])
    base = np.int64(day) << ROW_BITS
    batch = payments.batch
    columns = {
        name: batch.texts(name).take(row)
        for name in (
            "transaction_id",
            "card_number",
            "customer_id",
            "merchant_id",
            "device_id",
            "ip_address",
            "currency",
        )
    } | {
        "label_id": ids.texts("label", base + number),
        "event_time": payments.meant.at_ms[row],
        "amount_minor": batch.numbers("amount_minor")[row],
        "is_fraud": is_fraud,
        "source": _SOURCES.take(source),
        "confidence": _CONFIDENCE[source],
        "received_at": available,
        "label_available_at": available,
        "reverses": ids.texts("label", base + reverses),
    }
    valid = {
        "device_id": batch.has("device_id")[row],
        "ip_address": batch.has("ip_address")[row],
        "reverses": reverses >= 0,
    }
    return Batch(len(row), columns, valid), available, row
