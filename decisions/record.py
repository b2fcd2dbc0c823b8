"""Decisions as records: a deterministic body, its digest, and the envelope of one emission."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from decisions.accepted import Accepted
from decisions.bundle import Model
from decisions.explained import Reason
from decisions.verdicts import Verdicts
from lakehouse.codec import Batch, Column, Strings, slices
from lakehouse.registry import registry
from lakehouse.single import written
from lakehouse.texts import Flags, Ints, Texts
from lakehouse.version import VERSION

BODY_ENDS_WITH = "content_digest"
ENVELOPE_BEGINS_WITH = "body_digest"
MOST_ID_BYTES = 1024
"""Of a rejected payment's id, which may be as long as a record. An admissible one has at most 64 characters: none is
cut, and nothing that was cut can be taken for one."""


class Subject(NamedTuple):
    """A decision as its reasons name it, and the vector that they are of."""

    topic_id: str
    partition: int
    offset: int
    decision_id: str
    transaction_id: str
    vector: bytes


class Seen(NamedTuple):
    """The accepted payments of a body as a challenger in shadow sees them after their decision."""

    challenger: str
    """Digest of its bundle."""
    payments: Accepted
    verdicts: Verdicts
    rows: Ints
    """Where the payments stand in the body."""


@dataclass(frozen=True)
class Body:
    """The bodies of some decisions, in log order: columns of the schema up to `content_digest`."""

    offset: Ints
    transaction_id: list[bytes]
    columns: dict[str, Column]
    valid: dict[str, Flags]
    adverse: Ints
    """Rows neither approved nor rejected that the model in force scored with all it has: reasons are given unasked."""
    model: Model | None
    """What scored them, but for the challenger's arm of a traffic split."""
    seen: Seen | None = None
    """What a challenger in shadow needs; None where there is none."""
    challenger: Model | None = None
    """What scored the challenger's arm."""
    challenged: frozenset[int] = frozenset()
    """Rows of the challenger's arm."""

    def scored_by(self, row: int) -> Model | None:
        """The model that scored one of them."""
        return self.challenger if row in self.challenged else self.model

    def subject(self, row: int) -> Subject:
        """One of them, for its reasons."""
        texts = {name: self.columns[name] for name in ("topic_id", "decision_id", "vector")}
        topic_id, decision_id, vector = (one.get(row) for one in texts.values() if isinstance(one, Texts))
        partition = self.columns["partition"]
        assert isinstance(partition, np.ndarray)
        return Subject(
            topic_id.decode(),
            int(partition[row]),
            int(self.offset[row]),
            decision_id.decode(),
            self.transaction_id[row].decode(),
            vector,
        )

    def texts(self, name: str) -> list[bytes]:
        """A column of texts."""
        column = self.columns[name]
        assert isinstance(column, Texts)
        return column.to_list()

    def encoded(self) -> list[bytes]:
        """Each body as bytes, behind the schema's prefix."""
        schema = registry().latest("decision")
        batch = Batch(len(self.offset), self.columns, self.valid)
        return slices(*schema.codec.encode(batch, schema.prefix, last=BODY_ENDS_WITH))


@dataclass(frozen=True)
class Envelope:
    """What differs between emissions of the same decision."""

    epoch: int
    decided_ms: int
    latency_us: int
    host: str
    code_version: str


def decision_ids(topic_id: str, partition: int, offsets: Ints) -> list[bytes]:
    """The decision id of each source position: 32 hex digits of SHA-256 over `topic/partition/offset`."""
    head = f"{topic_id}/{partition}/".encode()
    return [hashlib.sha256(head + str(o).encode()).hexdigest()[:32].encode() for o in offsets.tolist()]


def kept_short(ids: Texts) -> Texts:
    """Ids of payments as their decisions have them: those above MOST_ID_BYTES are cut, between two characters.

    A decision names its payment twice, in body and key, and could otherwise be larger than any record that the broker
    takes: no engine would come past that payment.
    """
    long = np.flatnonzero(ids.length > MOST_ID_BYTES).tolist()
    if not long:
        return ids
    length = ids.length.copy()
    for row in long:
        end = MOST_ID_BYTES
        while ids.buffer[ids.start[row] + end] & 0xC0 == 0x80:
            end -= 1
        length[row] = end
    return Texts(ids.buffer, ids.start, length)


def body_digest(body: bytes) -> bytes:
    """SHA-256 of a body as encoded."""
    return hashlib.sha256(body).digest()


def sealed(bodies: list[bytes], envelope: Envelope) -> list[bytes]:
    """Complete records: each body with its digest and this emission's envelope."""
    schema = registry().latest("decision")
    n = len(bodies)
    numbers: dict[str, Any] = {
        "epoch": envelope.epoch,
        "decided_at": envelope.decided_ms,
        "latency_us": envelope.latency_us,
    }
    columns: dict[str, Column] = {name: np.full(n, value, np.int64) for name, value in numbers.items()}
    columns["body_digest"] = Texts.of([body_digest(body) for body in bodies])
    columns["host"] = repeated(envelope.host, n)
    columns["code_version"] = repeated(envelope.code_version, n)
    tails = slices(*schema.codec.encode(Batch(n, columns, {}), first=ENVELOPE_BEGINS_WITH))
    return [body + tail for body, tail in zip(bodies, tails, strict=True)]


def repeated(value: str, n: int) -> Texts:
    """The same text n times."""
    raw = np.frombuffer(value.encode(), np.uint8)
    return Texts(raw, np.zeros(n, np.int64), np.full(n, len(raw), np.int64))


def no_lists(n: int) -> Strings:
    """N empty lists."""
    return Strings(np.zeros(n, np.int64), np.zeros(n, np.int64), Texts.of([]))


def lists_of(found: Mapping[int, list[str]], at: Ints, n: int) -> Strings:
    """N lists: those of row i stand at place at[i]; empty ones elsewhere."""
    if not found:
        return no_lists(n)
    lists: list[list[str]] = [[] for _ in range(n)]
    for row, names in found.items():
        lists[int(at[row])] = names
    return Strings.of(lists)


def start_record(
    engine_id: str, started_ms: int, topic_id: str, next_offset: int, host: str, code_version: str
) -> bytes:
    """The record with which an engine takes office."""
    schema = registry().latest("engine_start")
    columns: dict[str, Column] = {
        "engine_id": Texts.of([engine_id]),
        "started_at": np.array([started_ms]),
        "topic_id": Texts.of([topic_id]),
        "next_offset": np.array([next_offset]),
        "host": Texts.of([host]),
        "code_version": Texts.of([code_version]),
    }
    return slices(*schema.codec.encode(Batch(1, columns, {}), schema.prefix))[0]


def reasons_record(subject: Subject, model_digest: str, expected_score: float, reason: Reason, now_ms: int) -> bytes:
    """The record of a decision's reasons."""
    added = {f"added_{family}": share for family, share in reason.added.items()}
    named = {name: value for name, value in subject._asdict().items() if name != "vector"}
    return written(
        registry().latest("reasons"),
        {
            **named,
            "model_digest": model_digest,
            "codes": reason.codes,
            "features": reason.features,
            "expected_score": expected_score,
            **added,
            "computed_at": now_ms,
            "code_version": VERSION,
        },
    )
