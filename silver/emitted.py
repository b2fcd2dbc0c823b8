"""What the engine wrote: bronze.decisions -> silver.decisions, bronze.shadow -> silver.shadow; each source record once.

Decisions count when they are of an engine in office. What a challenger in shadow says follows from the log, whoever
wrote it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse import delta, keys, storage
from lakehouse.contracts import bronze, silver
from lakehouse.data_keys import DataKeys, day_key_name
from lakehouse.envelope import open_values
from lakehouse.errors import ContractBroken, KeyDestroyed, KeyUnknown
from lakehouse.fencing import in_office
from lakehouse.jobs import Context
from lakehouse.keys import KeySource
from lakehouse.log import logger
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.storage import Span
from lakehouse.tables import Table
from lakehouse.texts import Texts
from silver.typed import arrow_column, defaults

Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True)
class Emitted:
    """A topic of the engine: where it landed, where it goes, and the kind of its records."""

    source: Table
    target: Table
    kind: str
    fenced: bool
    """Records of engines out of office do not count."""


EMITTED = (
    Emitted(bronze.DECISIONS, silver.DECISIONS, "decision", True),
    Emitted(bronze.SHADOW, silver.SHADOW, "shadow", False),
)


def opening(source: KeySource, emitted: Emitted, schema_id: int, starts: Sequence[int]) -> Callable[[Batches], Batches]:
    """A function for mapInArrow: sealed records of one schema -> the typed ones that count, but for repeats."""

    def opened(batches: Batches) -> Batches:
        data_keys = DataKeys(source)
        schema = registry().by_id()[schema_id]
        for rows in batches:
            texts = Texts.of(open_values(rows, data_keys))
            found = schema.codec.decode(texts.buffer, texts.start + PREFIX_BYTES, texts.start + texts.length)
            if found.fault.any():
                bad = rows.column("offset").to_pylist()[int(np.flatnonzero(found.fault)[0])]
                raise ContractBroken(
                    f"The record at offset {bad} of {emitted.source.name} cannot be decoded.", "Who wrote it?"
                )
            everything = np.ones(rows.num_rows, np.bool_)
            columns = {
                f["name"]: arrow_column(f["type"], found.batch, f["name"], found.batch.has(f["name"]) & everything)
                if f["name"] in found.batch.columns
                else defaults(f, rows.num_rows)
                for f in registry().latest(emitted.kind).parsed["fields"]
            }
            for name, of in zip(_place(emitted), delta.PLACE, strict=True):
                columns[name] = rows.column(of)
            columns["ingested_at"] = rows.column("ingested_at")
            names = list(emitted.target.column_names)
            batch = pa.RecordBatch.from_arrays([columns[name] for name in names], names=names)
            if emitted.fenced:
                offset, epoch = rows.column("offset").to_numpy(), found.batch.numbers("epoch")
                batch = batch.filter(pa.array(in_office(offset, epoch, np.array(starts, np.int64))))
            yield batch

    return opened


def _starts(arrived: DataFrame) -> list[int]:
    """Offsets of the start records of engines, in ascending order."""
    start_id = registry().latest("engine_start").id
    return sorted(r["offset"] for r in arrived.where(F.col("schema_id") == start_id).select("offset").collect())


def _place(emitted: Emitted) -> tuple[str, str, str]:
    """Columns of the target that say where a record lies on its own topic."""
    place = emitted.target.position
    assert place is not None
    return place


class EmittedBatch:
    """Takes ranges of a topic of the engine into silver."""

    def __init__(self, context: Context, emitted: Emitted) -> None:
        self._context, self._emitted = context, emitted
        self._log = logger("silver")

    def take(self, span: Span) -> None:
        """The records of a range that count; the table holds each once, however often this is called."""
        context, emitted = self._context, self._emitted
        target, own_offset = emitted.target, _place(emitted)[2]
        here = (F.col("topic_id") == span.topic_id) & (F.col("partition") == span.partition)
        arrived = storage.read(context.spark, context.root, emitted.source).where(here & (F.col("offset") < span.end))
        self._refuse_unreadable(arrived.where(F.col("offset") >= span.start), span)
        starts = _starts(arrived) if emitted.fenced else []
        ddl = target.ddl.replace(" NOT NULL", "")
        new = arrived.where(F.col("offset") >= span.start)
        source = keys.source(context.settings)
        rows = reduce(
            DataFrame.unionByName,
            (
                new.where(F.col("schema_id") == schema.id).mapInArrow(opening(source, emitted, schema.id, starts), ddl)
                for schema in registry().versions(emitted.kind)
            ),
        )
        # The first one counts, as for readers that see record by record (lakehouse.fencing.Fence).
        first = Window.partitionBy("topic_id", "partition", "offset").orderBy(own_offset)
        rows = rows.withColumn("repeat", F.row_number().over(first)).where("repeat = 1").drop("repeat").persist()
        try:
            bounds = rows.agg(F.min("offset"), F.max("offset")).collect()[0]
            held = storage.read(context.spark, context.root, target).where(
                (F.col(own_offset) < span.start) & F.col("offset").between(bounds[0] or 0, bounds[1] or 0)
            )
            fresh = rows.join(
                held.select("topic_id", "partition", "offset"), ["topic_id", "partition", "offset"], "leftanti"
            )
            storage.append_once(fresh.select(*target.column_names), context.root, target, [span])
        finally:
            rows.unpersist()
        self._log.info("taken over", table=target.name, start=span.start, end=span.end)

    def _refuse_unreadable(self, arrived: DataFrame, span: Span) -> None:
        """KeyDestroyed or KeyUnknown, by name, before a worker stumbles over it: there is no quarantine."""
        data_keys = DataKeys(keys.source(self._context.settings))
        for row in arrived.select("sealing_key").distinct().collect():
            try:
                data_keys.key(day_key_name(row["sealing_key"]))
            except (KeyDestroyed, KeyUnknown) as error:
                raise type(error)(
                    f"{self._emitted.source.name} cannot be read between offsets {span.start} and {span.end}: "
                    f"{error.what}",
                    "Restore the key store; records that the topic still has can be landed again: "
                    "python -m lakehouse.repair",
                ) from None
