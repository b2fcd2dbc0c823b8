"""Bad records on purpose: copies of ordinary payments, each broken in one way, so that the lake can prove it notices.

Broken copies carry transaction ids of their own; only exact repeats and conflicts carry an accepted one's. What the
lake should make of each is written to the manifest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lakehouse.codec import Batch, Column
from lakehouse.texts import Ints, Texts
from simulator.ids import Ids
from simulator.options import DAY_MS, HOUR_MS, MINUTE_MS, Options
from simulator.payments import ROW_BITS, Payments
from simulator.randomness import generator
from simulator.records import PAYMENT, Records, encoded

DUPLICATE, CONFLICT = "duplicate", "conflict"
# fault -> why the lake refuses it: a rule of lakehouse/contracts/silver.py, or how the bytes fail to be a record.
FATES = {
    "wrong_magic_byte": "not_in_confluent_wire_format",
    "unknown_schema_id": "unknown_schema_id",
    "truncated_body": "undecodable_ends_too_early",
    "trailing_bytes": "undecodable_trailing_bytes",
    "negative_amount": "amount_plausible",
    "unknown_currency": "currency_known",
    "future_event_time": "event_time_plausible",
    "invalid_card_number": "card_well_formed",
    "unknown_channel": "channel_known",
    DUPLICATE: "duplicate",
    CONFLICT: "conflict",
}
FAULTS = ("", *FATES)

FUTURE_MS = DAY_MS
"""A day ahead of its arrival; admission allows five minutes."""
AGAIN_MIN_MS, AGAIN_MAX_MS = 5 * MINUTE_MS, 60 * MINUTE_MS
"""A repeat comes within the hour, well inside admission's horizon of 48 hours."""
QUIET_MS = 3 * HOUR_MS
"""No fault so close to the ends of the history, so that all of them, and the repeats, lie in it."""
UNKNOWN_SCHEMA_ID = 4_242


def _with(batch: Batch, name: str, column: Column) -> Batch:
    return Batch(batch.rows, {**batch.columns, name: column}, batch.valid)


def _word(word: str, batch: Batch) -> Texts:
    return Texts.of([word]).take(np.zeros(batch.rows, np.int64))


def _wrong_last_digit(batch: Batch) -> Texts:
    digits, _ = batch.texts("card_number").packed()
    numbers = digits.reshape(-1, 16).copy()
    numbers[:, 15] = (numbers[:, 15] - 48 + 5) % 10 + 48
    return Texts.fixed(numbers)


_BROKEN: dict[str, Callable[[Batch], Batch]] = {
    "negative_amount": lambda b: _with(b, "amount_minor", -1 - b.numbers("amount_minor")),
    "unknown_currency": lambda b: _with(b, "currency", _word("XXQ", b)),
    "future_event_time": lambda b: _with(b, "event_time", b.numbers("received_at") + FUTURE_MS),
    "invalid_card_number": lambda b: _with(b, "card_number", _wrong_last_digit(b)),
    "unknown_channel": lambda b: _with(b, "channel", _word("pigeon", b)),
    CONFLICT: lambda b: _with(b, "amount_minor", b.numbers("amount_minor") + 100),
}


def _garbled(fault: str, record: bytes) -> bytes:
    if fault == "wrong_magic_byte":
        return b"\x01" + record[1:]
    if fault == "unknown_schema_id":
        return record[:1] + UNKNOWN_SCHEMA_ID.to_bytes(4, "big") + record[5:]
    if fault == "truncated_body":
        return record[:-1]
    return record + b"\x00" if fault == "trailing_bytes" else record


@dataclass(frozen=True)
class _Due:
    """Faults of one day: which kind, and when about."""

    fault: Ints
    at_ms: Ints


def _due(options: Options, day: int) -> _Due:
    # Fault i of n of each kind falls into the i-th of n equal stretches of the history.
    first, last = options.start_ms + QUIET_MS, options.live_from_ms - QUIET_MS
    kinds = np.tile(np.arange(1, len(FAULTS)), options.faults)
    u = generator(options.seed, "faults").random(len(kinds))
    at = first + ((np.arange(len(kinds)) + u) / max(len(kinds), 1) * (last - first)).astype(np.int64)
    today = (at >= options.day_ms(day)) & (at < options.day_ms(day + 1))
    return _Due(kinds[today], at[today])


def faults(options: Options, ids: Ids, day: int, payments: Payments) -> Records | None:
    """The day's bad records, or None; each a copy of the first payment that arrives from its time on."""
    due = _due(options, day)
    usable = np.flatnonzero(payments.received_ms - payments.meant.at_ms < MINUTE_MS)
    if len(due.fault) == 0 or len(usable) == 0:
        return None
    usable = usable[np.argsort(payments.received_ms[usable], kind="stable")]
    # Neighbours in time copy different payments: one payment is repeated once and conflicted with once at most.
    place = np.searchsorted(payments.received_ms[usable], due.at_ms)
    place = np.minimum(np.maximum.accumulate(place - np.arange(len(place))) + np.arange(len(place)), len(usable) - 1)
    row = usable[place]
    rng = generator(options.seed, "faulty copies", day)
    after = rng.integers(AGAIN_MIN_MS, AGAIN_MAX_MS, len(row))
    again = np.isin(due.fault, [FAULTS.index(DUPLICATE), FAULTS.index(CONFLICT)])
    received = payments.received_ms[row] + np.where(again, after, 1)
    fresh = (np.int64(day) << ROW_BITS) + (1 << 31) + np.arange(len(row))
    index = np.where(again, payments.index[row], fresh)
    copies = _with(payments.batch.take(row), "transaction_id", ids.texts("transaction", index))
    copies = _with(copies, "received_at", received)
    payload: list[bytes] = [b""] * len(row)
    for number in np.unique(due.fault).tolist():
        fault, chosen = FAULTS[number], np.flatnonzero(due.fault == number)
        batch = copies.take(chosen)
        texts = encoded("payment", _BROKEN.get(fault, lambda b: b)(batch))
        for place_, record in zip(chosen.tolist(), texts.to_list(), strict=True):
            payload[place_] = _garbled(fault, record)
    return _records(received, ids.words("transaction", index), payments.meant.customer[row], payload, due.fault)


def _records(received: Ints, order: Any, customer: Ints, payload: list[bytes], fault: Ints) -> Records:
    n = len(received)
    zero, nothing = np.zeros(n, np.int64), np.full(n, -1, np.int64)
    kind = np.full(n, PAYMENT, np.int64)
    return Records(received, kind, order, customer, Texts.of(payload), nothing, zero, nothing, zero, fault)


def fates(counts: dict[str, int]) -> dict[str, Any]:
    """What the lake should make of so many faults by kind: quarantined by reason, duplicates, conflicts."""
    quarantined = {FATES[f]: n for f, n in counts.items() if f not in (DUPLICATE, CONFLICT)}
    return {
        "quarantined": quarantined,
        "duplicates": counts.get(DUPLICATE, 0),
        "conflicts": counts.get(CONFLICT, 0),
    }
