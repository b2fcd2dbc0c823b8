"""gold.training_set: vectors with what was known of them at a moment."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from gold.labels import known_fraud
from lakehouse.contracts.gold import TRAINING_SET

_DAY_MS = 86_400_000


def training_set(
    vectors: DataFrame, payments: DataFrame, labels: DataFrame, as_of_ms: int, label_gap_d: int
) -> DataFrame:
    """One row a payment before `as_of_ms`; labels that arrived later do not exist yet."""
    position = ["topic_id", "partition", "offset"]
    who = payments.where(F.unix_millis("engine_clock") <= as_of_ms).select(
        *position, "card_token", "customer_token", "amount_base_minor"
    )
    rows = vectors.join(who, position).join(known_fraud(labels, as_of_ms), "transaction_id", "left")
    return (
        rows.withColumn("is_fraud", F.col("label_available_at").isNotNull())
        .withColumn("is_mature", F.unix_millis("event_time") <= as_of_ms - label_gap_d * _DAY_MS)
        .withColumn("as_of", F.timestamp_millis(F.lit(as_of_ms)))
        .select(*TRAINING_SET.column_names)
    )
