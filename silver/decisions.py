"""bronze.decisions -> silver.decisions: typed, of engines in office only, each source record once."""

from collections.abc import Callable, Iterable, Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse import keys, storage
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
from lakehouse.texts import Texts
from silver.typed import arrow_column, defaults

Batches = Iterable[pa.RecordBatch]


def opening(source: KeySource, schema_id: int, starts: Sequence[int]) -> Callable[[Batches], Batches]:
    """A function for mapInArrow: sealed decisions of one schema -> the typed decisions that were in office."""

    def opened(batches: Batches) -> Batches:
        data_keys = DataKeys(source)
        schema = registry().by_id()[schema_id]
        for rows in batches:
            texts = Texts.of(open_values(rows, data_keys))
            found = schema.codec.decode(texts.buffer, texts.start + PREFIX_BYTES, texts.start + texts.length)
            if found.fault.any():
                bad = rows.column("offset").to_pylist()[int(np.flatnonzero(found.fault)[0])]
                raise ContractBroken(
                    f"The record at offset {bad} of topic decisions cannot be decoded.", "Who wrote it?"
                )
            everything = np.ones(rows.num_rows, np.bool_)
            columns = {
                f["name"]: arrow_column(f["type"], found.batch, f["name"], found.batch.has(f["name"]) & everything)
                if f["name"] in found.batch.columns
                else defaults(f, rows.num_rows)
                for f in registry().latest("decision").parsed["fields"]
            }
            columns["decision_topic_id"] = rows.column("topic_id")
            columns["decision_partition"] = rows.column("partition")
            columns["decision_offset"] = rows.column("offset")
            columns["ingested_at"] = rows.column("ingested_at")
            offset = rows.column("offset").to_numpy()
            office = in_office(offset, found.batch.numbers("epoch"), np.array(starts, np.int64))
            names = list(silver.DECISIONS.column_names)
            batch = pa.RecordBatch.from_arrays([columns[name] for name in names], names=names)
            yield batch.filter(pa.array(office))

    return opened


class DecisionBatch:
    """Takes ranges of bronze.decisions into silver."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._log = logger("silver")

    def take(self, span: Span) -> None:
        """The decisions of a range that count; the table holds each once, however often this is called."""
        context = self._context
        here = (F.col("topic_id") == span.topic_id) & (F.col("partition") == span.partition)
        arrived = storage.read(context.spark, context.root, bronze.DECISIONS).where(here & (F.col("offset") < span.end))
        self._refuse_unreadable(arrived.where(F.col("offset") >= span.start), span)
        start_id = registry().latest("engine_start").id
        starts = sorted(r["offset"] for r in arrived.where(F.col("schema_id") == start_id).select("offset").collect())
        ddl = silver.DECISIONS.ddl.replace(" NOT NULL", "")
        new = arrived.where(F.col("offset") >= span.start)
        source = keys.source(context.settings)
        rows = reduce(
            DataFrame.unionByName,
            (
                new.where(F.col("schema_id") == schema.id).mapInArrow(opening(source, schema.id, starts), ddl)
                for schema in registry().versions("decision")
            ),
        )
        # The first one counts, as for readers that see record by record (lakehouse.fencing.Fence).
        first = Window.partitionBy("topic_id", "partition", "offset").orderBy("decision_offset")
        rows = rows.withColumn("repeat", F.row_number().over(first)).where("repeat = 1").drop("repeat").persist()
        try:
            bounds = rows.agg(F.min("offset"), F.max("offset")).collect()[0]
            held = storage.read(context.spark, context.root, silver.DECISIONS).where(
                (F.col("decision_offset") < span.start) & F.col("offset").between(bounds[0] or 0, bounds[1] or 0)
            )
            fresh = rows.join(
                held.select("topic_id", "partition", "offset"), ["topic_id", "partition", "offset"], "leftanti"
            )
            storage.append_once(fresh.select(*silver.DECISIONS.column_names), context.root, silver.DECISIONS, [span])
        finally:
            rows.unpersist()
        self._log.info("decisions taken over", start=span.start, end=span.end)

    def _refuse_unreadable(self, arrived: DataFrame, span: Span) -> None:
        """KeyDestroyed or KeyUnknown, by name, before a worker stumbles over it: a decision has no quarantine."""
        data_keys = DataKeys(keys.source(self._context.settings))
        for row in arrived.select("sealing_key").distinct().collect():
            try:
                data_keys.key(day_key_name(row["sealing_key"]))
            except (KeyDestroyed, KeyUnknown) as error:
                raise type(error)(
                    f"Decisions between offsets {span.start} and {span.end} cannot be read: {error.what}",
                    "Restore the key store; decisions that topic `decisions` still has can be landed again: "
                    "python -m lakehouse.repair",
                ) from None
