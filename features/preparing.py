"""Silver rows -> the kernel's records, packed by the shards that they concern: many records a row of Spark's.

Spark moves rows one by one, field by field, between the JVM, the workers and the shuffle; a record costs more on that
way than in the kernel. So a row holds the records of a whole batch for one target: one group's shard, or the payments'
own part of the vector.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.entities import WHO
from features.flat import KINDS, flat
from features.flow import Flow
from features.groups import GROUPS, OWN_COLUMNS
from features.inputs import PUBLIC, Admitted, Placed, Whom, authorisations, labels, payments, token_keys
from features.own import NEEDED
from features.records import PAID
from features.renaming import Names, Renaming
from features.sharding import shard_of
from features.state import Spec
from lakehouse.codec import Batch, Column
from lakehouse.texts import Flags, Ints, Texts

Batches = Iterable[pa.RecordBatch]

PACKED_DDL = "target int, what int, records binary, names binary"
"""`what` is the kind of the records; of payments' own part there are names too."""
BLOCK = 8192
"""Positions that are assembled together; large enough to sort well, small enough to spread."""

COLUMNS = {
    *(*NEEDED, *PUBLIC.values(), *(f"{name}_token" for name in Whom._fields)),
    *("offset", "engine_clock", "transaction_id", "amount_base_minor", "category_risk", "country_risk"),
    *("billing_address_token", "shipping_address_token", "result"),
    *("is_fraud", "source", "label_available_at", "label_id", "reverses"),
}
"""What is read of silver; of a kind, as many of them as it has."""


def targets(shards: int) -> list[tuple[int, int]]:
    """(group, shard) of every target; behind them come as many for the payments' own part."""
    return [(number, shard) for number, group in enumerate(GROUPS) for shard in range(group.shards(shards))]


def batch_of(rows: pa.RecordBatch) -> Batch:
    """An Arrow batch as the columns that the codec would have given; times in milliseconds, dates in days."""
    columns: dict[str, Column] = {}
    valid: dict[str, Flags] = {}
    for name, array in zip(rows.schema.names, rows.columns, strict=True):
        if array.null_count:
            valid[name] = array.is_valid().to_numpy(zero_copy_only=False)
        if pa.types.is_string(array.type) or pa.types.is_binary(array.type):
            columns[name] = Texts.from_arrow(array)
        elif pa.types.is_timestamp(array.type):
            columns[name] = array.cast(pa.int64()).fill_null(0).to_numpy() // 1000
        elif pa.types.is_date(array.type):
            columns[name] = array.cast(pa.int32()).fill_null(0).to_numpy()
        elif pa.types.is_boolean(array.type):
            columns[name] = array.fill_null(False).to_numpy(zero_copy_only=False)
        else:
            columns[name] = array.fill_null(0).to_numpy()
    return Batch(rows.num_rows, columns, valid)


def _whom(batch: Batch, names: Names) -> Whom:
    offset = batch.numbers("offset")

    def keys(name: str) -> Ints:
        column = f"{name}_token"
        if column not in batch.columns:  # only payments carry an e-mail
            return np.zeros(batch.rows, np.int64)
        return names.renamed(name, token_keys(batch.texts(column), batch.has(column)), offset)

    return Whom(*(keys(name) for name in Whom._fields))


def placed_of(kind: str, rows: pa.RecordBatch, names: Names) -> Placed:
    """Silver rows of a kind (payment, authorisation or label) as records, with everybody's names."""
    batch = batch_of(rows)
    whom, offset, clock = _whom(batch, names), batch.numbers("offset"), batch.numbers("engine_clock")
    if kind == "authorisation":
        return authorisations(batch, whom, offset, clock)
    amount = batch.numbers("amount_base_minor")
    if kind == "label":
        return labels(batch, whom, amount, offset, clock)
    risks = [np.where(batch.has(n), batch.numbers(n), np.nan) for n in ("category_risk", "country_risk")]
    both = batch.has("billing_address_token") & batch.has("shipping_address_token")
    billing, shipping = (token_keys(batch.texts(f"{n}_address_token"), both) for n in ("billing", "shipping"))
    differ = np.where(both, (billing != shipping).astype(np.float64), np.nan)
    return payments(batch, whom, Admitted(offset, clock, amount, *risks), differ)


def preparing(kind: str, spec: Spec, shards: int, renaming: Renaming) -> Callable[[Batches], Batches]:
    """A function for mapInArrow over silver rows of a kind: records packed by target."""

    def prepared(batches: Batches) -> Batches:
        own, names = Flow(spec, (), own=True), renaming.opened()
        for rows in batches:
            if rows.num_rows:
                yield from packed(placed_of(kind, rows, names), rows.column("transaction_id"), own, shards)

    return prepared


def packed(placed: Placed, transaction_id: pa.Array, own: Flow, shards: int) -> Batches:
    """Records by target and kind, and of payments their own part of the vector with their names."""
    found: list[tuple[int, int, bytes, bytes | None]] = []
    for what in KINDS:
        at = np.flatnonzero(placed.records.what == what)
        if len(at):
            those = placed if len(at) == len(placed.offset) else selected(placed, at)
            found += ((target, what, rows, None) for target, rows in _by_target(those, what, shards))
            if what == PAID:
                vectors = own.take(those, selected(those, at[:0]))
                target = len(targets(shards)) + int(those.offset[0] // BLOCK) % shards
                rows = np.ascontiguousarray(vectors[:, OWN_COLUMNS]).tobytes()
                found.append((target, what, rows, _names(those, transaction_id.take(pa.array(at)))))
    kinds = (pa.int32(), pa.int32(), pa.binary(), pa.binary())
    columns = [pa.array(values, kind) for values, kind in zip(zip(*found, strict=True), kinds, strict=True)]
    yield pa.RecordBatch.from_arrays(columns, names=["target", "what", "records", "names"])


def _by_target(placed: Placed, what: int, shards: int) -> Iterator[tuple[int, bytes]]:
    target = 0
    for group in GROUPS:
        count = group.shards(shards)
        concerned = np.flatnonzero(group.concerns(placed.records))
        rows = flat(placed, group, what)
        shard = shard_of(placed.records.who[concerned, WHO.index(group.keyed_by)], count)
        order = np.argsort(shard, kind="stable")
        mine, ends = rows[concerned[order]], np.cumsum(np.bincount(shard, minlength=count))
        for number, some in enumerate(np.split(mine, ends[:-1])):
            if len(some):
                yield target + number, some.tobytes()
        target += count


def _names(placed: Placed, transaction_id: pa.Array) -> bytes:
    """Offset, time and id of payments."""
    columns = [pa.array(placed.offset), pa.array(placed.records.event_ms), transaction_id]
    return stream_of(pa.RecordBatch.from_arrays(columns, names=["offset", "event_ms", "transaction_id"]))


def stream_of(rows: pa.RecordBatch) -> bytes:
    """A batch as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_batch(rows)
    return bytes(sink.getvalue())


def selected(placed: Placed, at: npt.NDArray[np.integer]) -> Placed:
    """The records at some places."""
    return Placed(placed.records.take(at), placed.offset[at], placed.clock_ms[at])
