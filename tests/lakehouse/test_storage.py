"""The exactly-once write on real Delta tables: whatever is offered again, every source record is in the table once."""

import shutil
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import delta, storage
from lakehouse.errors import ContractBroken, RangeMissing, TopicReplaced
from lakehouse.made import Made
from lakehouse.storage import Span
from lakehouse.tables import Column, Table
from tests.lakehouse.things import THINGS, TOPIC, things


@pytest.fixture(scope="module")
def empty(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake whose table was just made."""
    folder: Path = tmp_path_factory.mktemp("empty")
    storage.ensure(str(folder), THINGS)
    return folder


@pytest.fixture
def root(empty: Path, tmp_path: Path) -> str:
    """A copy of it: a second less for every test."""
    shutil.copytree(empty, tmp_path / "lake")
    return str(tmp_path / "lake")


Rows = Callable[..., DataFrame]


@pytest.fixture
def rows(spark: SparkSession) -> Rows:
    """Makes one thing for every offset of a range."""
    return partial(things, spark)


Append = Callable[..., None]


@pytest.fixture(params=["rows of Spark's", "rows that workers make and write"])
def append(request: pytest.FixtureRequest) -> Append:
    """append_once in both forms."""

    def appended(frame: DataFrame, *rest: object, **more: bool) -> None:
        made = Made(frame, lambda batches: batches, THINGS)
        storage.append_once(frame if "Spark" in request.param else made, *rest, **more)  # type: ignore[arg-type]

    return appended


def _span(start: int, end: int, topic_id: str = TOPIC, partition: int = 0) -> Span:
    return Span(topic_id, partition, start, end)


def _held(root: str) -> list[tuple[int, int, int]]:
    table = DeltaTable(THINGS.path(root)).to_pyarrow_table(columns=["partition", "offset", "value"])
    return sorted((r["partition"], r["offset"], r["value"]) for r in table.to_pylist())


def _offsets(root: str) -> list[int]:
    return [offset for _, offset, _ in _held(root)]


def test_a_batch_that_is_offered_again_is_written_once(root: str, append: Append, rows: Rows) -> None:
    assert storage.written_ends(root, THINGS) == {}
    append(rows(0, 10), root, THINGS, [_span(0, 10)])
    version = storage.version(root, THINGS)
    append(rows(0, 10, value=2), root, THINGS, [_span(0, 10)])
    append(rows(3, 7, value=3), root, THINGS, [_span(3, 7)])
    assert storage.version(root, THINGS) == version
    assert _held(root) == [(0, offset, 1) for offset in range(10)]
    assert storage.written_ends(root, THINGS) == {"T/0": 10}


def test_a_larger_batch_after_lost_bookkeeping_adds_only_what_is_new(root: str, append: Append, rows: Rows) -> None:
    append(rows(0, 10), root, THINGS, [_span(0, 10)])
    append(rows(0, 30, value=2), root, THINGS, [_span(0, 30)])
    assert _held(root) == [(0, offset, 1 if offset < 10 else 2) for offset in range(30)]


def test_rows_outside_of_the_spans_are_not_written(root: str, append: Append, rows: Rows) -> None:
    frame = rows(0, 30).unionAll(rows(5, 10, topic_id="U")).unionAll(rows(5, 10, partition=3))
    append(frame, root, THINGS, [_span(5, 10)])
    assert _held(root) == [(0, offset, 1) for offset in range(5, 10)]


def test_partitions_are_counted_each_for_itself(root: str, append: Append, rows: Rows) -> None:
    frame = rows(0, 10).unionAll(rows(0, 5, partition=1))
    append(frame, root, THINGS, [_span(0, 10), _span(0, 5, partition=1)])
    frame = rows(0, 12).unionAll(rows(0, 9, partition=1))
    append(frame, root, THINGS, [_span(0, 12), _span(0, 9, partition=1)])
    assert _held(root) == [(0, offset, 1) for offset in range(12)] + [(1, offset, 1) for offset in range(9)]
    assert storage.written_ends(root, THINGS) == {"T/0": 12, "T/1": 9}


def test_a_table_that_holds_every_offset_refuses_a_gap(root: str, append: Append, rows: Rows) -> None:
    append(rows(0, 10), root, THINGS, [_span(0, 10)], contiguous=True)
    with pytest.raises(RangeMissing, match=r"test\.things ends at offset 10 of partition 0, the batch begins at 12"):
        append(rows(12, 20), root, THINGS, [_span(12, 20)], contiguous=True)
    assert _offsets(root) == list(range(10))


def test_a_gap_is_closed_by_repair_and_then_the_batch_is_taken(root: str, append: Append, rows: Rows) -> None:
    append(rows(0, 10), root, THINGS, [_span(0, 10)], contiguous=True)
    with pytest.raises(RangeMissing, match=r"test\.things ends at offset 10"):
        storage.overwrite_interval(rows(11, 12), root, THINGS, _span(11, 12), contiguous=True)
    storage.overwrite_interval(rows(8, 12), root, THINGS, _span(8, 12), contiguous=True)
    assert storage.written_ends(root, THINGS) == {"T/0": 12}
    append(rows(12, 20), root, THINGS, [_span(12, 20)], contiguous=True)
    assert _offsets(root) == list(range(20))


def test_it_says_whether_the_table_lacked_rows(root: str, rows: Rows) -> None:
    assert storage.append_once(rows(0, 10), root, THINGS, [_span(0, 10)])
    assert storage.append_once(rows(5, 15), root, THINGS, [_span(5, 15)])
    assert not storage.append_once(rows(0, 15), root, THINGS, [_span(0, 15)])


def test_a_table_of_some_kinds_has_gaps(root: str, append: Append, rows: Rows) -> None:
    append(rows(0, 10, step=3), root, THINGS, [_span(0, 10)])
    append(rows(20, 30, step=3), root, THINGS, [_span(20, 30)])
    assert _offsets(root) == [0, 3, 6, 9, 20, 23, 26, 29]


def test_a_batch_without_rows_is_remembered(root: str, append: Append, rows: Rows) -> None:
    append(rows(0, 0), root, THINGS, [_span(0, 10)])
    assert storage.written_ends(root, THINGS) == {"T/0": 10}


def test_a_topic_that_was_replaced_is_refused(root: str, append: Append, rows: Rows) -> None:
    append(rows(0, 10), root, THINGS, [_span(0, 10)])
    for write in (
        lambda: append(rows(0, 5, topic_id="U"), root, THINGS, [_span(0, 5, topic_id="U")]),
        lambda: storage.overwrite_interval(rows(0, 5, topic_id="U"), root, THINGS, _span(0, 5, topic_id="U")),
    ):
        with pytest.raises(TopicReplaced, match=r"test\.things holds positions of topic id T; the batch is from id U"):
            write()
    assert _offsets(root) == list(range(10))


def test_other_peoples_commits_hide_nothing(spark: SparkSession, root: str, append: Append, rows: Rows) -> None:
    for start in (0, 10):
        append(rows(start, start + 10), root, THINGS, [_span(start, start + 10)])
    spark.sql(f"OPTIMIZE delta.`{THINGS.path(root)}`")
    spark.sql(f"ALTER TABLE delta.`{THINGS.path(root)}` SET TBLPROPERTIES ('note' = 'x')")
    assert storage.written_ends(root, THINGS) == {"T/0": 20}
    append(rows(0, 25), root, THINGS, [_span(0, 25)])
    assert _offsets(root) == list(range(25))


def test_rows_that_a_restore_took_back_are_written_again(
    spark: SparkSession, root: str, append: Append, rows: Rows
) -> None:
    for start in (0, 10, 20):
        append(rows(start, start + 10), root, THINGS, [_span(start, start + 10)])
    spark.sql(f"RESTORE TABLE delta.`{THINGS.path(root)}` TO VERSION AS OF 1")
    assert storage.written_ends(root, THINGS) == {"T/0": 10}
    append(rows(0, 30, value=2), root, THINGS, [_span(0, 30)])
    assert _held(root) == [(0, offset, 1 if offset < 10 else 2) for offset in range(30)]


def test_without_metadata_the_rows_say_what_is_written(root: str, append: Append, rows: Rows) -> None:
    rows(0, 7).write.format("delta").mode("append").save(THINGS.path(root))
    rows(0, 3, partition=1).write.format("delta").mode("append").save(THINGS.path(root))
    assert storage.written_ends(root, THINGS) == {"T/0": 7, "T/1": 3}
    append(rows(0, 10, value=2), root, THINGS, [_span(0, 10)])
    assert _held(root) == [(0, offset, 1 if offset < 7 else 2) for offset in range(10)] + [(1, n, 1) for n in range(3)]


def test_an_interval_that_is_done_again_is_the_same_afterwards(root: str, append: Append, rows: Rows) -> None:
    append(rows(0, 10), root, THINGS, [_span(0, 10)])
    storage.overwrite_interval(rows(0, 10, value=2), root, THINGS, _span(3, 6))
    expected = [(0, offset, 2 if 3 <= offset < 6 else 1) for offset in range(10)]
    assert _held(root) == expected
    storage.overwrite_interval(rows(3, 6, value=2), root, THINGS, _span(3, 6))
    assert _held(root) == expected
    assert storage.written_ends(root, THINGS) == {"T/0": 10}
    storage.overwrite_interval(rows(0, 0), root, THINGS, _span(0, 3))
    assert _held(root) == expected[3:]


Interrupt = Callable[[DataFrame, Callable[[], object]], DataFrame]


@pytest.fixture
def interrupted(tmp_path: Path) -> Interrupt:
    """The same rows, while whose first computation somebody else commits: after a write's look, before its commit."""

    def made(frame: DataFrame, commit: Callable[[], object]) -> DataFrame:
        once = tmp_path / "committed"

        def passed(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
            with suppress(FileExistsError):
                once.touch(exist_ok=False)
                commit()
            yield from batches

        return frame.coalesce(1).mapInArrow(passed, frame.schema)

    return made


def _appending(root: str, start: int, end: int) -> Callable[[], object]:
    """What a continuous job does: an append of a range, with its end in the commit."""
    path, told = THINGS.path(root), {"userMetadata": f'{{"fraudlake_positions":{{"T/0":{end}}}}}'}
    rows = {"topic_id": [TOPIC] * (end - start), "partition": pa.array([0] * (end - start), pa.int32())}
    table = pa.table({**rows, "offset": list(range(start, end)), "value": [7] * (end - start)})
    return lambda: write_deltalake(path, table, mode="append", commit_properties=CommitProperties(told))


def test_a_repair_does_not_set_back_the_end_that_a_job_has_written_meanwhile(
    root: str, rows: Rows, interrupted: Interrupt
) -> None:
    storage.append_once(rows(0, 10), root, THINGS, [_span(0, 10)])
    frame = interrupted(rows(3, 6, value=2), _appending(root, 10, 20))
    storage.overwrite_interval(frame, root, THINGS, _span(3, 6))
    assert storage.written_ends(root, THINGS) == {"T/0": 20}
    storage.append_once(rows(10, 25), root, THINGS, [_span(10, 25)])
    values = {offset: value for _, offset, value in _held(root)}
    assert _offsets(root) == list(range(25))
    assert values == {**dict.fromkeys(range(25), 1), **dict.fromkeys(range(3, 6), 2), **dict.fromkeys(range(10, 20), 7)}


def test_a_repair_tries_again_where_the_rows_were_put_into_another_file(
    root: str, rows: Rows, interrupted: Interrupt
) -> None:
    for start in (0, 5):
        storage.append_once(rows(start, start + 5), root, THINGS, [_span(start, start + 5)])
    path = THINGS.path(root)
    frame = interrupted(rows(3, 6, value=2), lambda: DeltaTable(path).optimize.compact())
    storage.overwrite_interval(frame, root, THINGS, _span(3, 6))
    assert _held(root) == [(0, offset, 2 if 3 <= offset < 6 else 1) for offset in range(10)]
    assert storage.written_ends(root, THINGS) == {"T/0": 10}


def test_a_repair_tries_again_where_rows_were_deleted(root: str, rows: Rows, interrupted: Interrupt) -> None:
    storage.append_once(rows(0, 10), root, THINGS, [_span(0, 10)])
    path = THINGS.path(root)
    frame = interrupted(rows(3, 6, value=2), lambda: DeltaTable(path).delete("offset = 4"))
    storage.overwrite_interval(frame, root, THINGS, _span(3, 6))
    assert _held(root) == [(0, offset, 2 if 3 <= offset < 6 else 1) for offset in range(10)]


@pytest.mark.parametrize("delay_s", [0.0, 0.08, 0.13, 0.18, 0.23, 0.28])
def test_of_two_writers_with_different_batches_nobody_doubles_a_row(
    root: str, append: Append, rows: Rows, delay_s: float
) -> None:
    frames = {(0, 50): rows(0, 50), (0, 80): rows(0, 80)}
    begin = threading.Barrier(2)

    def write(span: tuple[int, int], wait_s: float) -> str:
        begin.wait()
        time.sleep(wait_s)
        try:
            append(frames[span], root, THINGS, [_span(*span)])
        except Exception as error:
            return type(error).__name__
        return "written"

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(write, frames, (0.0, delay_s)))
    assert set(outcomes) <= {"written", "ConcurrentTransactionException"}
    end = storage.written_ends(root, THINGS)["T/0"]
    assert end in (50, 80)
    assert _offsets(root) == list(range(end))


def test_of_two_writers_of_the_same_batch_one_commits(root: str, append: Append, rows: Rows) -> None:
    before = storage.version(root, THINGS)
    frames = [rows(0, 50, value=1), rows(0, 50, value=2)]
    begin = threading.Barrier(2)

    def write(frame: DataFrame) -> str:
        begin.wait()
        try:
            append(frame, root, THINGS, [_span(0, 50)])
        except Exception as error:
            return type(error).__name__
        return "written"

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(write, frames))
    assert "written" in outcomes
    assert set(outcomes) <= {"written", "ConcurrentTransactionException"}
    assert storage.version(root, THINGS) == before + 1
    assert _offsets(root) == list(range(50))
    assert len({value for _, _, value in _held(root)}) == 1


PEOPLE = Table(
    name="test.people",
    meaning="Numbers by name.",
    grain="one name",
    key=("name",),
    columns=(Column("name", "string", "a name"), Column("number", "bigint", "a number", nullable=True)),
    position=None,
)


def test_rows_are_merged_by_key(spark: SparkSession, tmp_path: Path) -> None:
    root = str(tmp_path)
    storage.ensure(root, PEOPLE)

    def merge(*people: tuple[str, int | None]) -> None:
        storage.merge_by_key(spark.createDataFrame(people, "name string, number bigint"), root, PEOPLE)

    def held() -> list[tuple[str, int | None]]:
        return sorted((r["name"], r["number"]) for r in DeltaTable(PEOPLE.path(root)).to_pyarrow_table().to_pylist())

    merge(("a", 1), ("b", None))
    merge(("b", 2), ("c", 3))
    merge(("c", None))
    merge(("c", None))
    assert held() == [("a", 1), ("b", 2), ("c", None)]
    storage.overwrite(spark.createDataFrame([("z", 9)], "name string, number bigint"), root, PEOPLE)
    assert held() == [("z", 9)]


def test_a_frame_that_is_not_what_the_contract_says_is_named(spark: SparkSession, root: str, rows: Rows) -> None:
    frame = rows(0, 1).withColumn("value", F.lit("x")).withColumnRenamed("offset", "offsett")
    wrong = (
        r"test\.things differs from its contract: lacking \['offset'\], unknown \['offsett'\], "
        r"types \['value is string, expected bigint'\]"
    )
    for write in (
        lambda: storage.append_once(frame, root, THINGS, [_span(0, 1)]),
        lambda: storage.overwrite_interval(frame, root, THINGS, _span(0, 1)),
        lambda: storage.merge_by_key(frame, root, THINGS),
        lambda: storage.overwrite(frame, root, THINGS),
    ):
        with pytest.raises(ContractBroken, match=wrong):
            write()
    assert storage.conforming(rows(0, 1).select("value", "offset", "topic_id", "partition"), THINGS).columns == [
        *("topic_id", "partition", "offset", "value")
    ]


def test_what_the_contract_says_is_never_null_is_never_null(root: str, rows: Rows) -> None:
    with pytest.raises(Exception, match="lack value"):
        storage.append_once(rows(0, 5).withColumn("value", F.lit(None).cast("bigint")), root, THINGS, [_span(0, 5)])
    assert storage.written_ends(root, THINGS) == {}


def test_how_far_a_table_reaches_is_told_by_partition(tmp_path: Path) -> None:
    root = str(tmp_path)
    assert delta.spans(root, THINGS) == []
    for partition, start in ((0, 0), (1, 3), (0, 5)):
        place = {"topic_id": TOPIC, "partition": partition, "value": 1}
        delta.append(root, THINGS, [{**place, "offset": offset} for offset in range(start, start + 5)])
    assert delta.spans(root, THINGS) == [Span(TOPIC, 0, 0, 10), Span(TOPIC, 1, 0, 8)]
    assert delta.spans(root, THINGS, pc.field("offset") < 6) == [Span(TOPIC, 0, 0, 6), Span(TOPIC, 1, 0, 6)]
