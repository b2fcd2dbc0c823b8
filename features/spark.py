"""The history driver: the kernel over silver, distributed by shard of every entity, from a snapshot to a position.

Records are prepared once and packed by target, then every group of entities gets its shards: a task sorts its shard by
position, takes it through the same kernel as the engine and leaves its state in a file. The parts of a payment's vector
meet again by position. A key's features depend on nothing but the key's own records and the engine's clock, which
silver carries, so the number of shards cannot change a number.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame

from features import snapshot
from features.catalogue import NAMES, feature_set_hash
from features.entities import WHO
from features.flat import KINDS, of_bytes, unflat
from features.flow import Flow
from features.groups import GROUPS, OWN_COLUMNS, Group
from features.preparing import (
    BLOCK,
    PACKED_DDL,
    Batches,
    preparing,
    selected,
    stream_of,
    targets,
)
from features.records import AUTHORISED, LABELLED, PAID
from features.renaming import Renaming
from features.sharding import shard_of, together
from features.state import Matrix, Spec
from features.waiting import WaitingRoom, joined
from lakehouse.contracts.gold import VECTORS
from lakehouse.made import Made
from lakehouse.scanned import Scanned
from lakehouse.texts import Ints

PART_DDL = "block bigint, part int, offsets binary, numbers binary, names binary"
"""Numbers of some payments of a block: `part` 0 from their own record, with names; k from group k - 1, with offsets."""


def _state_file(folder: Path, group: Group, shard: int) -> Path:
    return folder / f"{group.name}-{shard:04d}{snapshot.SUFFIX}"


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
    flow.waiting = WaitingRoom(selected(everybody, np.flatnonzero((keys != 0) & (shard_of(keys, shards) == shard))))


@dataclass(frozen=True)
class Run:
    """What a run of the history driver is to do: from `base` (or nothing) to just after the record at `last`."""

    spec: Spec
    base: Path | None
    folder: Path
    shards: int
    last_offset: int
    last_clock_ms: int
    renaming: Renaming = field(default_factory=Renaming)
    """How people and things of older rows are called now."""


def running(run: Run) -> Callable[[Batches], Batches]:
    """A function for mapInArrow over the rows of one target: its part of every payment's vector, block by block."""

    def ran(batches: Batches) -> Batches:
        held: dict[int, list[bytes]] = {}
        target = 0
        for row in (row for batch in batches for row in batch.to_pylist()):
            if row["names"] is not None:
                yield from _own_parts(row["records"], row["names"])
            else:
                held.setdefault(row["what"], []).append(row["records"])
                target = row["target"]
        if held:
            group, shard = targets(run.shards)[target]
            yield from _group_parts(run, GROUPS[group], shard, held)

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
    snapshot.write(_state_file(run.folder, group, shard), {}, arrays)


def _group_parts(run: Run, group: Group, shard: int, held: Mapping[int, list[bytes]]) -> Batches:
    flow = begun(run, group, shard)
    rows = {what: of_bytes(b"".join(held.get(what, [])), group, what) for what in KINDS}
    rows = {what: some[np.argsort(some["offset"], kind="stable")] for what, some in rows.items()}
    for block in np.unique(np.concatenate([some["offset"] // BLOCK for some in rows.values()])).tolist():
        here = {what: unflat(_of_block(some, block), group, what) for what, some in rows.items()}
        vectors = flow.take(joined([here[PAID], here[AUTHORISED]]), here[LABELLED])
        if len(vectors):
            offset = here[PAID].offset
            yield _row(block, 1 + GROUPS.index(group), offset.tobytes(), vectors[:, group.columns], None)
    _finish(run, group, shard, flow)


def _of_block(rows: npt.NDArray[np.void], block: int) -> npt.NDArray[np.void]:
    first, end = np.searchsorted(rows["offset"], [block * BLOCK, (block + 1) * BLOCK])
    return rows[first:end]


def _own_parts(records: bytes, names: bytes) -> Batches:
    with pa.ipc.open_stream(names) as stream:
        (rows,) = stream
    numbers = np.frombuffer(records, np.float32).reshape(-1, len(OWN_COLUMNS))
    offset = rows.column("offset").to_numpy()
    order = np.argsort(offset, kind="stable")
    for block, some in _blocks(offset[order]):
        mine = order[some]
        yield _row(block, 0, None, numbers[mine], stream_of(rows.take(pa.array(mine))))


def _blocks(offset: Ints) -> Iterator[tuple[int, slice]]:
    """(block, its place) in ascending offsets."""
    block = offset // BLOCK
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(offset)], strict=True):
        yield int(block[start]), slice(start, end)


def _row(block: int, part: int, offsets: bytes | None, numbers: Matrix, names: bytes | None) -> pa.RecordBatch:
    held = np.ascontiguousarray(numbers).tobytes()
    columns = [
        *(pa.array([block], pa.int64()), pa.array([part], pa.int32())),
        *(pa.array([value], pa.binary()) for value in (offsets, held, names)),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["block", "part", "offsets", "numbers", "names"])


def assembling(topic_id: str, partition: int) -> Callable[[Batches], Batches]:
    """A function for mapInArrow over parts sorted by block: one row of features.vectors a payment."""

    def assembled(batches: Batches) -> Batches:
        rows = (row for batch in batches for row in batch.to_pylist())
        for _, parts in itertools.groupby(rows, key=lambda row: row["block"]):
            yield _vectors(list(parts), topic_id, partition)

    return assembled


def _vectors(parts: list[dict[str, Any]], topic_id: str, partition: int) -> pa.RecordBatch:
    own = [part for part in parts if part["part"] == 0]
    named = pa.Table.from_batches([batch for part in own for batch in pa.ipc.open_stream(part["names"])])
    offset = named.column("offset").to_numpy()
    order = np.argsort(offset, kind="stable")
    offset, named, n = offset[order], named.take(pa.array(order)).combine_chunks(), len(order)
    matrix = np.full((n, len(NAMES)), np.nan, np.float32)
    numbers = b"".join(part["numbers"] for part in own)
    matrix[:, OWN_COLUMNS] = np.frombuffer(numbers, np.float32).reshape(n, len(OWN_COLUMNS))[order]
    for part in parts:
        if part["part"] > 0:
            columns = np.array(GROUPS[part["part"] - 1].columns)
            at = np.searchsorted(offset, np.frombuffer(part["offsets"], np.int64))
            values = np.frombuffer(part["numbers"], np.float32).reshape(len(at), len(columns))
            matrix[at[:, None], columns] = values
    bounds = pa.array(np.arange(n + 1, dtype=np.int32) * len(NAMES))
    micros = named.column("event_ms").to_numpy() * 1000
    nothing = pa.array(np.zeros(n, np.int32))

    def repeated(value: object, kind: pa.DataType) -> pa.Array:
        return pa.DictionaryArray.from_arrays(nothing, pa.array([value], kind)).cast(kind)

    return pa.RecordBatch.from_arrays(
        [
            repeated(topic_id, pa.string()),
            repeated(partition, pa.int32()),
            pa.array(offset),
            named.column("transaction_id").combine_chunks(),
            pa.array(micros).cast(pa.timestamp("us", "UTC")),
            repeated(feature_set_hash(), pa.string()),
            pa.ListArray.from_arrays(bounds, pa.array(matrix.reshape(-1))),
        ],
        names=list(VECTORS.column_names),
    )


def vectors(run: Run, rows: Mapping[str, Scanned], topic_id: str, partition: int) -> Made:
    """features.vectors of silver rows by kind; then the states of all shards lie in the run's folder."""
    packed = [
        found.mapped(preparing(kind, run.spec, run.shards, run.renaming), PACKED_DDL) for kind, found in rows.items()
    ]
    number = len(targets(run.shards)) + run.shards
    parts = reduce(DataFrame.unionAll, packed).repartitionById(number, "target").mapInArrow(running(run), PART_DDL)
    blocks = parts.repartition(run.shards, "block").sortWithinPartitions("block")
    return Made(blocks, assembling(topic_id, partition), VECTORS)


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
