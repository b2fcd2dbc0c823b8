"""Work for Spark's tasks: a frame whose rows say what each of them is to do."""

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession


def handed_out(spark: SparkSession, work: pa.Table) -> DataFrame:
    """The rows, each to the task that its column `number` (from 0) names.

    They go to Spark as Arrow: a list of rows would pass through Python workers whose environment is another than that
    of the workers that do the work, so that every session would start and warm a second daemon.
    """
    number = pc.max(work.column("number")).as_py()
    return spark.createDataFrame(work).repartitionById(1 if number is None else number + 1, "number")
