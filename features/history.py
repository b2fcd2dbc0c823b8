"""One run of the history driver: which rows, from which snapshot, to which position, and the snapshot it leaves."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import functions as F

from expectations.restoring import restored
from expectations.switching import Switch, switches
from features import snapshot, store
from features.bases import newest_base, refuse_holes, tokens_behind
from features.past import TABLES, columns_of
from features.preparing import placed_of
from features.renaming import named, renaming
from features.spark import Run, merged, vectors
from features.thinning import superfluous
from features.waiting import WaitingRoom
from lakehouse import delta, storage
from lakehouse.contracts import gold, silver
from lakehouse.errors import RangeMissing, SnapshotRefused
from lakehouse.jobs import Context
from lakehouse.log import logger
from lakehouse.made import Made, as_frame
from lakehouse.scanned import scanned
from lakehouse.settings import resolve
from lakehouse.storage import Span
from lakehouse.workplace import workplace


class History:
    """Takes ranges of silver through the kernel into features.vectors, and leaves a snapshot behind each."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._folder = resolve(context.settings.features.snapshot_folder)
        self._log = logger("features")
        self._kept: dict[str, int] = {}
        """Ends of vectors, by `topic_id/partition`, at which a good snapshot was seen."""

    def take(self, span: Span) -> None:
        """Vectors of the payments of a span; the snapshot afterwards stands just before its end.

        Another one stands behind every change of the token key: there an engine has to begin again.
        """
        refuse_holes(self._context.root, span)
        start = span.start
        within = [s.offset + 1 for s in self._switches(span) if span.start <= s.offset < span.end - 1]
        for end in [*within, span.end]:
            with workplace(self._folder) as working, named():
                self._take(replace(span, start=start, end=end), working)
            start = end

    def _switches(self, span: Span) -> list[Switch]:
        return switches(self._context.root, span.topic_id, span.partition, span.end)

    def _take(self, span: Span, working: Path) -> None:
        base = self._base(span)
        begin = 0 if base is None else snapshot.position(base)
        behind = replace(span, start=begin)
        run = self._run(working, base, behind)
        found = self._vectors(run, behind)
        if self._context.interval:
            storage.overwrite_interval(found, self._context.root, gold.VECTORS, span)
        elif not storage.append_once(found, self._context.root, gold.VECTORS, [span]):
            # Somebody else took the span meanwhile: no record went through our kernel, so there is no state to leave.
            self._log.info("vectors are there already", start=span.start, end=span.end)
            return
        self._leave(run, behind)
        self._kept[span.key] = span.end
        self._log.info("vectors", start=span.start, end=span.end, base=None if base is None else base.name)

    def keep(self) -> None:
        """See that there is a good snapshot at the vectors' end: a crash may have come between vectors and snapshot."""
        for key, end in storage.written_ends(self._context.root, gold.VECTORS).items():
            if self._kept.get(key) == end:
                continue
            topic_id, partition = key.rsplit("/", 1)
            base = self._base(Span(topic_id, int(partition), end, end))
            if base is None or base.name != snapshot.file_name(end):
                begin = 0 if base is None else snapshot.position(base)
                with workplace(self._folder) as working, named():
                    self._make_again(Span(topic_id, int(partition), begin, end), base, working)
            self._kept[key] = end

    def _make_again(self, span: Span, base: Path | None, working: Path) -> None:
        run = self._run(working, base, span)
        as_frame(self._vectors(run, span)).write.format("noop").mode("overwrite").save()
        self._leave(run, span)
        self._log.info("snapshot made again", end=span.end, base=None if base is None else base.name)

    def recomputed(self, span: Span, base: Path | None, working: Path) -> pa.Table:
        """(offset, vector) of the payments of a span, from a snapshot before it or from nothing; nothing is written.

        RangeMissing where silver has holes, SnapshotRefused where the snapshot does not fit.
        """
        refuse_holes(self._context.root, span)
        begin = 0
        if base is not None:
            meta = snapshot.read(base, ()).meta
            store.check(base, meta, self._context.settings, span.topic_id)
            if meta["token_version"] != tokens_behind(self._context.settings, self._context.root, span):
                raise SnapshotRefused(
                    f"The snapshot {base.name} has other tokens than those at offset {span.end}.",
                    "Choose one that stands behind the last change of the token key, or none.",
                )
            begin = int(meta["next_offset"])
            if begin > span.start:
                raise RangeMissing(f"The snapshot {base.name} stands at offset {begin}, after {span.start}.")
        behind = replace(span, start=begin)
        shutil.rmtree(working, ignore_errors=True)
        working.mkdir(parents=True)
        with named():
            found = as_frame(self._vectors(self._run(working, base, behind), behind))
            return found.where(F.col("offset") >= span.start).select("offset", "vector").toArrow()

    def _vectors(self, run: Run, span: Span) -> Made:
        spark, root = self._context.spark, self._context.root
        found = {kind: scanned(spark, root, table, span, columns_of(table)) for kind, table in TABLES.items()}
        return vectors(run, found, span.topic_id, span.partition)

    def _base(self, span: Span) -> Path | None:
        return newest_base(self._context.settings, self._context.root, span, [self._folder])

    def _run(self, working: Path, base: Path | None, span: Span) -> Run:
        """What is to be done over a span; its last offset and clock are of records that move the clock."""
        offset, clock = -1, -(1 << 62)
        for table in (silver.PAYMENTS, silver.AUTHORISATIONS):
            found = delta.rows(self._context.root, table, ["offset", "engine_clock"], delta.within(span))
            if found.num_rows:
                offset = max(offset, pc.max(found["offset"]).as_py())
                clock = max(clock, pc.max(found["engine_clock"]).cast(pa.int64()).as_py() // 1000)
        settings = self._context.settings
        spec, shards = store.spec_of(settings), settings.features.shards
        names = renaming(settings, self._context.root, span, working)
        return Run(spec, base, working, shards, offset, clock, names)

    def _leave(self, run: Run, span: Span) -> None:
        """Write the snapshot at the end of the span."""
        settings, root = self._context.settings, self._context.root
        state = store.new(settings, store.Place(span.topic_id, span.partition, span.end))
        state.admission = restored(settings, root, span.topic_id, span.partition, span.end)
        state.token_version = tokens_behind(self._context.settings, self._context.root, span)
        state.flow.waiting = self._waiting(run, span)
        meta, arrays = store.saved(state)
        arrays.update(merged(run))
        # What a killed run leaves of it goes with its working folder.
        snapshot.write(self._folder / snapshot.file_name(span.end), meta, arrays, run.folder)
        self._thin(meta)

    def _thin(self, written: Mapping[str, Any]) -> None:
        """Delete the snapshots like the one just written that nobody needs any more.

        One just behind a change of the token key stays: an engine begins there, whenever it is started.
        """
        mine: dict[int, Path] = {}
        for path in snapshot.newest([self._folder]):
            try:
                meta = snapshot.read(path, ()).meta
            except (SnapshotRefused, FileNotFoundError):
                continue
            if all(meta[name] == written[name] for name in ("spec", "topic_id", "partition", "token_version")):
                mine[snapshot.position(path)] = path
        changes = switches(self._context.root, written["topic_id"], written["partition"])
        never = {written["next_offset"], *(one.offset + 1 for one in changes)}
        for position in superfluous(mine, self._context.settings.features.snapshots_kept, never):
            mine[position].unlink(missing_ok=True)

    def _waiting(self, run: Run, span: Span) -> WaitingRoom:
        room = (
            WaitingRoom()
            if run.base is None
            else WaitingRoom.loaded(snapshot.part(snapshot.read(run.base, ("waiting",)).arrays, "waiting"))
        )
        fresh = delta.within(span)
        if run.last_offset >= 0:  # else no payment or authorisation came, and every label waits
            last = pa.scalar(run.last_clock_ms * 1000, pa.timestamp("us", "UTC"))
            fresh &= (pc.field("effective_at") > last) | (pc.field("offset") > run.last_offset)
        labels = delta.rows(self._context.root, silver.LABELS, columns_of(silver.LABELS), fresh).sort_by("offset")
        names = run.renaming.opened()
        for rows in labels.combine_chunks().to_batches():
            room.admit(placed_of("label", rows, names))
        room.due(run.last_offset, run.last_clock_ms)
        return room
