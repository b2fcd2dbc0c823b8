"""What each task is to do reaches it, without Python workers on the way there."""

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse.tasks import handed_out

WORK = pa.table({"number": pa.array([0, 0, 2], pa.int32()), "path": ["a", "b", "c"]})


def test_rows_of_a_number_are_together_and_those_of_others_elsewhere(spark: SparkSession) -> None:
    rows = handed_out(spark, WORK).withColumn("task", F.spark_partition_id()).collect()
    assert sorted((row.path, row.task) for row in rows) == [("a", 0), ("b", 0), ("c", 2)]


def test_without_work_there_is_one_task_and_nothing_in_it(spark: SparkSession) -> None:
    frame = handed_out(spark, WORK.slice(0, 0))
    assert frame.collect() == []
    assert frame.columns == ["number", "path"]


def test_no_python_worker_is_needed_to_hand_it_out(spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    handed_out(spark, WORK).explain()
    plan = capsys.readouterr().out
    assert "LocalTableScan" in plan
    assert "RDD" not in plan
