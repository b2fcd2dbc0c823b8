"""A table of things by source position, and rows of it."""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.tables import POSITION, Column, Table

TOPIC = "T"
THINGS = Table(
    name="test.things",
    meaning="Things by source position.",
    grain="one thing",
    key=("topic_id", "partition", "offset"),
    columns=(*POSITION, Column("value", "bigint", "a number")),
)


def things(
    spark: SparkSession,
    start: int,
    end: int,
    value: int = 1,
    topic_id: str = TOPIC,
    partition: int = 0,
    step: int = 1,
) -> DataFrame:
    """One thing for every offset of a range (of those that `step` leaves), with the value `value`."""
    return spark.range(start, end, step).select(
        F.lit(topic_id).alias("topic_id"),
        F.lit(partition).alias("partition"),
        F.col("id").alias("offset"),
        F.lit(value).cast("bigint").alias("value"),
    )
