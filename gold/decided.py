"""gold.decisions: what every payment was answered in the end."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse import delta
from lakehouse.contracts import silver
from lakehouse.contracts.gold import DECISIONS


def decided_ends(root: str) -> dict[str, int]:
    """Exclusive end of the offsets of topic `events` that silver.decisions holds, by `topic_id/partition`.

    Its commits tell of the other topic, `decisions`. Decisions are made in the order of the log, so what comes later
    lies behind this end.
    """
    ends = delta.rows(root, silver.DECISIONS, delta.PLACE).group_by(delta.PLACE[:2]).aggregate([("offset", "max")])
    return {f"{row['topic_id']}/{row['partition']}": row["offset_max"] + 1 for row in ends.to_pylist()}


def answered(final: DataFrame, decided: DataFrame, answers: DataFrame) -> DataFrame:
    """Rows of gold.decisions made again because an answer to them arrived after they were written."""
    waiting = final.where(F.col("answered_outcome").isNull()).select(*delta.PLACE, "transaction_id")
    late = waiting.join(F.broadcast(answers.select("transaction_id").distinct()), "transaction_id", "left_semi")
    again = decisions(decided.join(F.broadcast(late.select(*delta.PLACE)), list(delta.PLACE), "left_semi"), answers)
    return again.where(F.col("answered_outcome").isNotNull())


def decisions(decided: DataFrame, answers: DataFrame) -> DataFrame:
    """The engine's decisions with the API's answers over them; a rejected repeat never takes the first one's answer."""
    first = answers.groupBy("transaction_id").agg(F.min_by("outcome", "offset").alias("answered_outcome"))
    rows = decided.withColumnRenamed("outcome", "decided_outcome").join(F.broadcast(first), "transaction_id", "left")
    conflict = F.array_contains("rejected_by", "conflict")
    answered = F.when(~conflict, F.col("answered_outcome"))
    return (
        rows.withColumn("answered_outcome", answered)
        .withColumn("effective_outcome", F.coalesce("answered_outcome", "decided_outcome"))
        .select(*DECISIONS.column_names)
    )
