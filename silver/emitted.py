"""What the engine wrote: bronze.decisions -> silver.decisions, bronze.shadow -> silver.shadow; each source record once.

Decisions count when they are of an engine in office. What a challenger in shadow says follows from the log, whoever
wrote it.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf

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


def opening(source: KeySource, emitted: Emitted, schema_id: int) -> Callable[[Batches], Batches]:
    """A function for mapInArrow: sealed records of one schema -> typed ones."""

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
            yield pa.RecordBatch.from_arrays([columns[name] for name in names], names=names)

    return opened


def _counting(own_offset: str, starts: Iterable[int]) -> Column:
    """Holds for decisions of the engine that was in office when they were written."""
    ascending = np.array(sorted(starts), np.int64)

    def counts(offset: pa.Array, epoch: pa.Array) -> pa.Array:
        return pa.array(in_office(offset.to_numpy(), epoch.to_numpy(), ascending))

    # pyspark's stubs ask for a function type, and pyspark itself warns of one beside type hints.
    holds: Column = arrow_udf(counts, "boolean")(own_offset, "epoch")  # type: ignore[call-overload]
    return holds


def _place(emitted: Emitted) -> tuple[str, str, str]:
    """Columns of the target that say where a record lies on its own topic."""
    place = emitted.target.position
    assert place is not None
    return place


def _kept(rows: DataFrame, until: ExitStack) -> DataFrame:
    """The rows, computed once until the end of a block."""
    kept = rows.persist()
    until.callback(kept.unpersist)
    return kept


class EmittedBatch:
    """Takes ranges of a topic of the engine into silver."""

    def __init__(self, context: Context, emitted: Emitted) -> None:
        self._context, self._emitted = context, emitted
        self._known: dict[str, tuple[int, set[int]]] = {}
        """By partition, the end of the last range, and the starts of engines that are known up to there."""
        self._log = logger("silver")

    def take(self, span: Span) -> None:
        """The records of a range that count; the table holds each once, however often this is called."""
        context, emitted = self._context, self._emitted
        target, own_offset = emitted.target, _place(emitted)[2]
        here = (F.col("topic_id") == span.topic_id) & (F.col("partition") == span.partition)
        arrived = storage.read(context.spark, context.root, emitted.source).where(here & (F.col("offset") < span.end))
        new = arrived.where(F.col("offset") >= span.start)
        self._refuse_unknown(new)
        self._refuse_unreadable(new, span)
        ddl = target.ddl.replace(" NOT NULL", "")
        source = keys.source(context.settings)
        rows = reduce(
            DataFrame.unionByName,
            (
                new.where(F.col("schema_id") == schema.id).mapInArrow(opening(source, emitted, schema.id), ddl)
                for schema in registry().versions(emitted.kind)
            ),
        )
        held = storage.read(context.spark, context.root, target).where(F.col(own_offset) < span.start)
        starts: set[int] = set()
        with ExitStack() as kept:
            if emitted.fenced:
                rows = _kept(rows, kept)
                starts = self._starts(span, arrived, rows, held)
                rows = rows.where(_counting(own_offset, starts))
            # The first one counts, as for readers that see record by record (lakehouse.fencing.Fence).
            first = Window.partitionBy("topic_id", "partition", "offset").orderBy(own_offset)
            rows = _kept(rows.withColumn("repeat", F.row_number().over(first)).where("repeat = 1").drop("repeat"), kept)
            bounds = rows.agg(F.min("offset"), F.max("offset")).collect()[0]
            before = held.where(F.col("offset").between(bounds[0] or 0, bounds[1] or 0))
            fresh = rows.join(before.select(*delta.PLACE), [*delta.PLACE], "leftanti")
            storage.append_once(fresh.select(*target.column_names), context.root, target, [span])
        self._known[span.key] = span.end, starts
        self._log.info("taken over", table=target.name, start=span.start, end=span.end)

    def _starts(self, span: Span, arrived: DataFrame, decided: DataFrame, held: DataFrame) -> set[int]:
        """Offsets at which engines took office, as far as decisions of a range can tell them apart.

        An epoch is the offset of a start record: what silver took before proves its start, and so does a decision of
        the range where bronze, whose retention passes before an engine's term does, has no record at that offset.
        Behind the last range that was taken here, only what came since is looked at.
        """
        topic_id, partition, own_offset = _place(self._emitted)
        ids = [schema.id for schema in registry().versions("engine_start")]
        # Taken out while it moves: after a failure the tables are asked again.
        since, known = self._known.pop(span.key, (-1, set()))
        if since != span.start:
            here = (F.col(topic_id) == span.topic_id) & (F.col(partition) == span.partition)
            latest = held.where(here).agg(F.max("epoch")).collect()[0][0]
            since, known = 0, {latest} - {None}
        landed = arrived.where((F.col("offset") >= since) & F.col("schema_id").isin(ids)).select("offset").collect()
        starts = known | {row["offset"] for row in landed}
        told = decided.where((F.col("epoch") >= 0) & (F.col("epoch") < F.col(own_offset)))
        proven = {row["epoch"] for row in told.select("epoch").distinct().collect()} - starts
        if proven:
            others = arrived.where(F.col("offset").isin(sorted(proven))).select("offset").collect()
            starts |= proven - {row["offset"] for row in others}
        return starts

    def _refuse_unknown(self, arrived: DataFrame) -> None:
        """ContractBroken where a record is of a schema that this release does not know: it may be one that counts."""
        ids = [schema.id for schema in registry().schemas]
        found = arrived.where(~F.col("schema_id").isin(ids)).agg(F.min(F.struct("offset", "schema_id"))).collect()[0][0]
        if found is not None:
            raise ContractBroken(
                f"The record at offset {found['offset']} of {self._emitted.source.name} has schema id "
                f"{found['schema_id']}, which this release does not know; nothing was written.",
                "Update this release, then run silver.job again.",
            )

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
