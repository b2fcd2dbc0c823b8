"""Which source offsets a batch covers."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.errors import RangeMissing
from lakehouse.storage import Span


def spans_of(batch: DataFrame, topic_id: str, dense: bool = True) -> list[Span]:
    """One span a partition; RangeMissing when an offset inside it lacks and the topic is `dense`: without holes."""
    rows = (
        batch.groupBy("partition")
        .agg(F.min("offset").alias("first"), F.max("offset").alias("last"), F.count("*").alias("records"))
        .collect()
    )
    spans = []
    for row in sorted(rows, key=lambda r: r["partition"]):
        if dense and row["last"] - row["first"] + 1 != row["records"]:
            raise RangeMissing(
                f"Offsets {row['first']} to {row['last']} of partition {row['partition']} hold "
                f"{row['records']} records.",
                "Was a transactional producer or retention at work? Nothing was written.",
            )
        spans.append(Span(topic_id, row["partition"], row["first"], row["last"] + 1))
    return spans
