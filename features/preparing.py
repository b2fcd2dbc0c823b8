"""Silver rows -> the kernel's records as flat Arrow columns, in batches on the workers."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from features.entities import WHO
from features.groups import CARRIED, GROUPS
from features.inputs import Admitted, Doubles, Placed, Whom, authorisations, labels, payments, token_keys
from features.records import Records, empty
from features.sharding import shard_of
from features.statistics import PAYMENT
from lakehouse.codec import Batch, Column
from lakehouse.texts import Flags, Ints, Texts

Batches = Iterable[pa.RecordBatch]

FLAT = (
    *(("offset", "bigint"), ("clock_ms", "bigint"), ("what", "tinyint"), ("event_ms", "bigint"), ("amount", "bigint")),
    *(
        ("place", "binary"),
        ("flags", "smallint"),
        ("label_id", "bigint"),
        ("reverses", "bigint"),
    ),
    *((f"who_{name}", "bigint") for name in WHO),
    ("carried", "binary"),
    ("payment", "binary"),
    ("transaction_id", "string"),
    *((f"shard_{group.name}", "int") for group in GROUPS),
)
"""A record without its row: `place` holds 3 float64, `payment` len(PAYMENT), `carried` those that groups look at;
shards are null where the group has no key."""
TRAVELLING = tuple(
    name for name, _ in FLAT if name not in ("payment", "transaction_id") and not name.startswith("shard_")
)
"""What a group's shards need of a record."""
FLAT_DDL = ", ".join(f"`{name}` {kind}" for name, kind in FLAT)


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


def _whom(batch: Batch) -> Whom:
    def keys(name: str) -> Ints:
        if name not in batch.columns:  # only payments carry an e-mail
            return np.zeros(batch.rows, np.int64)
        return token_keys(batch.texts(name), batch.has(name))

    return Whom(*(keys(f"{name}_token") for name in Whom._fields))


def _placed(kind: str, batch: Batch) -> Placed:
    whom, offset, clock = _whom(batch), batch.numbers("offset"), batch.numbers("engine_clock")
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


def preparing(kind: str, shards: int) -> Callable[[Batches], Batches]:
    """A function for mapInArrow over silver rows of a kind (payment, authorisation or label)."""

    def prepared(batches: Batches) -> Batches:
        for rows in batches:
            batch = batch_of(rows)
            yield flat(_placed(kind, batch), rows.column("transaction_id"), shards)

    return prepared


def _rows_as_bytes(matrix: Doubles) -> pa.Array:
    raw = np.ascontiguousarray(matrix)
    offsets = np.arange(len(raw) + 1, dtype=np.int32) * (raw.shape[1] * 8)
    return pa.Array.from_buffers(pa.binary(), len(raw), [None, pa.py_buffer(offsets), pa.py_buffer(raw)])


def _bytes_as_rows(column: pa.Array, width: int) -> Doubles:
    data = np.frombuffer(column.buffers()[2], np.float64) if len(column) else np.zeros(0)
    begin = column.offset * width
    return data[begin : begin + len(column) * width].reshape(-1, width)


def flat(placed: Placed, transaction_id: pa.Array, shards: int) -> pa.RecordBatch:
    """Records as one Arrow batch, in the order of FLAT."""
    records = placed.records
    shard = []
    for group in GROUPS:
        keys = records.who[:, WHO.index(group.keyed_by)]
        shard.append(pa.array(shard_of(keys, group.shards(shards)).astype(np.int32), mask=keys == 0))
    return pa.RecordBatch.from_arrays(
        [
            *(pa.array(column) for column in (placed.offset, placed.clock_ms, records.what, records.event_ms)),
            pa.array(records.amount),
            _rows_as_bytes(records.place),
            pa.array(records.flags.astype(np.int16)),
            *(pa.array(column) for column in (records.label_id, records.reverses)),
            *(pa.array(np.ascontiguousarray(records.who[:, i])) for i in range(len(WHO))),
            _rows_as_bytes(records.payment[:, CARRIED]),
            _rows_as_bytes(records.payment),
            transaction_id,
            *shard,
        ],
        names=[name for name, _ in FLAT],
    )


def unflat(rows: pa.RecordBatch) -> Placed:
    """The records of an Arrow batch made by `flat`; where `payment` stayed behind, with what was carried of it."""
    n = rows.num_rows

    def numbers(name: str) -> Any:
        return rows.column(name).to_numpy()

    if "payment" in rows.schema.names:
        payment = _bytes_as_rows(rows.column("payment"), len(PAYMENT))
    else:
        payment = np.full((n, len(PAYMENT)), np.nan)
        payment[:, CARRIED] = _bytes_as_rows(rows.column("carried"), len(CARRIED))
    records = empty(0)._replace(
        what=numbers("what").astype(np.int8),
        event_ms=numbers("event_ms"),
        amount=numbers("amount"),
        place=_bytes_as_rows(rows.column("place"), 3),
        who=np.column_stack([numbers(f"who_{name}") for name in WHO]) if n else np.zeros((0, len(WHO)), np.int64),
        flags=numbers("flags").astype(np.uint8),
        label_id=numbers("label_id"),
        reverses=numbers("reverses"),
        payment=payment,
        row=np.full(n, -1, np.int64),
    )
    return Placed(Records(*records), numbers("offset"), numbers("clock_ms"))
