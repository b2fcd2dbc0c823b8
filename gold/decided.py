"""gold.decisions: what every payment was answered in the end."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.contracts.gold import DECISIONS


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
