"""One range of bronze.events into silver: mask on the workers, judge in order, write every table once.

The rows stay in Arrow: Python workers read, mask, join with their verdicts and write them. On a way through the JVM
each value would become part of a row and of a batch again, several times.
"""

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from expectations.admission import Admission
from expectations.control import ControlEvent, Staged
from expectations.restoring import restored
from expectations.scoring import Scores
from lakehouse import delta, keys, purging, storage
from lakehouse.contracts import bronze, silver
from lakehouse.crypto import Digests
from lakehouse.data_keys import day_key_name
from lakehouse.envelope import UNREADABLE
from lakehouse.errors import BalanceBroken, KeyDestroyed, RangeMissing
from lakehouse.files import arrow_schema
from lakehouse.jobs import Context
from lakehouse.log import logger
from lakehouse.made import Made, Rows
from lakehouse.registry import registry
from lakehouse.scanned import scanned
from lakehouse.settings import resolve
from lakehouse.storage import Span
from lakehouse.tables import Table
from lakehouse.tasks import handed_out
from lakehouse.topics import EVENT_KINDS
from lakehouse.workplace import workplace
from silver import erasing, key_events
from silver.admitting import Judged, judged
from silver.balance import cut_off
from silver.carrying import Carried, carried
from silver.erasing import Erasure
from silver.erasure_report import places
from silver.keeping import NARROWED, TOLD_DDL, Kept, admitted_to, filling
from silver.masking import NARROW, READ, masking
from silver.personal import Erased
from silver.repairs import repair_rows

WRITERS = 3
"""Commits under way at a time: planning and committing leave processors idle that another table's rows can use."""
_UNKNOWN_ID = "unknown_schema_id"
_NO_PREFIX = "not_in_confluent_wire_format"
_OTHER_TOPIC = "kind_of_another_topic"


class EventBatch:
    """Takes ranges of bronze.events into silver, one after the other; keeps admission's state in between."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._keys = keys.source(context.settings)
        self._admission: dict[str, tuple[int, Admission]] = {}
        self._scores = Scores(context.root, context.settings.quality)
        self._run = uuid.uuid4().hex
        self._log = logger("silver").bind(run=self._run)

    def take(self, span: Span) -> None:
        """Admit the records of a range; the tables hold it once, however often this is called."""
        context, arrived = self._context, self._arrived(span)
        rows = storage.read_span(context.spark, context.root, bronze.EVENTS, span)
        events = key_events.arrived(self._keys, rows, _ids(key_events.KIND, _schemas(arrived)))
        start = span.start
        while start < span.end:
            admission = self._admission_at(replace(span, start=start))
            switch = key_events.next_switch(events, start, admission.in_force, admission.trust)
            end = span.end if switch is None else switch + 1
            here = (pc.field("offset") >= start) & (pc.field("offset") < end)
            self._take(replace(span, start=start, end=end), arrived.filter(here), admission)
            start = end

    def _take(self, span: Span, arrived: pa.Table, admission: Admission) -> None:
        """Admit a range whose tokens are of one key version; a change of it stands at the end."""
        version = admission.in_force.token_version
        purged = purging.empty(self._context.root, span)
        erasures = self._erasures(span, arrived, version, purged)
        with workplace(resolve(self._context.settings.silver.working_folder)) as folder:
            kept = self._masked(span, erasing.by_customer(erasures), folder, version)
            foreign, repairs = _apart(arrived)
            over = self._carried(span, purged, foreign, folder)
            if over is not None:
                foreign += over.lost
                kept.add(over.told)
            narrow = kept.rows(NARROWED, NARROW)
            if self._context.interval:
                _refuse_unreadable(narrow, span)
            verdicts = judged(admission, narrow, _controls(kept), foreign, _staged(kept))
            if over is not None:
                verdicts = over.into(verdicts)
            self._write(span, kept, folder, verdicts, repairs, erasures)
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

    def _arrived(self, span: Span) -> pa.Table:
        """What is known of a range without opening it; KeysMissing where a row names no data key."""
        columns = ["offset", "schema_id", "sealing_key", "repairs"]
        rows = delta.rows(self._context.root, bronze.EVENTS, columns, delta.within(span))
        for key_id in pc.unique(rows.column("sealing_key")).to_pylist():
            day_key_name(key_id)
        return rows

    def _admission_at(self, span: Span) -> Admission:
        # Taken out while it moves: after a failure it stands neither before nor behind the range.
        position, admission = self._admission.pop(span.key, (-1, None))
        if admission is None or position != span.start:
            context = self._context
            admission = restored(context.settings, context.root, span.topic_id, span.partition, span.start)
        return admission

    def _erasures(self, span: Span, arrived: pa.Table, version: int, purged: list[int]) -> list[Erasure]:
        """All that count up to the end of a range, in the order of the log."""
        context = self._context
        rows = storage.read_span(context.spark, context.root, bronze.EVENTS, span)
        before = erasing.held(context.root, span.topic_id, span.partition, span.start)
        found = erasing.arrived(self._keys, rows, _ids(erasing.KIND, _schemas(arrived)), version)
        if purged:
            # The record of an erasure is purged with the customer's others.
            known = erasing.held(context.root, span.topic_id, span.partition, span.end)
            found += [one for one in known if one.offset in set(purged)]
        return erasing.first_of_each([*before, *found])

    def _carried(self, span: Span, purged: list[int], foreign: list[tuple[int, str]], folder: Path) -> Carried | None:
        """What silver has of the range's purged records; None where none was purged. Foreign ones need no opening."""
        apart = {offset for offset, _ in foreign}
        mine = [offset for offset in purged if offset not in apart]
        return carried(self._context.root, span, mine, folder, Digests(self._keys.keyring())) if mine else None

    def _masked(self, span: Span, erased: Erased, folder: Path, version: int) -> Kept:
        """Typed and masked rows by kind, with what admission looks at; they hold no clear value."""
        context = self._context
        task_rows = context.settings.silver.task_rows
        found = scanned(context.spark, context.root, bronze.EVENTS, span, READ, task_rows)
        return Kept(found.mapped(masking(self._keys, erased, version, str(folder)), TOLD_DDL).toArrow())

    def _write(
        self,
        span: Span,
        kept: Kept,
        folder: Path,
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
                writers.submit(self._put, self._accepted(kind, kept, folder, verdicts), silver.BY_KIND[kind], span)
                for kind in kept.kinds
            ]
            for table in self._without(kept, span):
                written.append(writers.submit(self._put, arrow_schema(table).empty_table(), table, span))
            for table, rows in (
                (silver.QUARANTINE, verdicts.refused_rows),
                (silver.DUPLICATES, verdicts.duplicate_rows),
                (silver.REPAIRS, repair_rows(repairs, verdicts)),
            ):
                # A repair also replaces what is no longer refused or repeated.
                if rows.num_rows or self._context.interval:
                    written.append(writers.submit(self._put, self._aside(span, rows, table), table, span))
        for one in written:
            one.result()
        if self._context.interval:
            self._scores.again(span)
            for row in cut_off(self._context.root, span):
                rest = replace(span, start=row["start_offset"], end=row["offset"] + 1)
                self._put(pa.Table.from_pylist([row], arrow_schema(silver.BALANCE)), silver.BALANCE, rest)
        else:
            self._scores.take(span)
        self._erase(span, erasures)
        self._put(self._balance(span, verdicts), silver.BALANCE, span)

    def _erase(self, span: Span, erasures: list[Erasure]) -> None:
        """Destroy the keys of those whose erasures lie in the range, and report what is left where."""
        context, now = self._context, [one for one in erasures if one.offset >= span.start]
        if not now and not context.interval:
            return
        keys_gone = erasing.carried_out(context.settings, span.topic_id, span.partition, erasures, now)
        offsets = pc.field("offset").isin([one.offset for one in now])
        columns = ["offset", "broker_time", "ingested_at"]
        times = delta.rows(context.root, bronze.EVENTS, columns, delta.within(span) & offsets)
        by_offset = {row["offset"]: (row["broker_time"], row["ingested_at"]) for row in times.to_pylist()}
        rows = places(context.settings, context.root, span, now, by_offset)
        self._put(pa.Table.from_pylist(rows, arrow_schema(silver.ERASURE_REPORT)), silver.ERASURE_REPORT, span)
        if now:
            self._log.info("erased", start=span.start, end=span.end, erasures=len(now), keys=keys_gone)

    def _accepted(self, kind: str, kept: Kept, folder: Path, verdicts: Judged) -> Made:
        """The accepted rows of a kind, to be made of the kept files."""
        table = silver.BY_KIND[kind]
        tasks = handed_out(self._context.spark, kept.numbered(kind))
        return Made(tasks, filling(table, admitted_to(folder, kind, verdicts.accepted_rows[kind])), table)

    def _without(self, kept: Kept, span: Span) -> list[Table]:
        """Of an interval that is done again, tables that hold rows of it although it has no record of their kind."""
        if not self._context.interval:
            return []
        others = [table for kind, table in silver.BY_KIND.items() if kind not in kept.kinds]
        return [table for table in others if delta.count(self._context.root, table, delta.within(span))]

    def _put(self, rows: Rows, table: Table, span: Span) -> None:
        if self._context.interval:
            storage.overwrite_interval(rows, self._context.root, table, span)
        else:
            storage.append_once(rows, self._context.root, table, [span])

    def _aside(self, span: Span, rows: pa.Table, table: Table) -> pa.Table:
        """What came of some records, with what is said of them in `rows`."""
        schema, said = arrow_schema(table), rows.sort_by("offset")
        there = [name for name in bronze.EVENTS.column_names if name in schema.names]
        offset = said.column("offset").combine_chunks()
        if len(offset):
            span = replace(span, start=offset[0].as_py(), end=offset[-1].as_py() + 1)
        wanted = delta.within(span) & pc.field("offset").isin(offset)
        arrived = delta.rows(self._context.root, bronze.EVENTS, there, wanted).sort_by("offset")
        run = pa.array([self._run] * said.num_rows, pa.string())
        columns = [
            run
            if name == "run"
            else (said if name in said.column_names else arrived).column(name).cast(schema.field(name).type)
            for name in schema.names
        ]
        return pa.table(columns, schema=schema)

    def _balance(self, span: Span, verdicts: Judged) -> pa.Table:
        clock = None if verdicts.clock_ms is None else datetime.fromtimestamp(verdicts.clock_ms / 1000, UTC)
        row = {
            "topic_id": span.topic_id,
            "partition": span.partition,
            "offset": span.end - 1,
            "start_offset": span.start,
            "received": verdicts.received,
            "accepted": verdicts.accepted,
            "quarantined": verdicts.quarantined,
            "duplicates": verdicts.duplicates,
            "engine_clock": clock,
            "run": self._run,
        }
        return pa.Table.from_pylist([row], arrow_schema(silver.BALANCE))


def _schemas(arrived: pa.Table) -> set[int]:
    """The schema ids of a range."""
    return set(pc.unique(arrived.column("schema_id")).to_pylist())


def _ids(kind: str, present: set[int]) -> list[int]:
    """Those of a kind that are present."""
    return [s.id for s in registry().schemas if s.kind == kind and s.id in present]


def _apart(arrived: pa.Table) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Offset and reason of records that are of no kind of this topic; offset and position of what repairs one."""
    known = {s.id: s.kind for s in registry().schemas}
    ours = pa.array([i for i, kind in known.items() if kind in EVENT_KINDS], pa.int32())
    refused = []
    for row in arrived.filter(pc.invert(pc.is_in(arrived.column("schema_id"), ours))).to_pylist():
        schema_id = row["schema_id"]
        reason = _NO_PREFIX if schema_id is None else _OTHER_TOPIC if schema_id in known else _UNKNOWN_ID
        refused.append((row["offset"], reason))
    repairs = arrived.filter(pc.is_valid(arrived.column("repairs"))).to_pylist()
    return refused, [(row["offset"], row["repairs"]) for row in repairs]


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


def _controls(kept: Kept) -> dict[int, ControlEvent]:
    """Control events by offset."""
    names = ["offset", *(f.name for f in fields(ControlEvent))]
    # One that cannot be decoded has no columns.
    return {
        row.pop("offset"): ControlEvent(**row) for row in _of(kept, "control", names) if row["control_id"] is not None
    }


def _staged(kept: Kept) -> dict[int, Staged]:
    """What was said of staged models, by offset."""
    rows = _of(kept, "staged", ["offset", "model_digest", "refused"])
    return {
        row["offset"]: Staged(row["model_digest"], row["refused"]) for row in rows if row["model_digest"] is not None
    }


def _of(kept: Kept, kind: str, names: list[str]) -> list[dict[str, Any]]:
    # Without times: a claimed one may be no date.
    return kept.rows(kind, None).select(names).to_pylist() if kind in kept.kinds else []
