"""One range of bronze.events into silver: mask on the workers, judge in order, write every table once."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from expectations.admission import Admission
from expectations.control import ControlEvent
from expectations.restoring import restored
from expectations.scoring import Scores
from expectations.suites import broken_expression
from lakehouse import keys, storage
from lakehouse.contracts import bronze, silver
from lakehouse.data_keys import day_key_name
from lakehouse.envelope import UNREADABLE
from lakehouse.errors import BalanceBroken, KeyDestroyed, RangeMissing
from lakehouse.jobs import Context
from lakehouse.log import logger
from lakehouse.registry import registry
from lakehouse.storage import Span
from lakehouse.tables import Table
from lakehouse.topics import EVENT_KINDS
from silver import erasing
from silver.admitting import NARROW_COLUMNS, Judged, judged
from silver.erasing import Erasure
from silver.erasure_report import places
from silver.masking import NARROW, masked_ddl, masking
from silver.personal import Erased
from silver.repairs import repair_rows

WRITERS = 3
"""Commits under way at a time: planning and committing leave processors idle that another table's rows can use."""
_UNKNOWN_ID = "unknown_schema_id"
_NO_PREFIX = "not_in_confluent_wire_format"
_OTHER_TOPIC = "kind_of_another_topic"
_REPORT_DDL = silver.ERASURE_REPORT.ddl.replace(" NOT NULL", "")


class EventBatch:
    """Takes ranges of bronze.events into silver, one after the other; keeps admission's state in between."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._keys = keys.source(context.settings)
        self._admission: dict[str, tuple[int, Admission]] = {}
        self._scores = Scores(context.spark, context.root, context.settings.quality)
        self._run = uuid.uuid4().hex
        self._log = logger("silver").bind(run=self._run)

    def take(self, span: Span) -> None:
        """Admit the records of a range; the tables hold it once, however often this is called."""
        arrived = self._arrived(span)
        admission = self._admission_at(span)
        present = self._present(arrived)
        erasures = self._erasures(span, arrived, present)
        masked = self._masked(arrived, present, erasing.by_customer(erasures))
        try:
            foreign, repairs = self._apart(arrived)
            narrow = self._narrow(masked)
            if self._context.interval:
                _refuse_unreadable(narrow, span)
            verdicts = judged(admission, narrow, _controls(masked), foreign)
            self._write(span, arrived, masked, verdicts, repairs, erasures)
        finally:
            for frame in masked.values():
                frame.unpersist()
        self._admission[span.key] = (span.end, admission)
        self._log.info(
            "admitted",
            start=span.start,
            end=span.end,
            received=verdicts.received,
            accepted=verdicts.accepted,
            quarantined=verdicts.quarantined,
            duplicates=verdicts.duplicates,
        )

    def _arrived(self, span: Span) -> DataFrame:
        return storage.read_span(self._context.spark, self._context.root, bronze.EVENTS, span)

    def _admission_at(self, span: Span) -> Admission:
        # Taken out while it moves: after a failure it stands neither before nor behind the range.
        position, admission = self._admission.pop(span.key, (-1, None))
        if admission is None or position != span.start:
            context = self._context
            admission = restored(context.settings, context.root, span.topic_id, span.partition, span.start)
        return admission

    def _present(self, arrived: DataFrame) -> set[int]:
        """The schema ids of a range; KeysMissing where a row names no data key."""
        rows = arrived.select("schema_id", "sealing_key").distinct().collect()
        for key_id in {row["sealing_key"] for row in rows}:
            day_key_name(key_id)
        return {row["schema_id"] for row in rows}

    def _erasures(self, span: Span, arrived: DataFrame, present: set[int]) -> list[Erasure]:
        """All that count up to the end of a range, in the order of the log."""
        ids = [s.id for s in registry().schemas if s.kind == erasing.KIND and s.id in present]
        before = erasing.held(self._context.root, span.topic_id, span.partition, span.start)
        return erasing.first_of_each([*before, *erasing.arrived(self._keys, arrived, ids)])

    def _masked(self, arrived: DataFrame, present: set[int], erased: Erased) -> dict[str, DataFrame]:
        """Typed and masked rows by kind, with the rules they break; persisted, they hold no clear value."""
        parts: dict[str, list[DataFrame]] = {}
        for schema in registry().schemas:
            if schema.id not in present or schema.kind not in EVENT_KINDS:
                continue
            table = silver.BY_KIND[schema.kind]
            rows = arrived.where(F.col("schema_id") == schema.id).select(
                "topic_id",
                "partition",
                "offset",
                "broker_time",
                "payload_digest",
                "sealed",
                "sealing_key",
                "ingested_at",
            )
            masked = rows.mapInArrow(masking(self._keys, schema.id, erased), masked_ddl(table))
            broken = F.expr(f"coalesce(fault, {broken_expression(table.name)})")
            parts.setdefault(schema.kind, []).append(masked.withColumn("broken", broken))
        return {kind: reduce(DataFrame.unionByName, frames).persist() for kind, frames in parts.items()}

    def _narrow(self, masked: dict[str, DataFrame]) -> pa.Table:
        frames = []
        for kind, frame in masked.items():
            available = F.unix_millis("label_available_at") if kind == "label" else F.lit(0).cast("bigint")
            number = F.lit(EVENT_KINDS.index(kind)).cast("bigint")
            frames.append(
                frame.withColumn("available_ms", F.coalesce(available, F.lit(0)))
                .withColumn("kind", number)
                .select(*NARROW_COLUMNS)
            )
        if not frames:
            empty = ", ".join(f"`{n}` {'string' if n == 'broken' else 'bigint'}" for n in NARROW_COLUMNS)
            return self._context.spark.createDataFrame([], empty).toArrow()
        return reduce(DataFrame.unionAll, frames).toArrow()

    def _apart(self, arrived: DataFrame) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
        """Offset and reason of records that are of no kind of this topic; offset and position of what repairs one."""
        known = {s.id: s.kind for s in registry().schemas}
        ours = [i for i, kind in known.items() if kind in EVENT_KINDS]
        foreign = F.col("schema_id").isNull() | ~F.col("schema_id").isin(ours)
        others = (
            arrived.where(foreign | F.col("repairs").isNotNull()).select("offset", "schema_id", "repairs").collect()
        )
        refused = []
        for row in others:
            schema_id = row["schema_id"]
            if schema_id not in ours:
                reason = _NO_PREFIX if schema_id is None else _OTHER_TOPIC if schema_id in known else _UNKNOWN_ID
                refused.append((row["offset"], reason))
        return refused, [(row["offset"], row["repairs"]) for row in others if row["repairs"] is not None]

    def _write(
        self,
        span: Span,
        arrived: DataFrame,
        masked: dict[str, DataFrame],
        verdicts: Judged,
        repairs: list[tuple[int, str]],
        erasures: list[Erasure],
    ) -> None:
        if verdicts.received != span.end - span.start:
            raise RangeMissing(
                f"bronze.events holds {verdicts.received} of the {span.end - span.start} records from offset "
                f"{span.start} to {span.end} of partition {span.partition}.",
                f"Land them again: python -m bronze.job --from-position {span.start} --to-position {span.end}",
            )
        if verdicts.received != verdicts.accepted + verdicts.quarantined + verdicts.duplicates:
            raise BalanceBroken(
                f"The verdicts over offsets {span.start} to {span.end} do not add up; nothing was written."
            )
        # The tables do not depend on each other. Scores are counted from them; the balance says that the range is done.
        with ThreadPoolExecutor(WRITERS) as writers:
            written = [
                writers.submit(self._put_kind, kind, frame, verdicts.accepted_rows[kind], span)
                for kind, frame in masked.items()
            ]
            for table, rows in (
                (silver.QUARANTINE, verdicts.refused_rows),
                (silver.DUPLICATES, verdicts.duplicate_rows),
                (silver.REPAIRS, repair_rows(repairs, verdicts)),
            ):
                # A repair also replaces what is no longer refused or repeated.
                if rows.num_rows or self._context.interval:
                    written.append(writers.submit(self._put, self._aside(arrived, rows, table), table, span))
        for one in written:
            one.result()
        if self._context.interval:
            self._scores.again(span)
        else:
            self._scores.take(span)
        self._erase(span, arrived, erasures)
        self._put(self._balance(span, verdicts), silver.BALANCE, span)

    def _erase(self, span: Span, arrived: DataFrame, erasures: list[Erasure]) -> None:
        """Destroy the keys of those whose erasures lie in the range, and report what is left where."""
        context, now = self._context, [one for one in erasures if one.offset >= span.start]
        if not now and not context.interval:
            return
        keys_gone = erasing.carried_out(context.settings, span.topic_id, span.partition, erasures, now)
        offsets = [one.offset for one in now]
        times = arrived.where(F.col("offset").isin(offsets)).select("offset", "broker_time", "ingested_at").toArrow()
        by_offset = {row["offset"]: (row["broker_time"], row["ingested_at"]) for row in times.to_pylist()}
        rows = places(context.settings, context.root, span, now, by_offset)
        columns = silver.ERASURE_REPORT.column_names
        frame = context.spark.createDataFrame([tuple(row[n] for n in columns) for row in rows], _REPORT_DDL)
        self._put(frame, silver.ERASURE_REPORT, span)
        if now:
            self._log.info("erased", start=span.start, end=span.end, erasures=len(now), keys=keys_gone)

    def _put_kind(self, kind: str, frame: DataFrame, admitted: pa.Table, span: Span) -> None:
        table = silver.BY_KIND[kind]
        filled = F.broadcast(self._context.spark.createDataFrame(admitted))
        rows = frame.drop("broken", *(name for name, _ in NARROW)).join(filled, "offset")
        self._put(rows.select(*table.column_names), table, span)

    def _put(self, rows: DataFrame, table: Table, span: Span) -> None:
        if self._context.interval:
            storage.overwrite_interval(rows, self._context.root, table, span)
        else:
            storage.append_once(rows, self._context.root, table, [span])

    def _aside(self, arrived: DataFrame, rows: pa.Table, table: Table) -> DataFrame:
        listed = F.broadcast(self._context.spark.createDataFrame(rows))
        return arrived.withColumn("run", F.lit(self._run)).join(listed, "offset").select(*table.column_names)

    def _balance(self, span: Span, verdicts: Judged) -> DataFrame:
        row = (
            *(span.topic_id, span.partition, span.end - 1, span.start),
            *(verdicts.received, verdicts.accepted, verdicts.quarantined, verdicts.duplicates, verdicts.clock_ms),
            self._run,
        )
        names = "topic_id string, partition int, offset bigint, start_offset bigint, received bigint, accepted bigint, "
        names += "quarantined bigint, duplicates bigint, clock_ms bigint, run string"
        frame = self._context.spark.createDataFrame([row], names)
        return frame.withColumn("engine_clock", F.timestamp_millis("clock_ms")).drop("clock_ms")


def _refuse_unreadable(narrow: pa.Table, span: Span) -> None:
    """KeyDestroyed when some records can no longer be opened: what silver made of them must not give way to nothing."""
    broken = narrow.column("broken")
    lost = narrow.filter(pc.fill_null(pc.starts_with(broken, UNREADABLE), False))
    if lost.num_rows:
        first = lost.slice(0, 1).to_pylist()[0]
        raise KeyDestroyed(
            f"{lost.num_rows} of the records from offset {span.start} to {span.end} cannot be opened any more (offset "
            f"{first['offset']} is {first['broken']}); nothing was written.",
            "Choose an interval whose keys are there, or restore the key store where it was lost.",
        )


def _controls(masked: dict[str, DataFrame]) -> dict[int, ControlEvent]:
    """Control events by offset."""
    frame = masked.get("control")
    rows: list[Row] = [] if frame is None else frame.where("fault IS NULL").collect()
    return {
        row["offset"]: ControlEvent(
            row["control_id"],
            row["scope"],
            row["version"],
            row["previous_digest"],
            row["payload"],
            row["author"],
            row["approver"],
            bytes(row["author_signature"]),
            bytes(row["approver_signature"]),
        )
        for row in rows
    }
