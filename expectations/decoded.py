"""Raw records of one kind -> decoded columns with what the row rules and admission look at.

Engine and silver both start here, so they decode, digest and judge the same bytes the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expectations.control import ControlEvent
from expectations.rows import broken, well_formed_card
from lakehouse.avro import FAULTS
from lakehouse.codec import Batch, Column
from lakehouse.contracts.silver import BY_KIND
from lakehouse.crypto import Digests
from lakehouse.registry import PREFIX_BYTES, Schema
from lakehouse.texts import Bytes8, Flags, Ints

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


def decode(schema: Schema, raw: bytes, start: Ints, end: Ints, broker_ms: Ints, digests: Digests) -> Decoded:
    """The records raw[start[i] : end[i]] (Confluent prefix included), all written with `schema`."""
    buffer: Bytes8 = np.frombuffer(raw, np.uint8)
    found = schema.codec.decode(buffer, start + PREFIX_BYTES, end, mark="received_at")
    batch = _with_derived(schema.kind, found.batch, broker_ms)
    view = memoryview(raw)
    first, last = found.mark
    good = found.fault == 0
    content, identity, payload = [], [], []
    fields = [batch.texts(name) for name in IDENTITY_FIELDS[schema.kind]]
    spans = zip(start.tolist(), end.tolist(), first.tolist(), last.tolist(), good.tolist(), strict=True)
    nothing = bytes(16)
    for row, (begin, stop, cut, resume, sound) in enumerate(spans):
        payload.append(digests.payload(view[begin:stop]))
        if not sound:
            identity.append(nothing)
            content.append(nothing)
            continue
        content.append(digests.content(schema.kind, view[begin + PREFIX_BYTES : cut], view[resume:stop]))
        key = b"\0".join(bytes(view[t.start[row] : t.start[row] + t.length[row]]) for t in fields)
        identity.append(digests.identity(schema.kind, key))
    return Decoded(schema.kind, batch, found.fault, pairs(identity), pairs(content), payload)


def _with_derived(kind: str, batch: Batch, broker_ms: Ints) -> Batch:
    columns: dict[str, Column] = dict(batch.columns)
    valid: dict[str, Flags] = dict(batch.valid)
    for name, column in batch.columns.items():
        if isinstance(column, np.ndarray) and column.dtype == np.float64:
            valid[name] = batch.has(name) & ~np.isnan(column)
    received = batch.numbers("received_at").astype(np.float64)
    columns["seconds_behind_broker"] = (broker_ms.astype(np.float64) - received) / 1000
    if "event_time" in columns:
        columns["seconds_late"] = (received - batch.numbers("event_time").astype(np.float64)) / 1000
    if "label_available_at" in columns:
        available = batch.numbers("label_available_at").astype(np.float64)
        columns["seconds_until_available"] = (available - received) / 1000
    if "account_opened_on" in columns:
        plausible = np.ones(batch.rows, np.bool_)
        for name in ("account_opened_on", "card_issued_on"):
            days = batch.numbers(name)
            plausible &= ~batch.has(name) | ((days >= _DAY_1900) & (days < _DAY_2200))
        columns["dates_plausible"] = plausible
    if "card_number" in columns:
        columns["card_well_formed"] = well_formed_card(batch.texts("card_number"))
    return Batch(batch.rows, columns, valid)


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
