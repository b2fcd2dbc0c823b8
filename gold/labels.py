"""What is known of a payment at a moment: the label ledger folded to one row a payment.

The rule, in this order:

1. A label counts from `label_available_at` on, or from its arrival (the engine's clock at its place in the log) where
   that was later: when the features see it. What arrives later changes nothing at an earlier moment.
2. A label that another one takes back counts until that one counts, and never again.
3. A source that is not trusted has no word; neither has a label that is less confident than asked for. `rule` is not
   trusted by default: what our own rules say is a prediction, and a prediction is never a label.
4. Where sources disagree, the strongest one with a word is right; of its own words the newest.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.label_ledger import Trust


def standing(labels: DataFrame, as_of_ms: int) -> DataFrame:
    """Labels that count at `as_of_ms` and are not taken back by then; `known_at` is from when on they count."""
    seen = labels.withColumn("known_at", F.greatest("label_available_at", "engine_clock")).where(
        F.unix_millis("known_at") <= as_of_ms
    )
    taken_back = seen.where(F.col("reverses").isNotNull()).select(F.col("reverses").alias("label_id")).distinct()
    return seen.where(F.col("reverses").isNull()).join(taken_back, "label_id", "leftanti")


def findings(labels: DataFrame, as_of_ms: int, trust: Trust) -> DataFrame:
    """What every payment with a word was found to be at `as_of_ms`, one row each.

    transaction_id, is_fraud, label_source and label_confidence of the word that is right, label_available_at: from
    when on a standing word says so.
    """
    rank = F.array_position(F.array(*(F.lit(name) for name in trust.sources)), F.col("source"))
    words = standing(labels, as_of_ms).withColumn("rank", rank)
    words = words.where((F.col("rank") > 0) & (F.col("confidence") >= trust.least_confidence))
    first = F.min_by(
        F.struct("is_fraud", "source", "confidence"),
        F.struct("rank", -F.unix_micros("known_at"), -F.col("offset")),
    )
    found = words.groupBy("transaction_id").agg(
        first.alias("right"),
        F.min(F.when(F.col("is_fraud"), F.col("known_at"))).alias("fraud_since"),
        F.min(F.when(~F.col("is_fraud"), F.col("known_at"))).alias("genuine_since"),
    )
    return found.select(
        "transaction_id",
        F.col("right.is_fraud").alias("is_fraud"),
        F.col("right.source").alias("label_source"),
        F.col("right.confidence").alias("label_confidence"),
        F.when(F.col("right.is_fraud"), F.col("fraud_since"))
        .otherwise(F.col("genuine_since"))
        .alias("label_available_at"),
    )
