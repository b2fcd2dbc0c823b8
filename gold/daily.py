"""gold.fraud_daily: payments, declines and known fraud by day."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from gold.labels import findings
from lakehouse.contracts.gold import FRAUD_DAILY
from lakehouse.label_ledger import Trust


def fraud_daily(
    payments: DataFrame, authorisations: DataFrame, labels: DataFrame, as_of_ms: int, trust: Trust
) -> DataFrame:
    """One row a day of event time, UTC."""
    declined = authorisations.where(F.col("result") == "declined").select("transaction_id").distinct()
    fraud = findings(labels, as_of_ms, trust).where("is_fraud").select("transaction_id", "is_fraud")
    rows = (
        payments.select("transaction_id", "event_time", "amount_base_minor", "customer_token", "merchant_id")
        .join(declined.withColumn("is_declined", F.lit(True)), "transaction_id", "left")
        .join(fraud, "transaction_id", "left")
    )
    return (
        rows.groupBy(F.to_date("event_time").alias("day"))
        .agg(
            F.count("*").alias("payments"),
            F.sum("amount_base_minor").alias("amount_base_minor"),
            F.count("is_declined").alias("declined"),
            F.count("is_fraud").alias("fraud_payments"),
            F.coalesce(F.sum(F.when(F.col("is_fraud"), F.col("amount_base_minor"))), F.lit(0)).alias(
                "fraud_amount_base_minor"
            ),
            F.countDistinct("customer_token").alias("customers"),
            F.countDistinct("merchant_id").alias("merchants"),
        )
        .select(*FRAUD_DAILY.column_names)
    )
