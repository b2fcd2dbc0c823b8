"""Encoded records with what is needed to order and to judge them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from lakehouse.codec import Batch
from lakehouse.registry import registry
from lakehouse.texts import Flags, Ints, Texts
from simulator.randomness import Words

KINDS = ("payment", "authorisation", "label")
PAYMENT, AUTHORISATION, LABEL = range(3)


@dataclass(frozen=True)
class Records:
    """One entry a record."""

    received_ms: Ints
    kind: Ints
    """Index into KINDS; faulty ones count as payments."""
    order: Words
    """The id's 64 bits: decides among records of one kind that arrive in the same millisecond."""
    customer: Ints
    """Number of the customer; decides the partition."""
    payload: Texts
    index: Ints
    """Of valid payments: running index of the transaction, else -1."""
    scenario: Ints
    """Of valid payments that are fraud: index into intents.SCENARIOS, else 0."""
    episode: Ints
    lookalike: Ints
    fault: Ints
    """Index into faults.FAULTS, 0 for none."""

    def __len__(self) -> int:
        return len(self.received_ms)

    def take(self, chosen: Ints | Flags) -> "Records":
        """The chosen rows."""
        return Records(*(_taken(getattr(self, f.name), chosen) for f in fields(self)))

    def in_order(self) -> "Records":
        """In the order of the log: by arrival, then payment, authorisation, label, then id."""
        return self.take(np.lexsort((self.order, self.kind, self.received_ms)))

    def compact(self) -> "Records":
        """The same with a buffer of its own, which keeps no other record in memory."""
        packed, offsets = self.payload.packed()
        payload = Texts(packed, offsets[:-1], np.diff(offsets))
        return replace(self, payload=payload)


def _taken(column: Any, chosen: Ints | Flags) -> Any:
    return column.take(chosen) if isinstance(column, Texts) else column[chosen]


def concat(parts: Sequence[Records]) -> Records:
    """One after the other."""
    columns: dict[str, Any] = {}
    for f in fields(Records):
        values = [getattr(p, f.name) for p in parts]
        columns[f.name] = Texts.concat(values) if f.name == "payload" else np.concatenate(values)
    return Records(**columns)


def encoded(kind: str, batch: Batch) -> Texts:
    """The records of a batch in the wire format, newest schema of the kind."""
    schema = registry().latest(kind)
    packed, offsets = schema.codec.encode(batch, prefix=schema.prefix)
    return Texts(packed, offsets[:-1], np.diff(offsets))


def records(
    kind: int,
    batch: Batch,
    received_ms: Ints,
    order: Words,
    customer: Ints,
    index: Ints | None = None,
    scenario: Ints | None = None,
    episode: Ints | None = None,
    lookalike: Ints | None = None,
) -> Records:
    """The encoded records of a batch of one kind."""
    n = batch.rows
    nothing = np.full(n, -1, np.int64)
    zero = np.zeros(n, np.int64)
    return Records(
        received_ms,
        np.full(n, kind, np.int64),
        order,
        customer,
        encoded(KINDS[kind], batch),
        nothing if index is None else index,
        zero if scenario is None else scenario,
        nothing if episode is None else episode,
        zero if lookalike is None else lookalike,
        zero,
    )
