"""The history driver: the kernel over silver, distributed by shard of every entity, from a snapshot to a position.

Records are prepared once, then every group of entities gets its shards: a task sorts its shard by position, takes it
through the same kernel as the engine and leaves its state in a file. The parts of a payment's vector meet again by
position. A key's features depend on nothing but the key's own records and the engine's clock, which silver carries, so
the number of shards cannot change a number.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from features import snapshot
from features.catalogue import NAMES, feature_set_hash
from features.entities import WHO
from features.flow import Flow
from features.groups import GROUPS, OWN_COLUMNS, Group
from features.inputs import Placed
from features.preparing import FLAT_DDL, TRAVELLING, preparing, unflat
from features.records import LABELLED, PAID
from features.sharding import shard_of, together
from features.state import Matrix, Spec
from features.waiting import WaitingRoom
from lakehouse.contracts.gold import VECTORS
from lakehouse.texts import Ints

Batches = Iterable[pa.RecordBatch]

_PART_DDL = "offset bigint, part int, event_ms bigint, transaction_id string, numbers binary"
_BLOCK = 8192
"""Positions that are assembled by the same task; large enough to sort well, small enough to spread."""


def balanced_labels(spark: SparkSession, shards: int) -> list[int]:
    """One number a shard such that Spark's hash partitioning puts each into a partition of its own, in order."""
    found = (
        spark.range(shards * 64)
        .select(F.col("id").cast("int").alias("label"), F.expr(f"pmod(hash(cast(id as int)), {shards})").alias("to"))
        .groupBy("to")
        .agg(F.min("label").alias("label"))
        .collect()
    )
    label = {row["to"]: row["label"] for row in found}
    return [label[shard] for shard in range(shards)]


def _state_file(folder: Path, group: Group, shard: int) -> Path:
    return folder / f"{group.name}-{shard:04d}{snapshot.SUFFIX}"


def _selected(placed: Placed, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Placed:
    at = np.flatnonzero(mask)
    return Placed(placed.records.take(at), placed.offset[at], placed.clock_ms[at])


def _load(flow: Flow, base: Path, group: Group, shard: int, shards: int) -> None:
    """Give a flow the keys and waiting labels of its shard from a whole snapshot."""
    found = snapshot.read(base, (*flow.states, "waiting"))
    for name, state in flow.states.items():
        saved = snapshot.part(found.arrays, name)
        if shards > 1:
            owner = saved["record"]["key"] if name == group.name else saved["record"]["owner"]
            saved = together([saved], [shard_of(owner, shards) == shard])
        state.load(saved)
    everybody = WaitingRoom.loaded(snapshot.part(found.arrays, "waiting")).labels
    keys = everybody.records.who[:, WHO.index(group.keyed_by)]
    flow.waiting = WaitingRoom(_selected(everybody, (keys != 0) & (shard_of(keys, shards) == shard)))


@dataclass(frozen=True)
class Run:
    """What a run of the history driver is to do: from `base` (or nothing) to just after the record at `last`."""

    spec: Spec
    base: Path | None
    folder: Path
    shards: int
    last_offset: int
    last_clock_ms: int


def running(run: Run, group: Group) -> Callable[[Batches], Batches]:
    """A function for mapInArrow: one shard's records in order -> the group's part of every payment's vector."""

    def ran(batches: Batches) -> Batches:
        flow: Flow | None = None
        for rows in batches:
            if rows.num_rows == 0:
                continue
            if flow is None:
                shard = rows.column(f"shard_{group.name}")[0].as_py()
                flow = begun(run, group, shard)
            yield _part(flow, group, rows)
        if flow is not None:
            _finish(run, group, shard, flow)

    return ran


def begun(run: Run, group: Group, shard: int) -> Flow:
    """The state of one shard of a group before its first record of the run."""
    flow = Flow(run.spec, group.subjects, own=False)
    if run.base is not None:
        _load(flow, run.base, group, shard, group.shards(run.shards))
    return flow


def _finish(run: Run, group: Group, shard: int, flow: Flow) -> None:
    flow.settle(run.last_offset, run.last_clock_ms)
    arrays = {}
    for name, state in flow.states.items():
        arrays.update(snapshot.prefixed(state.saved(), name))
    snapshot.write(_state_file(run.folder, group, shard), {"capped": flow.capped}, arrays)


def _part(flow: Flow, group: Group, rows: pa.RecordBatch) -> pa.RecordBatch:
    placed = unflat(rows)
    labelled = placed.records.what == LABELLED
    vectors = flow.take(_selected(placed, ~labelled), _selected(placed, labelled))
    offset = placed.offset[placed.records.what == PAID]
    nothing = pa.nulls(len(offset), pa.int64()), pa.nulls(len(offset), pa.string())
    return _numbers(1 + GROUPS.index(group), offset, *nothing, vectors[:, group.columns])


def _numbers(part: int, offset: Ints, event_ms: pa.Array, transaction_id: pa.Array, vectors: Matrix) -> pa.RecordBatch:
    n, width = vectors.shape
    bounds = np.arange(n + 1, dtype=np.int32) * (4 * width)
    raw = pa.py_buffer(np.ascontiguousarray(vectors))
    return pa.RecordBatch.from_arrays(
        [
            pa.array(offset),
            pa.array(np.full(n, part, np.int32)),
            event_ms,
            transaction_id,
            pa.Array.from_buffers(pa.binary(), n, [None, pa.py_buffer(bounds), raw]),
        ],
        names=["offset", "part", "event_ms", "transaction_id", "numbers"],
    )


def owning(spec: Spec) -> Callable[[Batches], Batches]:
    """A function for mapInArrow: records -> the first part of every payment's vector, from its own statistics."""

    def owned(batches: Batches) -> Batches:
        flow = Flow(spec, (), own=True)
        for rows in batches:
            placed = unflat(rows)
            paid = np.flatnonzero(placed.records.what == PAID)
            mine = Placed(placed.records.take(paid), placed.offset[paid], placed.clock_ms[paid])
            vectors = flow.take(mine, _selected(placed, np.zeros(len(placed.offset), np.bool_)))
            names = rows.column("transaction_id").take(pa.array(paid))
            yield _numbers(0, mine.offset, pa.array(mine.records.event_ms), names, vectors[:, OWN_COLUMNS])

    return owned


def assembling(topic_id: str, partition: int) -> Callable[[Batches], Batches]:
    """A function for mapInArrow over parts sorted by (offset, part): one row of features.vectors a payment."""

    def assembled(batches: Batches) -> Batches:
        held: pa.RecordBatch | None = None
        for rows in batches:
            if held is not None:
                rows = pa.concat_batches([held, rows])
            # The last payment's parts may go on in the next batch.
            offsets = rows.column("offset").to_numpy()
            cut = int(np.searchsorted(offsets, offsets[-1])) if len(offsets) else 0
            held = rows.slice(cut)
            if cut:
                yield _vectors(rows.slice(0, cut), topic_id, partition)
        if held is not None and held.num_rows:
            yield _vectors(held, topic_id, partition)

    return assembled


def _vectors(rows: pa.RecordBatch, topic_id: str, partition: int) -> pa.RecordBatch:
    offsets, part = rows.column("offset").to_numpy(), rows.column("part").to_numpy()
    first = np.flatnonzero(np.concatenate([[True], offsets[1:] != offsets[:-1]]))
    row = np.cumsum(np.concatenate([[False], offsets[1:] != offsets[:-1]]))
    n = len(first)
    matrix = np.full((n, len(NAMES)), np.nan, np.float32)
    for number, columns in enumerate([OWN_COLUMNS, *(group.columns for group in GROUPS)]):
        at = np.flatnonzero(part == number)
        column = rows.column("numbers").take(pa.array(at))
        values = np.frombuffer(column.buffers()[2], np.float32) if len(at) else np.zeros(0, np.float32)
        matrix[np.ix_(row[at], np.array(columns))] = values.reshape(len(at), len(columns))
    flat = pa.array(matrix.reshape(-1))
    bounds = pa.array(np.arange(n + 1, dtype=np.int32) * len(NAMES))
    micros = rows.column("event_ms").take(pa.array(first)).to_numpy() * 1000
    names = pa.array(np.zeros(n, np.int32))

    def repeated(value: object, kind: pa.DataType) -> pa.Array:
        return pa.DictionaryArray.from_arrays(names, pa.array([value], kind)).cast(kind)

    return pa.RecordBatch.from_arrays(
        [
            repeated(topic_id, pa.string()),
            repeated(partition, pa.int32()),
            pa.array(offsets[first]),
            rows.column("transaction_id").take(pa.array(first)),
            pa.array(micros).cast(pa.timestamp("us", "UTC")),
            repeated(feature_set_hash(), pa.string()),
            pa.ListArray.from_arrays(bounds, flat),
        ],
        names=list(VECTORS.column_names),
    )


def prepared(rows: dict[str, DataFrame], shards: int) -> DataFrame:
    """Silver rows by kind as flat records."""
    return reduce(
        DataFrame.unionAll, [frame.mapInArrow(preparing(kind, shards), FLAT_DDL) for kind, frame in rows.items()]
    )


def vectors(run: Run, records: DataFrame, topic_id: str, partition: int) -> DataFrame:
    """features.vectors of flat records; the states of all shards lie in the run's folder once this was computed."""
    spark = records.sparkSession
    labels = F.array(*[F.lit(label) for label in balanced_labels(spark, run.shards)])
    parts = [records.where(F.col("what") == PAID).mapInArrow(owning(run.spec), _PART_DDL)]
    for group in GROUPS:
        shard, shards = f"shard_{group.name}", group.shards(run.shards)
        mine = records.where(F.col(shard).isNotNull()).select(*TRAVELLING, shard)
        mine = mine.withColumn("label", labels[F.col(shard)])
        ordered = mine.repartition(shards, "label").drop("label").sortWithinPartitions("offset")
        parts.append(ordered.mapInArrow(running(run, group), _PART_DDL))
    everything = reduce(DataFrame.unionAll, parts)
    block = F.floor(F.col("offset") / _BLOCK)
    together = everything.repartition(run.shards, block).sortWithinPartitions("offset", "part")
    return together.mapInArrow(assembling(topic_id, partition), VECTORS.ddl.replace(" NOT NULL", ""))


def merged(run: Run) -> dict[str, npt.NDArray[Any]]:
    """The states of all shards as the arrays of one snapshot."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for group in GROUPS:
        shards = group.shards(run.shards)
        for shard in range(shards):
            # A shard without a record in this run had no task: its state is the one it began with.
            if not _state_file(run.folder, group, shard).exists():
                _finish(run, group, shard, begun(run, group, shard))
        found = [snapshot.read(_state_file(run.folder, group, shard)) for shard in range(shards)]
        for subject in group.subjects:
            parts = [snapshot.part(one.arrays, subject.name) for one in found]
            saved = parts[0] if shards == 1 else together(parts)
            arrays.update(snapshot.prefixed(saved, subject.name))
    return arrays
