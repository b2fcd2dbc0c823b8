"""Literal records of every kind, written by fastavro as any other writer of the log would write them."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from expectations.control import ControlEvent
from lakehouse import signing
from lakehouse.registry import registry
from tests.lakehouse.avro import written

T0 = 1_736_150_400_000
"""2025-01-06T08:00:00Z in milliseconds."""
SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000

CARD, OTHER_CARD = "4539148803436467", "6011000990139424"

REFERENCE = {
    "base_currency": "EUR",
    "rates_micro": {"EUR": 1_000_000, "JPY": 620_000, "USD": 862_069},
    "category_risk": {"5411": 0.02, "7995": 0.8},
    "country_risk": {"FR": 0.05, "NG": 0.9},
}

BASE: Mapping[str, Mapping[str, Any]] = {
    "payment": {
        "transaction_id": "t1",
        "event_time": T0 - SECOND,
        "received_at": T0,
        "card_number": CARD,
        "customer_id": "C-1",
        "merchant_id": "M-1",
        "merchant_category_code": "5411",
        "merchant_country": "FR",
        "amount_minor": 1250,
        "currency": "EUR",
        "channel": "ecom",
    },
    "authorisation": {
        "transaction_id": "t1",
        "event_time": T0 - SECOND,
        "received_at": T0,
        "card_number": CARD,
        "customer_id": "C-1",
        "merchant_id": "M-1",
        "result": "approved",
    },
    "label": {
        "label_id": "l1",
        "transaction_id": "t1",
        "card_number": CARD,
        "customer_id": "C-1",
        "merchant_id": "M-1",
        "event_time": T0 - DAY,
        "amount_minor": 1250,
        "currency": "EUR",
        "is_fraud": True,
        "source": "chargeback",
        "confidence": 1.0,
        "received_at": T0,
        "label_available_at": T0 + DAY,
    },
    "control": {
        "control_id": "c1",
        "received_at": T0,
        "scope": "reference",
        "version": 1,
        "previous_digest": "",
        "payload": "{}",
        "author": "author-0",
        "approver": "approver-0",
        "author_signature": b"",
        "approver_signature": b"",
    },
    "answer": {
        "answer_id": "a1",
        "transaction_id": "t1",
        "received_at": T0,
        "outcome": "review",
        "reason": "timeout",
        "host": "api-1",
    },
    "outcome": {"outcome_id": "o1", "transaction_id": "t1", "received_at": T0, "result": "approved"},
    "erasure": {"erasure_id": "e1", "customer_id": "C-1", "received_at": T0, "requested_by": "officer-1"},
    "staged": {"staged_id": "s1", "received_at": T0, "model_digest": "ab" * 32, "epoch": 0, "refused": None},
    "engine_start": {
        "engine_id": "x1",
        "started_at": T0,
        "topic_id": "T",
        "next_offset": 0,
        "host": "engine-1",
        "code_version": "0",
    },
    "decision": {
        "topic_id": "T",
        "partition": 0,
        "offset": 0,
        "decision_id": "d0",
        "transaction_id": "t1",
        "event_time": T0 - SECOND,
        "received_at": T0,
        "engine_clock": T0,
        "outcome": "approve",
        "risk": "low",
        "rejected_by": [],
        "score": 0.25,
        "rules_fired": [],
        "rules_shadow": [],
        "rules_suppressed": [],
        "reason_codes": [],
        "lists_hit": [],
        "card_token": "v1:card",
        "customer_token": "v1:customer",
        "merchant_id": "M-1",
        "control_digest": "cd" * 32,
        "rung": "full",
        "payload_digest": bytes(16),
        "content_digest": bytes(16),
        "body_digest": bytes(32),
        "epoch": 0,
        "decided_at": T0 + 5,
        "latency_us": 900,
        "host": "engine-1",
        "code_version": "0",
    },
    "shadow": {
        "topic_id": "T",
        "partition": 0,
        "offset": 0,
        "decision_id": "d0",
        "transaction_id": "t1",
        "event_time": T0 - SECOND,
        "card_token": "v1:card",
        "amount_base_minor": 5,
        "model_digest": "ef" * 32,
        "rung": "full",
        "outcome": "approve",
        "risk": "low",
        "score": 0.25,
        "champion_digest": "ab" * 32,
        "champion_outcome": "approve",
        "champion_score": 0.5,
        "scored_at": T0 + 6,
        "scoring_us": 12.5,
        "code_version": "0",
    },
    "reasons": {
        "topic_id": "T",
        "partition": 0,
        "offset": 0,
        "decision_id": "d0",
        "transaction_id": "t1",
        "model_digest": "ab" * 32,
        "codes": ["MODEL_VELOCITY"],
        "features": ["card_tx_count_5m"],
        "expected_score": 0.02,
        **{f"added_{family}": 0.25 for family in ("velocity", "device", "behaviour", "geography", "history", "ring")},
        "computed_at": T0 + 9,
        "code_version": "0",
    },
}


def record(kind: str, **changes: Any) -> dict[str, Any]:
    """The usual record of a kind with some fields changed; what is not given is null."""
    names = [field["name"] for field in registry().latest(kind).parsed["fields"]]
    unknown = set(changes) - set(names)
    assert not unknown, unknown
    return {**dict.fromkeys(names), **BASE[kind], **changes}


def raw(kind: str, **changes: Any) -> bytes:
    """The record as it lies on the log."""
    schema = registry().latest(kind)
    return schema.prefix + written(schema, record(kind, **changes))


def raw_by_older(version: int, kind: str, **changes: Any) -> bytes:
    """The record as a release wrote it that knew a schema up to some version, 1 being the first."""
    schema = registry().versions(kind)[version - 1]
    known = {field["name"] for field in schema.parsed["fields"]}
    return schema.prefix + written(schema, {n: v for n, v in record(kind, **changes).items() if n in known})


def signed(
    folder: Path,
    scope: str = "reference",
    payload: Any = REFERENCE,
    version: int = 1,
    previous_digest: str = "",
    control_id: str = "c1",
    signers: tuple[str, str] = ("author", "approver"),
    **changes: Any,
) -> ControlEvent:
    """A control event signed with the local keys of a folder; `changes` are made after signing."""
    author, approver = (signing.signer(folder / f"{role}.pem") for role in signers)
    text = payload if isinstance(payload, str) else orjson.dumps(payload, option=orjson.OPT_SORT_KEYS).decode()
    content = {
        "control_id": control_id,
        "scope": scope,
        "version": version,
        "previous_digest": previous_digest,
        "payload": text,
        "author": author.key_id,
        "approver": approver.key_id,
    }
    message = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    signatures = {"author_signature": author.sign(message), "approver_signature": approver.sign(message)}
    return ControlEvent(**{**content, **signatures, **changes})


def raw_control(event: ControlEvent, received_at: int = T0) -> bytes:
    """A control event as it lies on the log."""
    return raw("control", received_at=received_at, **event.__dict__)


def every_form(secret: bytes) -> list[bytes]:
    """The forms in which a secret could turn up in a file or a text."""
    return [secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret)]
