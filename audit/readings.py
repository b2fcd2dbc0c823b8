"""What is read of each table of silver, features and gold: digests of the facts that several of them tell."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audit import digests
from audit.digests import Digests, Ints
from audit.schemas import Schema
from audit.tables import Numbers

Read = Mapping[str, Numbers]
Names = tuple[str, ...]

PAYMENT = ("transaction_id", "event_time")
PARTIES = ("card_token", "customer_token", "merchant_id")
OF_SCORE = ("model_digest", "score", "score_xgboost", "score_isolation_forest")
"""`risk` is none of them: a decision's is that of its score with rules, by the thresholds in force."""
OF_DECISION = (
    *("risk", "score", "model_digest", "decision_id"),
    *("score_with_rules", "rules_fired", "reason_codes", "lists_hit", "rung"),
    *("propensity", "explored_from", "arm", "arm_probability"),
)
ASIDE = ("payload_digest", "ingested_at", "broker_time", "kind", "first_offset", "content_digest")
REFUSED = (*ASIDE, "sealed", "sealing_key", "first_content_digest", "reasons")
VECTOR = (*PAYMENT, "feature_set", "vector")
NAMED = ("topic_id", "partition", "offset", *PAYMENT, "feature_set")
"""Columns of gold.features that are not features."""
SCORE = (*PAYMENT, *OF_SCORE)
DECIDED = (
    *(*PAYMENT, "amount_base_minor", *PARTIES, *OF_DECISION, "rejected_by", "vector", "outcome", "feature_set"),
    *("score_xgboost", "score_isolation_forest", "payload_digest", "content_digest"),
)
FINAL = (
    *(*PAYMENT, "amount_base_minor", *PARTIES, *OF_DECISION),
    *("decided_outcome", "answered_outcome", "challenge_result", "effective_outcome"),
)
SHADOWED = (*PAYMENT, "amount_base_minor")
_CONFLICT = "conflict"
_UNDECODABLE = "undecodable"
_UNNAMED = ("unknown_schema_id", "unreadable: purged on request")
"""Reasons of records whose kind nobody knew when they were refused; a later release may know the schema."""


def _digest(batch: pa.RecordBatch, names: Names) -> Digests:
    return digests.rows([batch.column(name) for name in names], batch.num_rows)


def _value(batch: pa.RecordBatch, name: str) -> Digests:
    return digests.values(batch.column(name))


def _number(batch: pa.RecordBatch, name: str, missing: int = 0) -> Ints:
    return np.asarray(pc.cast(batch.column(name), pa.int64()).fill_null(missing), np.int64)


def _fields(batch: pa.RecordBatch, schema: Schema) -> Digests:
    """A digest of the fields that a table carries as they are in the record: times and days as numbers."""
    found = []
    for name in schema.carried:
        column = batch.column(name)
        if pa.types.is_timestamp(column.type):
            column = pc.cast(pc.cast(column, pa.timestamp("us", column.type.tz)), pa.int64())
        elif pa.types.is_date(column.type):
            column = pc.cast(column, pa.int32())
        found.append(column)
    return digests.rows(found, batch.num_rows)


def accepted_columns(schema: Schema) -> Names:
    """What is read of the table of a kind."""
    extra = ("amount_base_minor", *PARTIES[:2]) if schema.kind == "payment" else ()
    return ("payload_digest", "ingested_at", "content_digest", *schema.carried, *extra)


def accepted(schema: Schema, batch: pa.RecordBatch) -> Read:
    """Accepted records of a kind."""
    found: dict[str, Numbers] = {
        "payload": _value(batch, "payload_digest"),
        "landing": _value(batch, "ingested_at"),
        "content": _fields(batch, schema),
        "own content": _value(batch, "content_digest"),
    }
    if schema.kind == "payment":
        found |= {
            "minor": _number(batch, "amount_minor"),
            "amount32": digests.values(digests.float32(batch.column("amount_base_minor"))),
            **_both(batch),
        }
    return found


def own_content(batch: pa.RecordBatch) -> Read:
    """Their content digests alone."""
    return {"own content": _value(batch, "content_digest")}


def aside(batch: pa.RecordBatch) -> Read:
    """Duplicates, and what is read of quarantine in the same way."""
    return {
        "payload": _value(batch, "payload_digest"),
        "landing": _value(batch, "ingested_at"),
        "broker_time": _value(batch, "broker_time"),
        "kind": _value(batch, "kind"),
        "first": _number(batch, "first_offset", -1),
        "own content": _value(batch, "content_digest"),
    }


def refused(batch: pa.RecordBatch) -> Read:
    """Quarantine; `decided` are payments that an engine rejects instead of leaving them out, `unnamed` has no kind."""
    reasons = batch.column("reasons").to_pylist()
    undecodable = [any(reason.startswith(_UNDECODABLE) for reason in some or ()) for some in reasons]
    unnamed = [any(reason in _UNNAMED for reason in some or ()) for some in reasons]
    payment = [kind == "payment" for kind in batch.column("kind").to_pylist()]
    return {
        **aside(batch),
        "seal": _digest(batch, ("sealed", "sealing_key")),
        "first content": _value(batch, "first_content_digest"),
        "decided": np.array(payment, np.bool_) & ~np.array(undecodable, np.bool_),
        "unnamed": np.array(unnamed, np.bool_),
    }


def vectors(batch: pa.RecordBatch) -> Read:
    """features.vectors."""
    return {
        "payment": _digest(batch, PAYMENT),
        "set": _value(batch, "feature_set"),
        "vector": digests.vectors(batch.column("vector")),
    }


def features(batch: pa.RecordBatch) -> Read:
    """gold.features, its named columns as the vector that they are."""
    return {
        "payment": _digest(batch, PAYMENT),
        "set": _value(batch, "feature_set"),
        "vector": digests.matrix([batch.column(name) for name in batch.schema.names if name not in NAMED]),
        "amount32": digests.values(digests.float32(batch.column("amount_minor"))),
    }


def scores(batch: pa.RecordBatch) -> Read:
    """gold.scores."""
    return {
        "payment": _digest(batch, PAYMENT),
        "model": _value(batch, "model_digest"),
        "scores": _digest(batch, OF_SCORE),
    }


def _both(batch: pa.RecordBatch) -> dict[str, Numbers]:
    """What payments and their decisions both tell."""
    return {
        "payment": _digest(batch, PAYMENT),
        "amount": _value(batch, "amount_base_minor"),
        "base_minor": _number(batch, "amount_base_minor"),
        "parties": _digest(batch, PARTIES),
    }


def on_topic(schema: Schema, batch: pa.RecordBatch) -> Read:
    """silver.decisions, as records of topic `decisions`."""
    return {
        "content": _fields(batch, schema),
        "landing": _value(batch, "ingested_at"),
        "epoch": _number(batch, "epoch"),
    }


def shadowed(schema: Schema, batch: pa.RecordBatch) -> Read:
    """silver.shadow, as records of topic `shadow`; `source` are the payments' offsets."""
    return {
        "content": _fields(batch, schema),
        "landing": _value(batch, "ingested_at"),
        "source": _number(batch, "offset"),
    }


def of_payment(batch: pa.RecordBatch) -> Read:
    """What silver.shadow tells of payments."""
    return {"payment": _digest(batch, PAYMENT), "amount": _value(batch, "amount_base_minor")}


def decided(batch: pa.RecordBatch) -> Read:
    """silver.decisions, as what became of payments."""
    rejected_by = batch.column("rejected_by").to_pylist()
    vector = batch.column("vector")
    return {
        **_both(batch),
        "carried": _digest(batch, OF_DECISION),
        "outcome": _value(batch, "outcome"),
        "set": _value(batch, "feature_set"),
        "vector": digests.vectors(vector),
        "model": _value(batch, "model_digest"),
        "scores": _digest(batch, OF_SCORE),
        "whole": np.asarray(batch.column("score_isolation_forest").is_valid(), np.bool_),
        "payload": _value(batch, "payload_digest"),
        "own content": _value(batch, "content_digest"),
        "transaction": _value(batch, "transaction_id"),
        "conflict": np.array([_CONFLICT in (names or ()) for names in rejected_by], np.bool_),
        "accepted": np.asarray(vector.is_valid(), np.bool_),
    }


def final(batch: pa.RecordBatch) -> Read:
    """gold.decisions."""
    return {
        **_both(batch),
        "carried": _digest(batch, OF_DECISION),
        "outcome": _value(batch, "decided_outcome"),
        "answered": _value(batch, "answered_outcome"),
        "ended": _value(batch, "challenge_result"),
        "effective": _value(batch, "effective_outcome"),
        "unanswered": np.asarray(batch.column("answered_outcome").is_null(), np.bool_),
    }
