"""Silver: admitted, typed, masked; a table for every kind of record, and one for what was not admitted.

The columns of a kind follow from its Avro schema: a personal field becomes a token column and moves, in clear, into
the row's one sealed record; a logical type becomes the Spark type.
"""

from collections.abc import Mapping
from typing import Any

from lakehouse.iso import COUNTRIES, CURRENCIES
from lakehouse.registry import registry
from lakehouse.tables import (
    POSITION,
    Between,
    Column,
    Digits,
    Holds,
    Length,
    OneOf,
    Required,
    Rule,
    SparkType,
    Table,
)

TOKEN_COLUMNS: Mapping[str, tuple[str, str]] = {
    "card_number": ("card_token", "card"),
    "customer_id": ("customer_token", "customer"),
    "customer_email": ("email_token", "email"),
    "billing_address": ("billing_address_token", "address"),
    "shipping_address": ("shipping_address_token", "address"),
    "device_id": ("device_token", "device"),
    "ip_address": ("ip_token", "ip"),
}
"""Personal field -> (column of its token, kind of token)."""

PLAUSIBLE_LATENESS_S = (-300, 31_622_400)
"""An event is at most five minutes ahead of its arrival, and at most a year old."""
BEHIND_BROKER_S = (-300, 3_200_000_000)
"""A record is at most five minutes ahead of the broker's clock; a century covers every import of history."""
LABEL_LATENESS_S = (-300, 94_867_200)
"""A dispute is about a payment of the last three years."""
LABEL_WAIT_S = (-34_560_000, 34_560_000)
"""A label can be known at most 400 days from its arrival."""
MAX_AMOUNT_MINOR = 100_000_000_000

_LOGICAL: Mapping[str, SparkType] = {"timestamp-millis": "timestamp", "date": "date"}
_PRIMITIVE: Mapping[str, SparkType] = {
    "string": "string",
    "boolean": "boolean",
    "int": "int",
    "long": "bigint",
    "double": "double",
    "bytes": "binary",
}

_ADMITTED = (
    Column("engine_clock", "timestamp", "running maximum of received_at over accepted records, this one included"),
    Column("seconds_behind_broker", "double", "broker's time - received_at"),
    Column("content_digest", "binary", "keyed digest of the content without received_at, 16 bytes"),
    Column("payload_digest", "binary", "keyed digest of the record's bytes, 16 bytes"),
    Column("ingested_at", "timestamp", "when bronze landed the record"),
)
_PERSONAL = (
    Column(
        "personal",
        "string",
        "the personal fields, one Fernet token bound to the row; null where their key was destroyed before",
        nullable=True,
        personal="sealed",
    ),
    Column(
        "personal_key",
        "string",
        "subject|g<n>: key of the customer after n erasures; silver|<ingest day>|g1 where no customer is named",
    ),
)


def _typed(schema: Mapping[str, Any]) -> tuple[Column, ...]:
    columns = []
    for field in schema["fields"]:
        declared, nullable = field["type"], False
        if isinstance(declared, list):
            declared, nullable = declared[1], True
        if field["name"] in TOKEN_COLUMNS:
            name, kind = TOKEN_COLUMNS[field["name"]]
            columns.append(Column(name, "string", f"token of the {kind}: {field['doc']}", nullable, "token"))
            continue
        if isinstance(declared, dict):
            kind_: SparkType = "array<string>" if declared["type"] == "array" else _LOGICAL[declared["logicalType"]]
        else:
            kind_ = _PRIMITIVE[declared]
        columns.append(Column(field["name"], kind_, field["doc"], nullable))
    return tuple(columns)


def _kind(kind: str, name: str, key: str, rules: tuple[Rule, ...], extra: tuple[Column, ...] = ()) -> Table:
    schema = registry().latest(kind).parsed
    personal = _PERSONAL if any(f["name"] in TOKEN_COLUMNS for f in schema["fields"]) else ()
    event_time = "event_time" if any(f["name"] == "event_time" for f in schema["fields"]) else "received_at"
    return Table(
        name=f"silver.{name}",
        meaning=f"Admitted records of kind `{kind}`. {schema['doc']}",
        grain=f"one accepted {kind} record",
        key=(key,),
        columns=(*POSITION, *_typed(schema), *extra, *_ADMITTED, *personal),
        event_time=event_time,
        rules=(
            Required(f"{key}_required", key),
            Length(f"{key}_length", key, 1, 64),
            Between("received_at_not_ahead", "seconds_behind_broker", *BEHIND_BROKER_S),
            *rules,
        ),
    )


def _country(column: str) -> OneOf:
    return OneOf(f"{column}_known", column, tuple(sorted(COUNTRIES)))


_CARD = Column("card_well_formed", "boolean", "the card number has 12-19 digits and a valid Luhn digit")
_LATE = Column("seconds_late", "double", "received_at - event_time")
_WELL_FORMED = Holds("card_well_formed", "card_well_formed")
_PLAUSIBLE = Between("event_time_plausible", "seconds_late", *PLAUSIBLE_LATENESS_S)
_MERCHANT = Length("merchant_id_length", "merchant_id", 1, 64)
_CURRENCY = OneOf("currency_known", "currency", tuple(sorted(CURRENCIES)))

PAYMENTS = _kind(
    "payment",
    "payments",
    "transaction_id",
    rules=(
        _PLAUSIBLE,
        _WELL_FORMED,
        _MERCHANT,
        Between("amount_plausible", "amount_minor", 0, MAX_AMOUNT_MINOR),
        _CURRENCY,
        OneOf("channel_known", "channel", ("atm", "ecom", "moto", "pos", "wallet")),
        OneOf("entry_mode_known", "entry_mode", ("chip", "contactless", "manual", "stored", "swipe")),
        Digits("merchant_category_code_digits", "merchant_category_code", 4),
        _country("merchant_country"),
        _country("issuer_country"),
        _country("ip_country"),
        _country("billing_country"),
        _country("shipping_country"),
        Between("latitude_plausible", "latitude", -90, 90),
        Between("longitude_plausible", "longitude", -180, 180),
        Between("timezone_plausible", "timezone_offset_min", -840, 840),
        Between("pin_attempts_plausible", "pin_attempts", 0, 20),
        Holds("dates_plausible", "dates_plausible"),
    ),
    extra=(
        Column("amount_base_minor", "bigint", "amount in minor units of the base currency"),
        Column("reference_version", "int", "version of the reference tables that converted the amount"),
        Column("category_risk", "double", "0 to 1, of the merchant category, by the reference tables", nullable=True),
        Column("country_risk", "double", "0 to 1, of the merchant's country, by the reference tables", nullable=True),
        _LATE,
        _CARD,
        Column("dates_plausible", "boolean", "account and card dates lie in the years 1900 to 2199, where given"),
    ),
)
AUTHORISATIONS = _kind(
    "authorisation",
    "authorisations",
    "transaction_id",
    rules=(
        _PLAUSIBLE,
        _WELL_FORMED,
        _MERCHANT,
        OneOf("result_known", "result", ("approved", "declined")),
    ),
    extra=(_LATE, _CARD),
)
LABELS = _kind(
    "label",
    "labels",
    "label_id",
    rules=(
        _WELL_FORMED,
        _MERCHANT,
        Between("amount_plausible", "amount_minor", 0, MAX_AMOUNT_MINOR),
        _CURRENCY,
        OneOf("source_known", "source", ("analyst", "chargeback", "customer", "early_warning", "rule")),
        Between("event_time_plausible", "seconds_late", *LABEL_LATENESS_S),
        Between("available_at_plausible", "seconds_until_available", *LABEL_WAIT_S),
        Required("confidence_required", "confidence"),
        Between("confidence_plausible", "confidence", 0, 1),
    ),
    extra=(
        Column("amount_base_minor", "bigint", "amount in minor units of the base currency"),
        Column("reference_version", "int", "version of the reference tables that converted the amount"),
        _CARD,
        _LATE,
        Column("seconds_until_available", "double", "label_available_at - received_at"),
        Column("effective_at", "timestamp", "max(label_available_at, engine_clock): from when on features know it"),
    ),
)
CONTROL = _kind(
    "control",
    "control",
    "control_id",
    rules=(
        OneOf(
            "scope_known",
            "scope",
            (
                *("keys", "lists", "model", "reference", "rules", "shadow", "split", "staging", "suppressions"),
                "thresholds",
            ),
        ),
        Between("version_plausible", "version", 1, 2_147_483_647),
    ),
)
ANSWERS = _kind(
    "answer",
    "answers",
    "answer_id",
    rules=(OneOf("outcome_known", "outcome", ("approve", "challenge", "decline", "review")),),
)
OUTCOMES = _kind(
    "outcome", "outcomes", "outcome_id", rules=(OneOf("result_known", "result", ("approved", "declined", "expired")),)
)
ERASURES = _kind(
    "erasure",
    "erasures",
    "erasure_id",
    rules=(),
    extra=(
        Column(
            "former_tokens",
            "array<string>",
            "the customer's tokens of the key versions that were in force before, the oldest first",
            nullable=True,
            personal="token",
        ),
    ),
)
STAGED = _kind("staged", "staged", "staged_id", rules=(Length("model_digest_length", "model_digest", 64, 64),))

BY_KIND: Mapping[str, Table] = {
    "payment": PAYMENTS,
    "authorisation": AUTHORISATIONS,
    "label": LABELS,
    "control": CONTROL,
    "answer": ANSWERS,
    "outcome": OUTCOMES,
    "erasure": ERASURES,
    "staged": STAGED,
}

_RUN = Column("run", "string", "the run of silver.job that judged it, as in silver.balance and its log", nullable=True)

QUARANTINE = Table(
    name="silver.quarantine",
    meaning="Records that were not admitted, with the reasons, still sealed; nothing is dropped.",
    grain="one refused record",
    key=("topic_id", "partition", "offset"),
    columns=(
        *POSITION,
        Column("kind", "string", "kind of the record where its schema id is known", nullable=True),
        Column("reasons", "array<string>", "names of the rules it breaks"),
        Column("first_offset", "bigint", "of a conflict: offset of the accepted record", nullable=True),
        Column("content_digest", "binary", "of a conflict: this record's content", nullable=True),
        Column("first_content_digest", "binary", "of a conflict: the accepted record's content", nullable=True),
        Column("payload_digest", "binary", "keyed digest of the record's bytes, 16 bytes"),
        Column(
            "sealed", "binary", "the record as bronze sealed it; empty once purged (lake.purges)", personal="sealed"
        ),
        Column("sealing_key", "string", "data key of the ingest day, as in bronze"),
        Column("broker_time", "timestamp", "when the broker appended the record"),
        Column("ingested_at", "timestamp", "when bronze landed the record"),
        _RUN,
    ),
    event_time="broker_time",
)
REPAIRS = Table(
    name="silver.repairs",
    meaning="Records that entered the log again for a refused one, and what became of them; quarantine keeps its row.",
    grain="one record that repairs a refused one",
    key=("topic_id", "partition", "offset"),
    columns=(
        *POSITION,
        Column("repaired_topic_id", "string", "of the refused record: the broker's id of its topic"),
        Column("repaired_partition", "int", "of the refused record: its partition"),
        Column("repaired_offset", "bigint", "of the refused record: its offset"),
        Column("outcome", "string", "accepted, quarantined or duplicate"),
        Column("payload_digest", "binary", "keyed digest of this record's bytes, 16 bytes"),
        Column("broker_time", "timestamp", "when the broker appended this record"),
    ),
    event_time="broker_time",
)
DUPLICATES = Table(
    name="silver.duplicates",
    meaning="Records that repeat an accepted one with the same content.",
    grain="one repeat",
    key=("topic_id", "partition", "offset"),
    columns=(
        *POSITION,
        Column("kind", "string", "kind of the record"),
        Column("first_offset", "bigint", "offset of the accepted record"),
        Column("content_digest", "binary", "keyed digest of the content without received_at"),
        Column("payload_digest", "binary", "keyed digest of the record's bytes"),
        Column("broker_time", "timestamp", "when the broker appended the record"),
        Column("ingested_at", "timestamp", "when bronze landed the record"),
    ),
    event_time="broker_time",
)
BALANCE = Table(
    name="silver.balance",
    meaning="What became of every range of source offsets: received = accepted + quarantined + duplicates.",
    grain="one batch",
    key=("topic_id", "partition", "offset"),
    columns=(
        *POSITION[:2],
        Column("offset", "bigint", "last offset of the range"),
        Column("start_offset", "bigint", "first offset of the range"),
        Column("received", "bigint", "records in the range"),
        Column("accepted", "bigint", "records accepted, all kinds"),
        Column("quarantined", "bigint", "records refused"),
        Column("duplicates", "bigint", "repeats"),
        Column("engine_clock", "timestamp", "engine clock after the range", nullable=True),
        _RUN,
    ),
)
ERASURE_REPORT = Table(
    name="silver.erasure_report",
    meaning="What became of a customer's personal data with an erasure: every place that held some.",
    grain="one place of one erasure",
    key=("topic_id", "partition", "offset", "place"),
    columns=(
        *POSITION,
        Column("erasure_id", "string", "the erasure"),
        Column("customer_token", "string", "whose", personal="token"),
        Column("place", "string", "a table, a topic or a store"),
        Column("holds", "string", "what of the customer it holds"),
        Column("state", "string", "unreadable, expires or kept"),
        Column("rows", "bigint", "rows of the customer before the erasure, where they can be told", nullable=True),
        Column("until", "date", "of what expires: the day by which nothing is left", nullable=True),
        Column("ground", "string", "of what is kept: why it may be", nullable=True),
    ),
)
TOKEN_MAP = Table(
    name="silver.token_map",
    meaning="What a token is called under the next key version; made before and after a token key is changed.",
    grain="one token of one kind and the version after it",
    key=("kind", "old_token", "to_version"),
    columns=(
        Column("kind", "string", "card, customer, device, ip, email or address"),
        Column("old_token", "string", "the token under the version before", personal="token"),
        Column("new_token", "string", "the token under the new version", personal="token"),
        Column("from_version", "int", "version of the old token's key"),
        Column("to_version", "int", "version of the new token's key"),
        Column("carried", "boolean", "nobody can open the value any more: the new token is a digest of the old one"),
    ),
    position=None,
)
DECISIONS = Table(
    name="silver.decisions",
    meaning="Decisions of the engine that was in office; repeats and those of fenced engines are left out.",
    grain="one decided record of topic `events`",
    key=("topic_id", "partition", "offset"),
    columns=(
        *_typed(registry().latest("decision").parsed),
        Column("decision_topic_id", "string", "the broker's id of topic `decisions`"),
        Column("decision_partition", "int", "where the decision lies on topic `decisions`"),
        Column("decision_offset", "bigint", "where the decision lies on topic `decisions`"),
        Column("ingested_at", "timestamp", "when bronze landed the decision"),
    ),
    event_time="event_time",
    position=("decision_topic_id", "decision_partition", "decision_offset"),
)

SHADOW = Table(
    name="silver.shadow",
    meaning="What a challenger in shadow would have decided on each payment; repeats are left out.",
    grain="one accepted payment that a challenger scored",
    key=("topic_id", "partition", "offset"),
    columns=(
        *_typed(registry().latest("shadow").parsed),
        Column("shadow_topic_id", "string", "the broker's id of topic `shadow`"),
        Column("shadow_partition", "int", "where the record lies on topic `shadow`"),
        Column("shadow_offset", "bigint", "where the record lies on topic `shadow`"),
        Column("ingested_at", "timestamp", "when bronze landed the record"),
    ),
    event_time="event_time",
    position=("shadow_topic_id", "shadow_partition", "shadow_offset"),
)

TABLES = (*BY_KIND.values(), QUARANTINE, REPAIRS, DUPLICATES, ERASURE_REPORT, BALANCE, DECISIONS, SHADOW)
"""What silver.job writes."""
