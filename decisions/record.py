"""Decisions as records: a deterministic body, its digest, and the envelope of one emission."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lakehouse.codec import Batch, Column, Strings, slices
from lakehouse.registry import registry
from lakehouse.texts import Flags, Ints, Texts

BODY_ENDS_WITH = "content_digest"
ENVELOPE_BEGINS_WITH = "body_digest"


@dataclass(frozen=True)
class Body:
    """The bodies of some decisions, in log order: columns of the schema up to `content_digest`."""

    offset: Ints
    transaction_id: list[bytes]
    columns: dict[str, Column]
    valid: dict[str, Flags]

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
