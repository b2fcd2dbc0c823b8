"""Records of the log, as they came -> decoded by kind, tokenised and ready for admission."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from expectations.admission import PAYMENT, Candidates
from expectations.decoded import Decoded, broken_rules, control_event, decode, staged_word
from expectations.reference import short_codes
from lakehouse.codec import Batch
from lakehouse.crypto import Digests
from lakehouse.registry import PREFIX_BYTES, Schema, registry, schema_ids
from lakehouse.texts import Ints
from lakehouse.topics import EVENT_KINDS


class Message(NamedTuple):
    """A record of topic `events`: where it is, when the broker had it, its bytes."""

    offset: int
    broker_ms: int
    value: bytes


@dataclass(frozen=True)
class Part:
    """Records of one kind: their rows in the batch, what they hold, which row rules they break."""

    kind: str
    rows: Ints
    decoded: Decoded
    broken: list[str]


@dataclass(frozen=True)
class Intake:
    """A batch of the log, decoded; undecodable records and foreign kinds are in no part."""

    offset: Ints
    parts: tuple[Part, ...]
    candidates: Candidates
    """Of the records in parts, in log order."""
    place: Ints
    """(n): index of a batch row among the candidates, -1 for undecodable ones."""


_KINDS: dict[int, Schema] = {s.id: s for s in registry().schemas if s.kind in EVENT_KINDS}
_CONTROL = tuple(schema.prefix for schema in registry().versions("control"))
_VERSIONED = {s.prefix: s for s in _KINDS.values() if len(registry().versions(s.kind)) > 1}
"""Schemas of which another version may be in the same batch, by the prefix of their records."""


def is_control(message: Message) -> bool:
    """Whether a record claims to be a control event."""
    return message.value.startswith(_CONTROL)


def runs(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Records of the log, cut wherever a kind comes in another version of its schema: one part a kind in every run."""
    begin, versions = 0, dict[str, int]()
    for at, message in enumerate(messages):
        schema = _VERSIONED.get(message.value[:PREFIX_BYTES])
        if schema is not None and versions.setdefault(schema.kind, schema.id) != schema.id:
            yield messages[begin:at]
            begin, versions = at, {schema.kind: schema.id}
    if begin < len(messages):
        yield messages[begin:]


def taken_in(messages: Sequence[Message], digests: Digests) -> Intake:
    """Decode a batch."""
    raw = b"".join(m.value for m in messages)
    length = np.fromiter((len(m.value) for m in messages), np.int64, len(messages))
    end = np.cumsum(length)
    start = end - length
    offset = np.fromiter((m.offset for m in messages), np.int64, len(messages))
    broker_ms = np.fromiter((m.broker_ms for m in messages), np.int64, len(messages))
    ids = schema_ids(np.frombuffer(raw, np.uint8), start, end)
    parts = []
    for schema_id in np.unique(ids).tolist():
        schema = _KINDS.get(schema_id)
        if schema is None:
            continue
        rows = np.flatnonzero(ids == schema_id)
        decoded = decode(schema, raw, start[rows], end[rows], broker_ms[rows], digests)
        parts.append(Part(schema.kind, rows, decoded, broken_rules(decoded)))
    return _assembled(offset, tuple(parts))


def _assembled(offset: Ints, parts: tuple[Part, ...]) -> Intake:
    n = len(offset)
    kind, received = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    sound, identity, content = np.zeros(n, np.bool_), np.zeros((n, 2), np.int64), np.zeros((n, 2), np.int64)
    amount, currency, category, country = (np.full(n, -1, np.int64) for _ in range(4))
    controls, staged = {}, {}
    for part in parts:
        good = part.decoded.fault == 0
        rows, batch = part.rows[good], part.decoded.batch.take(np.flatnonzero(good))
        kind[rows] = EVENT_KINDS.index(part.kind)
        received[rows] = batch.numbers("received_at")
        sound[rows] = [not names for names, ok in zip(part.broken, good.tolist(), strict=True) if ok]
        identity[rows], content[rows] = part.decoded.identity[good], part.decoded.content[good]
        if "amount_minor" in batch.columns:
            amount[rows] = batch.numbers("amount_minor")
            currency[rows] = short_codes(batch.texts("currency"))
        if kind[rows[:1]].tolist() == [PAYMENT]:
            category[rows] = _codes(batch, "merchant_category_code")
            country[rows] = _codes(batch, "merchant_country")
        if part.kind == "control":
            controls.update({int(row): control_event(batch, at) for at, row in enumerate(rows.tolist())})
        if part.kind == "staged":
            staged.update({int(row): staged_word(batch, at) for at, row in enumerate(rows.tolist())})
    known = np.flatnonzero(kind >= 0)
    place = np.full(n, -1, np.int64)
    place[known] = np.arange(len(known))
    candidates = Candidates(
        offset[known],
        kind[known],
        received[known],
        sound[known],
        identity[known],
        content[known],
        amount[known],
        currency[known],
        category[known],
        country[known],
        {int(place[row]): event for row, event in controls.items()},
        {int(place[row]): said for row, said in staged.items()},
    )
    return Intake(offset, parts, candidates, place)


def _codes(batch: Batch, name: str) -> Ints:
    return np.where(batch.has(name), short_codes(batch.texts(name)), -1)
