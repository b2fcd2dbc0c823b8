"""What is known of a payment at a moment: the label ledger folded to one row a payment."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def known_fraud(labels: DataFrame, as_of_ms: int) -> DataFrame:
    """transaction_id and label_available_at of payments with a fraud label that stands at `as_of_ms`.

    A label counts from label_available_at on, or from its arrival (the engine's clock at its place in the log) where
    that was later: when the features see it. One that another label takes back counts until that one counts.
    """
    effective = F.greatest("label_available_at", "engine_clock")
    seen = labels.withColumn("label_available_at", effective).where(F.unix_millis("label_available_at") <= as_of_ms)
    reversed_ids = seen.where(F.col("reverses").isNotNull()).select(F.col("reverses").alias("label_id")).distinct()
    standing = seen.where(F.col("is_fraud") & F.col("reverses").isNull()).join(reversed_ids, "label_id", "leftanti")
    return standing.groupBy("transaction_id").agg(F.min("label_available_at").alias("label_available_at"))
