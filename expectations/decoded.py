"""Raw records of one kind -> decoded columns with what the row rules and admission look at.

Engine and silver both start here, so they decode, digest and judge the same bytes the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from expectations.control import ControlEvent
from expectations.rows import broken, is_well_formed_card
from lakehouse.avro import FAULTS
from lakehouse.codec import Batch, Column, Grid
from lakehouse.contracts.silver import BY_KIND
from lakehouse.crypto import Digests
from lakehouse.registry import PREFIX_BYTES, Schema
from lakehouse.texts import Bytes8, Ints, Texts

IDENTITY_FIELDS = {
    "payment": ("transaction_id",),
    "authorisation": ("transaction_id", "result"),
    "label": ("label_id",),
    "control": ("control_id",),
    "answer": ("answer_id",),
    "outcome": ("outcome_id",),
    "erasure": ("erasure_id",),
    "staged": ("staged_id",),
}
"""What makes a record unique within its kind."""

DERIVED = ("seconds_behind_broker", "seconds_late", "seconds_until_available", "card_well_formed", "dates_plausible")
"""Columns that row rules need and records do not carry."""

NAMES_SOMEBODY = ("device_id", "ip_address", "customer_email")
"""Fields in which an empty text is no value: else everybody without one would share one device, address or mail box."""

_DAY_1900, _DAY_2200 = -25_567, 84_006
"""Days since 1970-01-01 of 1900-01-01 and 2200-01-01."""


@dataclass(frozen=True)
class Decoded:
    """Records of one kind and schema: columns (derived ones included), faults and digests, one entry a record."""

    kind: str
    batch: Batch
    fault: Ints
    """Index into avro.FAULTS; where it is not zero the other columns have no meaning."""
    identity: Ints
    content: Ints
    payload: list[bytes]


def pairs(digests: Sequence[bytes]) -> Ints:
    """16-byte digests as rows of two integers."""
    return np.frombuffer(b"".join(digests), ">i8").astype(np.int64).reshape(-1, 2)


def _keys(view: memoryview, fields: Sequence[Texts]) -> list[bytes]:
    """Per record its identity fields, joined by zero bytes."""
    columns = [
        [bytes(view[s : s + n]) for s, n in zip(t.start.tolist(), t.length.tolist(), strict=True)] for t in fields
    ]
    return columns[0] if len(columns) == 1 else [b"\0".join(row) for row in zip(*columns, strict=True)]


def decode(schema: Schema, raw: bytes, start: Ints, end: Ints, broker_ms: Ints, digests: Digests) -> Decoded:
    """The records raw[start[i] : end[i]] (Confluent prefix included), all written with `schema`."""
    buffer: Bytes8 = np.frombuffer(raw, np.uint8)
    found = schema.codec.decode(buffer, start + PREFIX_BYTES, end, mark="received_at")
    batch = _with_derived(found.batch, broker_ms)
    view = memoryview(raw)
    first, last = found.mark
    good = found.fault == 0
    content, identity, payload = [], [], []
    keys = _keys(view, [batch.texts(name) for name in IDENTITY_FIELDS[schema.kind]])
    spans = zip(start.tolist(), end.tolist(), first.tolist(), last.tolist(), good.tolist(), keys, strict=True)
    nothing = bytes(16)
    for begin, stop, cut, resume, sound, key in spans:
        payload.append(digests.payload(view[begin:stop]))
        if not sound:
            identity.append(nothing)
            content.append(nothing)
            continue
        content.append(digests.content(schema.kind, view[begin + PREFIX_BYTES : cut], view[resume:stop]))
        identity.append(digests.identity(schema.kind, key))
    return Decoded(schema.kind, batch, found.fault, pairs(identity), pairs(content), payload)


@njit(cache=True)
def _derive(line, fixed, bits, length, valid, buffer, double, broker_ms, columns):
    """Fill the lines from `columns` on, in the order of DERIVED; NaN becomes a missing value."""
    at, event, available, opened, issued, card = line
    for i in range(len(broker_ms)):
        # Doubles before the difference: what a record claims may be any number of 64 bits.
        received = np.float64(fixed[at, i])
        bits[columns, i] = (np.float64(broker_ms[i]) - received) / 1000.0
        if event >= 0:
            bits[columns + 1, i] = (received - np.float64(fixed[event, i])) / 1000.0
        if available >= 0:
            bits[columns + 2, i] = (np.float64(fixed[available, i]) - received) / 1000.0
        if card >= 0:
            fixed[columns + 3, i] = is_well_formed_card(buffer, fixed[card, i], length[card, i])
        if opened >= 0:
            plausible = not valid[opened, i] or _DAY_1900 <= fixed[opened, i] < _DAY_2200
            plausible &= not valid[issued, i] or _DAY_1900 <= fixed[issued, i] < _DAY_2200
            fixed[columns + 4, i] = plausible
        for c in range(columns):
            if double[c] and bits[c, i] != bits[c, i]:
                valid[c, i] = False


_SOURCES = ("received_at", "event_time", "label_available_at", "account_opened_on", "card_issued_on", "card_number")
_NEEDS = ("received_at", "event_time", "label_available_at", "card_number", "account_opened_on")
"""Of each derived column, the field without which it does not exist."""
_DERIVED_DOUBLE = np.array([True, True, True, False, False])


def _with_derived(batch: Batch, broker_ms: Ints) -> Batch:
    grid = batch.grid()
    n, columns, more = batch.rows, len(grid.names), len(DERIVED)
    fixed = np.concatenate([grid.fixed, np.zeros((more, n), np.int64)])
    length = np.concatenate([grid.length, np.zeros((more, n), np.int64)])
    valid = np.concatenate([grid.valid, np.ones((more, n), np.bool_)])
    line = tuple(grid.line.get(name, -1) for name in _SOURCES)
    bits = fixed.view(np.float64)
    _derive(line, fixed, bits, length, valid, grid.buffer, grid.double, broker_ms, columns)
    for name in NAMES_SOMEBODY:
        if name in grid.line:
            valid[grid.line[name]] &= length[grid.line[name]] > 0
    wider = Grid(
        (*grid.names, *DERIVED), np.concatenate([grid.double, _DERIVED_DOUBLE]), grid.buffer, fixed, length, valid
    )
    derived: dict[str, Column] = {
        name: bits[columns + at] if _DERIVED_DOUBLE[at] else fixed[columns + at].astype(np.bool_)
        for at, name in enumerate(DERIVED)
        if _NEEDS[at] in grid.line
    }
    doubles = (name for name, is_double in zip(grid.names, grid.double.tolist(), strict=True) if is_double)
    known = {name: valid[grid.line[name]] for name in (*batch.valid, *doubles)}
    return Batch(n, {**batch.columns, **derived}, known, wider)


def broken_rules(decoded: Decoded) -> list[str]:
    """Per record the names of what it breaks, joined by commas; an undecodable record breaks exactly that."""
    names = broken(BY_KIND[decoded.kind].rules, decoded.batch)
    for row in np.flatnonzero(decoded.fault).tolist():
        names[row] = f"undecodable_{FAULTS[int(decoded.fault[row])]}"
    return names


def control_event(batch: Batch, row: int) -> ControlEvent:
    """The control event of a decoded row."""

    def raw(name: str) -> bytes:
        return batch.texts(name).get(row)

    def text(name: str) -> str:
        return raw(name).decode()

    return ControlEvent(
        text("control_id"),
        text("scope"),
        int(batch.numbers("version")[row]),
        text("previous_digest"),
        text("payload"),
        text("author"),
        text("approver"),
        raw("author_signature"),
        raw("approver_signature"),
    )
