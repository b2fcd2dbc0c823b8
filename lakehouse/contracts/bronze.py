"""Bronze: records as received, sealed, with where they came from."""

from lakehouse.tables import POSITION, Column, Table


def _as_received(name: str, topic: str) -> Table:
    return Table(
        name=name,
        meaning=f"Every record of topic `{topic}`, as received and sealed.",
        grain="one record of the topic",
        key=("topic_id", "partition", "offset"),
        columns=(
            *POSITION,
            Column("broker_time", "timestamp", "when the broker appended the record"),
            Column("schema_id", "int", "id in the Confluent prefix; null where there is none", nullable=True),
            Column("record_bytes", "int", "bytes of the record's value"),
            Column("payload_digest", "binary", "keyed digest of the value's bytes, 16 bytes"),
            Column(
                "sealed",
                "binary",
                "key, headers and value, AES-256-GCM, bound to the source position; empty once purged (lake.purges)",
                personal="sealed",
            ),
            Column("sealing_key", "string", "data key of the ingest day and its generation, as bronze|2026-01-31|g1"),
            Column("ingested_at", "timestamp", "when the batch began that landed the record"),
            Column("ingest_date", "date", "day of ingested_at"),
            Column("repairs", "string", "position of the refused record that it repairs, by its header", nullable=True),
        ),
        event_time="broker_time",
        partition_by=("ingest_date",),
    )


EVENTS = _as_received("bronze.events", "events")
DECISIONS = _as_received("bronze.decisions", "decisions")
SHADOW = _as_received("bronze.shadow", "shadow")

TABLES = (EVENTS, DECISIONS, SHADOW)
