"""Raw records of one kind -> decoded columns with what the row rules and admission look at.

Engine and silver both start here, so they decode, digest and judge the same bytes the same way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from confluent_kafka import Message
from numba import njit

from expectations.control import ControlEvent, Staged
from expectations.rows import broken, is_well_formed_card
from lakehouse.avro import FAULTS
from lakehouse.codec import Batch, Column, Grid
from lakehouse.contracts.silver import BY_KIND
from lakehouse.crypto import DIGEST_BYTES, Digests
from lakehouse.registry import PREFIX_BYTES, Schema, registry, schema_ids
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

MISSING_WHERE_BLANK = (
    *("device_id", "ip_address", "customer_email", "billing_address", "shipping_address"),
    *("cvv_result", "avs_result", "three_ds_result", "reverses"),
)
"""Fields in which a text of nothing but white space is no value: else everybody without one would share one device,
address or mail box, a check that was not made would have failed, and a finding would take back one without a name."""

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
    records: Texts
    """As they came, prefix included."""


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
    spans = zip(good.tolist(), start.tolist(), end.tolist(), first.tolist(), last.tolist(), strict=True)
    # Where a body could not be decoded the mark has no meaning, and neither have the digests.
    bodies = [
        raw[begin + PREFIX_BYTES : cut] + raw[resume:stop] if sound else b""
        for sound, begin, stop, cut, resume in spans
    ]
    keys = _keys(view, [batch.texts(name) for name in IDENTITY_FIELDS[schema.kind]])
    content, identity = digests.contents(schema.kind, bodies), digests.identities(schema.kind, keys)
    if not good.all():
        nothing = bytes(DIGEST_BYTES)
        content, identity = (
            [one if sound else nothing for one, sound in zip(some, good.tolist(), strict=True)]
            for some in (content, identity)
        )
    return Decoded(schema.kind, batch, found.fault, pairs(identity), pairs(content), Texts(buffer, start, end - start))


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


@njit(cache=True)
def _forget_blanks(lines, buffer, fixed, length, valid):
    """Make texts of nothing but white space (of ASCII, as `crypto.canonical` takes it away) missing."""
    for line in lines:
        for i in range(valid.shape[1]):
            blank = True
            for j in range(fixed[line, i], fixed[line, i] + length[line, i]):
                if buffer[j] != 32 and (buffer[j] < 9 or buffer[j] > 13):
                    blank = False
                    break
            if blank:
                valid[line, i] = False


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
    lines = np.array([grid.line[name] for name in MISSING_WHERE_BLANK if name in grid.line], np.int64)
    _forget_blanks(lines, grid.buffer, fixed, length, valid)
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


def staged_word(batch: Batch, row: int) -> Staged:
    """What a decoded `staged` record says; the first version of them knew no refusals."""
    refused = "refused" in batch.columns and bool(batch.has("refused")[row])
    why = batch.texts("refused").get(row).decode() if refused else None
    return Staged(batch.texts("model_digest").get(row).decode(), why)


def heard(messages: Sequence[Message], digests: Digests) -> Iterator[ControlEvent | Staged]:
    """The sound control events and `staged` records among some records, in log order."""
    for _, event in heard_at(messages, digests):
        yield event


def heard_at(messages: Sequence[Message], digests: Digests) -> Iterator[tuple[int, ControlEvent | Staged]]:
    """The same, each with its offset."""
    texts = Texts.of([m.value() or b"" for m in messages])
    ends = texts.start + texts.length
    ids = schema_ids(texts.buffer, texts.start, ends)
    raw = texts.buffer.tobytes()
    found: dict[int, ControlEvent | Staged] = {}
    for schema in (*registry().versions("control"), *registry().versions("staged")):
        ours = np.flatnonzero(ids == schema.id)
        if not len(ours):
            continue
        broker_ms = np.array([messages[at].timestamp()[1] for at in ours.tolist()], np.int64)
        decoded = decode(schema, raw, texts.start[ours], ends[ours], broker_ms, digests)
        read = control_event if schema.kind == "control" else staged_word
        for row, names in enumerate(broken_rules(decoded)):
            if not names:
                found[int(ours[row])] = read(decoded.batch, row)
    for at in sorted(found):
        yield messages[at].offset(), found[at]
