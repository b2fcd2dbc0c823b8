"""The verbs that touch Delta: ensure, read, append_once, overwrite_interval, merge_by_key, overwrite.

`append_once` makes a hop exactly-once by source position. The ranges that a table already holds are written into the
metadata of the commit that added them; a batch that is offered again is skipped or cut to what is new, however the
stream's own bookkeeping was lost. Never by batch id: with a lost checkpoint that recipe loses rows silently.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import orjson
from delta import exceptions as conflicts
from delta.tables import DeltaTable
from deltalake import CommitProperties, Transaction
from deltalake import DeltaTable as DeltaReader
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from lakehouse import lineage
from lakehouse.crash import crash_point
from lakehouse.delta import ends_of_rows, exists, followed, opened, within
from lakehouse.delta import ensure as ensure
from lakehouse.errors import ContractBroken, RangeMissing, TopicReplaced
from lakehouse.files import arrow_schema, is_local
from lakehouse.made import Rows, as_frame
from lakehouse.made import written as written_files
from lakehouse.purged import refuse_before
from lakehouse.spans import Span as Span
from lakehouse.tables import Table

METADATA = "fraudlake_positions"
SOURCES = "fraudlake_sources"
ATTEMPTS = 3
"""Of a write that another commit came before; maintenance commits once or twice a table and day."""
_SCAN = 64
"""Commits looked at in one step when searching back for the last one of ours (OPTIMIZE and others leave none)."""


def _schema(table: Table) -> StructType:
    schema = StructType.fromDDL(table.ddl)
    assert isinstance(schema, StructType)
    return schema


def read(spark: SparkSession, root: str, table: Table, version: int | None = None) -> DataFrame:
    """The table, now or at a Delta version; an empty frame of its schema when it has not been made (version -1).

    RangeMissing where records were purged since that version.
    """
    if version == -1 or not exists(root, table):
        return spark.createDataFrame(arrow_schema(table).empty_table())
    held = opened(root, table)
    if version is not None:
        refuse_before(held, table, version)
    lineage.read(table.name, held.version() if version is None else version)
    reader = spark.read.format("delta")
    return (reader if version is None else reader.option("versionAsOf", version)).load(table.path(root))


def read_span(
    spark: SparkSession, root: str, table: Table, span: Span, position: Sequence[str] | None = None
) -> DataFrame:
    """The table's rows of a span, by the columns that hold a row's place, or by others."""
    place = table.position if position is None else position
    assert place is not None
    return read(spark, root, table).where(_here(place, span))


def written_ends(root: str, table: Table) -> dict[str, int]:
    """Exclusive end of what the table holds, by `topic_id/partition`; from the commits, without reading data."""
    return _ends(opened(root, table), table) if exists(root, table) else {}


def _ends(reader: DeltaReader, table: Table) -> dict[str, int]:
    looked_at = _SCAN
    while True:
        history = reader.history(looked_at)
        for commit in history:
            if commit["operation"] == "RESTORE":
                # The commits before it tell of rows that are gone.
                return _ends_of_rows(reader, table)
            metadata = commit.get("userMetadata")
            if metadata and METADATA in metadata:
                ends: dict[str, int] = orjson.loads(metadata)[METADATA]
                return ends
        if len(history) < looked_at:
            return _ends_of_rows(reader, table)
        looked_at *= 8


def _ends_of_rows(reader: DeltaReader, table: Table) -> dict[str, int]:
    """The same from the rows themselves, where no commit tells (log cleaned up)."""
    if table.position is None or reader.version() == 0:
        return {}
    return ends_of_rows(reader, table.position)


def conforming(frame: DataFrame, table: Table) -> DataFrame:
    """The frame with the contract's columns in its order; ContractBroken where a column lacks or has another type."""
    wanted = _schema(table)
    have = {field.name: field.dataType for field in frame.schema.fields}
    lacking = [f.name for f in wanted if f.name not in have]
    extra = sorted(set(have) - set(wanted.names))
    wrong = [
        f"{f.name} is {have[f.name].simpleString()}, expected {f.dataType.simpleString()}"
        for f in wanted
        if f.name in have and have[f.name].simpleString() != f.dataType.simpleString()
    ]
    if lacking or extra or wrong:
        raise ContractBroken(
            f"A frame for {table.name} differs from its contract: lacking {lacking}, unknown {extra}, types {wrong}."
        )
    return frame.select(*wanted.names)


def append_once(rows: Rows, root: str, table: Table, spans: Sequence[Span], contiguous: bool = False) -> bool:
    """Append the rows of `spans` that the table does not hold yet, one commit per partition; whether it lacked any.

    `contiguous` tables hold every offset, so a gap is an error; others hold only some kinds of records. Where no row
    lacked, a frame was not computed.
    """
    lacked = False
    written = _files_of(conforming(rows, table) if isinstance(rows, DataFrame) else rows, root)
    for span in spans:
        before: dict[str, int] | None = None
        while True:
            reader = opened(root, table)
            ends = _ends(reader, table)
            _refuse_other_topic(ends, span, table)
            done = ends.get(span.key)
            if done is not None and span.end <= done:
                break
            if ends == before:
                raise ContractBroken(f"{table.name} took a write of {span} but its commits do not show it.")
            if contiguous:
                _refuse_gap(done, span, table)
            rest = Span(span.topic_id, span.partition, max(span.start, done or 0), span.end)
            lacked = True
            if written(reader, table, rest, orjson.dumps({METADATA: {**ends, span.key: span.end}}).decode()):
                crash_point("after-delta-commit")
                lineage.took(table.name, span.key, rest.end - rest.start)
                _wrote(root, table)
                before = ends
    return lacked


_Write = Callable[[DeltaReader, Table, Span, str], bool]
"""Commits a span's rows with some metadata; what the reader shows is what was decided on. Whether it went through."""


def _files_of(made: Rows, root: str) -> _Write:
    files: dict[Span, list[AddAction | RemoveAction]] = {}

    def written(reader: DeltaReader, table: Table, span: Span, metadata: str) -> bool:
        if span not in files:
            assert table.position is not None
            files[span] = list(written_files(made, root, table, within(span, table.position)))
        # It counts our commits, and two that were decided on the same ends are refused by Delta itself.
        application = f"{table.name}|{span.key}"
        version = (reader.transaction_version(application) or 0) + 1
        # No second attempt on what was decided: whoever else has committed meanwhile, the ends are looked at again.
        rows = sum(orjson.loads(file.stats)["numRecords"] for file in files[span] if isinstance(file, AddAction))
        said = {"userMetadata": metadata, "operationMetrics": {"numOutputRows": str(rows)}}
        properties = CommitProperties(said, 0, [Transaction(application, version)])
        try:
            reader.create_write_transaction(files[span], "append", reader.schema(), commit_properties=properties)
        except CommitFailedError:
            if DeltaReader(table.path(root)).version() == reader.version():
                raise
            return False
        return True

    return written


def _here(place: Sequence[str], span: Span) -> Column:
    topic_id, partition, offset = (F.col(name) for name in place)
    return (topic_id == span.topic_id) & (partition == span.partition) & (offset >= span.start) & (offset < span.end)


def _refuse_gap(done: int | None, span: Span, table: Table) -> None:
    if done is not None and span.start > done:
        raise RangeMissing(
            f"{table.name} ends at offset {done} of partition {span.partition}, the batch begins at {span.start}.",
            f"Do the missing range first: --from-position {done} --to-position {span.start}",
        )


def _refuse_other_topic(ends: dict[str, int], span: Span, table: Table) -> None:
    others = {key for key in ends if key.endswith(f"/{span.partition}")} - {span.key}
    if others:
        raise TopicReplaced(
            f"{table.name} holds positions of topic id {sorted(others)[0].rsplit('/', 1)[0]}; the batch is from id "
            f"{span.topic_id}: the topic was replaced, so its offsets mean other records.",
            "Start a new lake root for the new topic, or restore the broker's data.",
        )


def overwrite_interval(rows: Rows, root: str, table: Table, span: Span, contiguous: bool = False) -> None:
    """Replace the rows of a span by these, in one commit: the repair form of append_once.

    A table may be continued this way: a span that begins at or before its end moves the end.
    """
    _patiently(lambda: _overwritten(rows, root, table, span, contiguous))
    lineage.took(table.name, span.key, span.end - span.start)
    _wrote(root, table)


def _overwritten(rows: Rows, root: str, table: Table, span: Span, contiguous: bool) -> None:
    """One attempt: all that it decides on is read anew, and no end that was written meanwhile is set back."""
    assert table.position is not None
    topic_column, partition_column, offset_column = table.position
    reader = opened(root, table)
    ends = _ends(reader, table)
    _refuse_other_topic(ends, span, table)
    done = ends.get(span.key)
    if contiguous:
        _refuse_gap(done, span, table)
    if contiguous or span.start <= (done or 0):
        ends[span.key] = max(span.end, done or 0)
    condition = (
        f"{topic_column} = '{span.topic_id}' AND {partition_column} = {span.partition} "
        f"AND `{offset_column}` >= {span.start} AND `{offset_column}` < {span.end}"
    )
    (
        conforming(as_frame(rows), table)
        .where(_here(table.position, span))
        .write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", condition)
        .option("userMetadata", orjson.dumps({METADATA: ends}).decode())
        .save(table.path(root))
    )
    _keep_ends(root, table, reader.version())


def _keep_ends(root: str, table: Table, since: int) -> None:
    """Note ends again that commits after a version have told and the last one no longer tells."""
    while True:
        reader = opened(root, table)
        told: dict[str, int] = {}
        for commit in reader.history(reader.version() - since) if reader.version() > since else []:
            if commit["operation"] == "RESTORE":
                break
            metadata = commit.get("userMetadata")
            if metadata and METADATA in metadata:
                for key, end in orjson.loads(metadata)[METADATA].items():
                    told[key] = max(end, told.get(key, 0))
        held = _ends(reader, table)
        higher = {key: end for key, end in told.items() if end > held.get(key, 0)}
        if not higher or _noted(reader, table, {METADATA: {**held, **higher}}):
            return


def cut_back(spark: SparkSession, root: str, table: Table, span: Span) -> None:
    """Take out the rows of a partition from the start of `span` on, in one commit: the table ends there afterwards."""
    assert table.position is not None
    topic_column, partition_column, offset_column = table.position
    ends = {**written_ends(root, table), span.key: span.start}
    condition = (
        f"{topic_column} = '{span.topic_id}' AND {partition_column} = {span.partition} "
        f"AND `{offset_column}` >= {span.start}"
    )
    (
        spark.createDataFrame(arrow_schema(table).empty_table())
        .write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", condition)
        .option("userMetadata", orjson.dumps({METADATA: ends}).decode())
        .save(table.path(root))
    )
    _wrote(root, table)
    if written_ends(root, table).get(span.key) != span.start:
        # Where no row was left to take out, Delta makes no commit, and the table would still end where it did.
        note_ends(root, table, {span.key: span.start})


def note_ends(root: str, table: Table, ends: Mapping[str, int], **more: object) -> None:
    """Write ends into a commit of their own, without rows; nothing where another writer came first."""
    reader = opened(root, table)
    _noted(reader, table, {METADATA: {**_ends(reader, table), **ends}, **more})
    followed(root, table)


def _noted(reader: DeltaReader, table: Table, told: Mapping[str, object]) -> bool:
    """Commit metadata alone, behind the version that it was decided on; False where another writer came first."""
    properties = CommitProperties({"userMetadata": orjson.dumps(told).decode()}, 0)
    try:
        reader.create_write_transaction([], "append", reader.schema(), commit_properties=properties)
    except CommitFailedError:
        return False
    return True


def write_off(root: str, table: Table, span: Span) -> None:
    """Say in a commit that a table will never hold the rows of a span, so that it can go on behind it."""
    note_ends(root, table, {span.key: span.end}, fraudlake_lost=[span.key, span.start, span.end])


def merge_by_key(frame: DataFrame, root: str, table: Table) -> None:
    """Rows by key: known keys are replaced where a value differs, new ones are added."""
    same = " AND ".join(f"old.`{name}` = new.`{name}`" for name in table.key)
    others = [name for name in table.column_names if name not in table.key]
    differs = " OR ".join(f"NOT (old.`{name}` <=> new.`{name}`)" for name in others)

    def merged() -> None:
        opened(root, table)
        target = DeltaTable.forPath(frame.sparkSession, table.path(root)).alias("old")
        merge = target.merge(conforming(frame, table).alias("new"), same)
        merge.whenMatchedUpdateAll(condition=differs).whenNotMatchedInsertAll().execute()

    _patiently(merged)
    _wrote(root, table)


def overwrite(frame: DataFrame, root: str, table: Table, sources: Mapping[str, object] | None = None) -> None:
    """The whole table anew, in one commit, which records the `sources` it was made from."""
    writer = conforming(frame, table).write.format("delta").mode("overwrite")
    if sources is not None:
        writer = writer.option("userMetadata", orjson.dumps({SOURCES: sources}).decode())

    def overwritten() -> None:
        if exists(root, table):
            opened(root, table)
        writer.save(table.path(root))

    _patiently(overwritten)
    _wrote(root, table)


_FASTER = (
    conflicts.ConcurrentAppendException,
    conflicts.ConcurrentDeleteDeleteException,
    conflicts.ConcurrentDeleteReadException,
    conflicts.ConcurrentWriteException,
    conflicts.DeltaConcurrentModificationException,
    conflicts.MetadataChangedException,
)
"""Delta's errors where another commit came first; in Python none of them derives from another."""


def _patiently(write: Callable[[], object]) -> None:
    """A write that replaces what it finds, once more where another commit came in between."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            write()
            return
        except _FASTER:
            if attempt == ATTEMPTS:
                raise


_ROWS = ("numOutputRows", "numTargetRowsInserted", "numTargetRowsUpdated")
"""What commits call the rows they wrote: an append or overwrite the first, a merge the others."""


def _wrote(root: str, table: Table) -> None:
    """Move the table's record on to the commit just made, and note it for the record of this run."""
    followed(root, table)
    if lineage.of_this_run() is None:
        return
    commit = DeltaReader(table.path(root)).history(1)[0]
    metrics = commit.get("operationMetrics") or {}
    names = _ROWS[1:] if commit["operation"] == "MERGE" else _ROWS[:1]
    lineage.wrote(table.name, commit["version"], sum(int(metrics.get(name, 0)) for name in names))


def version(root: str, table: Table) -> int:
    """The table's Delta version; -1 when it has not been made."""
    return opened(root, table).version() if exists(root, table) else -1


def make_root(root: str) -> None:
    """The folder of a local lake root."""
    if is_local(root):
        Path(root.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
