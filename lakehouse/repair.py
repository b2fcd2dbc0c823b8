"""Looks at tables, says what is damaged, and with --do mends it: `lakehouse/RUNBOOK.md` tells of each kind.

    python -m lakehouse.repair                          look at every table; exit code 1 where something is damaged
    python -m lakehouse.repair --table silver.payments --do

Stop what writes to the table first. What is bad is put aside. What follows from an earlier layer is made again by its
own job over the damaged offsets, bronze from Kafka as far as it is kept there. What cannot be had back is named.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow.compute as pc

from lakehouse import broker, delta, high_water, jobs, mending, sourced, storage, topics, trail
from lakehouse import settings as conf
from lakehouse.contracts import bronze, gold, quality, silver
from lakehouse.contracts.register import TABLES
from lakehouse.damage import TO_THE_END, Finding, Offsets, look, noted
from lakehouse.expired import first_held
from lakehouse.jobs import Context, Interval
from lakehouse.log import configure
from lakehouse.runs import recorded
from lakehouse.settings import Settings
from lakehouse.spans import Span
from lakehouse.tables import Table

Again = Literal["landed", "interval", "continued", "whole", "recipe", "never"]


@dataclass(frozen=True)
class Way:
    """How the rows of a table come back: by which job, and how.

    `landed` from Kafka; `interval` over offsets of topic `events`, up to the end of `until`; `continued` from where the
    table is cut back to; `whole` anew in every run; `recipe` by the sources that its commit records; or `never`.
    `source` is the table of bronze that `silver.job` needs for it, which holds records for its retention alone.
    """

    again: Again
    job: str = ""
    until: Table | None = None
    source: Table | None = None


WAYS: Mapping[str, Way] = {
    bronze.EVENTS.name: Way("landed", "bronze.job"),
    bronze.DECISIONS.name: Way("landed", "bronze.job"),
    bronze.SHADOW.name: Way("landed", "bronze.job"),
    **{table.name: Way("interval", "silver.job", silver.BALANCE, bronze.EVENTS) for table in silver.TABLES},
    silver.DECISIONS.name: Way("continued", "silver.job", source=bronze.DECISIONS),
    silver.SHADOW.name: Way("continued", "silver.job", source=bronze.SHADOW),
    silver.TOKEN_MAP.name: Way("whole", "silver.tokens"),
    quality.SCORES.name: Way("interval", "silver.job", silver.BALANCE, bronze.EVENTS),
    gold.VECTORS.name: Way("interval", "features.job", gold.VECTORS),
    gold.FEATURES.name: Way("interval", "gold.job", gold.FEATURES),
    gold.SCORES.name: Way("interval", "gold.job", gold.SCORES),
    gold.DECISIONS.name: Way("interval", "gold.job", gold.DECISIONS),
    gold.FRAUD_DAILY.name: Way("whole", "gold.job"),
    gold.LABEL_MATURITY.name: Way("whole", "gold.job"),
    gold.TRAINING_SET.name: Way("recipe", "gold.as_of"),
}
"""Tables that are not here hold what people and runs left: nothing makes it again."""
LANDED = {
    bronze.EVENTS.name: topics.EVENTS,
    bronze.DECISIONS.name: topics.DECISIONS,
    bronze.SHADOW.name: topics.SHADOW,
}
ORDER = tuple(sorted(TABLES, key=lambda name: (name.startswith(("gold.", "quality.")), name != gold.TRAINING_SET.name)))
"""Tables from left to right. What is made from recorded versions comes before a run of gold.job makes a new one."""

Say = Callable[[str], None]


def looked(root: str, tables: Sequence[Table]) -> list[Finding]:
    """What is damaged, left to right."""
    return [finding for table in tables for finding in look(root, table)]


class Repair:
    """Mends the tables of one lake."""

    def __init__(self, context: Context, say: Say) -> None:
        self._context, self._root, self._say = context, context.root, say

    def mend(self, findings: Sequence[Finding], believe_table: bool = False) -> None:
        """Make every table sound, then have the rows made again, left to right; repeating it after a crash goes on."""
        with high_water.repaired(self._root, [finding.table for finding in findings]):
            for finding in findings:
                other = finding.kind == "log" and finding.symptom == high_water.OTHER
                self._sound(replace(finding, kind="record") if believe_table and other else finding)
            self._forget_snapshots()
            for name in dict.fromkeys(f.table.name for f in sorted(findings, key=lambda f: ORDER.index(f.table.name))):
                self._rows_again(TABLES[name])

    def _tell(self, action: str, table: Table, **details: str | int) -> None:
        trail.record(self._context.settings, f"repair.{action}", table.name, details)
        self._say(f"{table.name}: {action}, " + ", ".join(f"{name} {value}" for name, value in details.items()))

    def _sound(self, finding: Finding) -> None:
        table = finding.table
        if finding.kind == "record":
            self._tell("record_made_anew", table, symptom=finding.symptom)
            mending.rebuilt(self._root, table)
        elif finding.kind == "log":
            mending.note(self._root, table, _widened(self._root, table, {TO_THE_END: (0, 0)}))
            self._tell("log_cut", table, symptom=finding.symptom, version=finding.version, good_version=finding.good)
            mending.cut(self._root, table, finding.good)
        elif finding.kind == "checkpoint":
            self._tell("checkpoints_put_aside", table, symptom=finding.symptom, files=" ".join(finding.files))
            mending.without(self._root, table, finding.files)
        elif finding.kind == "file":
            offsets = _spelled_out(finding.offsets, _ends(self._root, table))
            mending.note(self._root, table, _widened(self._root, table, offsets))
            self._tell("files_dropped", table, symptom=finding.symptom, files=" ".join(finding.files))
            mending.drop(self._root, table, finding.files)

    def _rows_again(self, table: Table) -> None:
        offsets = noted(self._root, table)
        if offsets is None:
            return
        way = WAYS.get(table.name, Way("never"))
        if way.again == "never":
            self._tell("rows_lost", table, reason="nothing makes them again; what was put aside is in _damaged")
        else:
            steps: dict[str, Callable[[Table, Way, Offsets], None]] = {
                "landed": self._landed,
                "interval": self._interval,
                "continued": self._continued,
                "whole": self._whole,
                "recipe": self._recipe,
            }
            steps[way.again](table, way, offsets)
        mending.done(self._root, table)
        self._tell("done", table, version=storage.version(self._root, table), rows=delta.count(self._root, table))

    def _landed(self, table: Table, way: Way, offsets: Offsets) -> None:
        topic, module = LANDED[table.name], importlib.import_module(way.job)
        identity = topics.identify(self._context.settings, topic)
        first, end = broker.watermarks(self._context.settings, identity.name, 0)
        key = f"{identity.topic_id}/0"
        held = _ends(self._root, table).get(key, 0)
        start, stop = _concerned(offsets, key, held, end)
        if start < first:
            self._tell("rows_lost", table, topic=identity.name, from_offset=start, to_offset=min(first, stop))
            if held < first:
                storage.write_off(self._root, table, Span(identity.topic_id, 0, held, first))
        if max(start, first) < min(stop, end):
            span = Span(identity.topic_id, 0, max(start, first), min(stop, end))
            self._tell("rows_again", table, job=way.job, from_position=span.start, to_position=span.end)
            module.again(self._context, topic, span)

    def _interval(self, table: Table, way: Way, offsets: Offsets) -> None:
        assert way.until is not None
        source = {} if way.source is None else dict.fromkeys(_ends(self._root, way.source), 0)
        for key, until in {**source, **_ends(self._root, way.until)}.items():
            held = _ends(self._root, table).get(key, 0)
            first = first_held(self._root, way.source, key) if way.source else 0
            # A balance that was cut back ends before what bronze holds.
            start, stop = _concerned(offsets, key, held, max(until, first))
            self._lost(table, way, start, min(first, stop))
            if TO_THE_END in offsets and held < first:
                topic_id, partition = key.rsplit("/", 1)
                storage.write_off(self._root, table, Span(topic_id, int(partition), held, first))
            if way.until is silver.BALANCE and start < stop:
                start = min(start, self._begun_at(key, start))
            start = max(start, first)
            if key.endswith("/0") and start < stop:
                self._tell("rows_again", table, job=way.job, from_position=start, to_position=stop)
                self._run(way.job, Interval(start, stop))
        self._run(way.job, None)

    def _begun_at(self, key: str, offset: int) -> int:
        """Where the batch began that an offset was judged in: its balance is made again as a whole."""
        names = ["topic_id", "partition", "start_offset", "offset"]
        held = delta.rows(self._root, silver.BALANCE, names, pc.field("offset") >= offset).to_pylist()
        return min((r["start_offset"] for r in held if f"{r['topic_id']}/{r['partition']}" == key), default=offset)

    def _continued(self, table: Table, way: Way, offsets: Offsets) -> None:
        assert way.source is not None
        held, source = _ends(self._root, table), _ends(self._root, way.source)
        for key in sorted({*source, *offsets} - {TO_THE_END}):
            end = held.get(key, 0)
            start, stop = _concerned(offsets, key, end, max(end, source.get(key, 0)))
            first = first_held(self._root, way.source, key)
            self._lost(table, way, start, min(first, stop))
            # What is older than that stays: it would not come back.
            start = max(start, first)
            if key in offsets and start < end:
                topic_id, partition = key.rsplit("/", 1)
                storage.cut_back(self._context.spark, self._root, table, Span(topic_id, int(partition), start, start))
        self._tell("rows_again", table, job=way.job)
        self._run(way.job, None)

    def _lost(self, table: Table, way: Way, start: int, stop: int) -> None:
        """Tell of offsets, if any, that bronze holds no more."""
        if way.source is not None and start < stop:
            self._tell("rows_lost", table, no_more_in=way.source.name, from_offset=start, to_offset=stop)

    def _whole(self, table: Table, way: Way, _: Offsets) -> None:
        self._tell("rows_again", table, job=way.job)
        self._run(way.job, None)

    def _recipe(self, table: Table, way: Way, _: Offsets) -> None:
        module: Any = importlib.import_module(way.job)
        version = sourced.version_with_sources(self._root, table)
        recipe = None if version is None else module.Recipe.of(self._root, version)
        if version is not None and recipe is not None:
            self._tell("rows_again", table, job=way.job, again=version)
            try:
                module.run(self._context, recipe)
                return
            except Exception as error:  # a version that it names needs what was put aside
                if high_water.recognised(self._root, error) is None:
                    raise
        self._tell("rows_lost", table, reason="its sources cannot be read any more; gold.job makes a new one")
        self._whole(table, Way("whole", "gold.job"), {})

    def _run(self, module: str, interval: Interval | None) -> None:
        again = None if interval is None else (interval.start, interval.end)
        with recorded(self._context.settings, module, "job" if again is None else "rerun", again):
            importlib.import_module(module).run(replace(self._context, interval=interval, available_now=True))

    def _forget_snapshots(self) -> None:
        """Spark keeps what it knows of a table's log."""
        jvm: Any = self._context.spark.sparkContext._jvm
        jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


def _ends(root: str, table: Table) -> dict[str, int]:
    return storage.written_ends(root, table) if table.position is not None else {}


def _spelled_out(offsets: Offsets, ends: Mapping[str, int]) -> Offsets:
    """Offsets by whole topic ids; everything that the table holds where they cannot be told.

    Spark cuts texts in Delta's statistics after 32 characters, and a topic id has 36; files of others have it whole.
    """
    out: dict[str, tuple[int, int]] = {}
    for begun, span in offsets.items():
        topic_id, _, partition = begun.rpartition("/")
        whole = [key for key in ends if key.startswith(topic_id) and key.rpartition("/")[2] == partition]
        if len(whole) != 1:
            return {key: (0, end) for key, end in ends.items()}
        first, last = out.get(whole[0], span)
        out[whole[0]] = min(first, span[0]), max(last, span[1])
    return out or {key: (0, end) for key, end in ends.items()}


def _concerned(offsets: Offsets, key: str, held: int, end: int) -> tuple[int, int]:
    """[start, end) of what has to be made again, where the table ends at `held` and could end at `end`."""
    start, stop = offsets.get(key, (held, held))
    return (min(start, held), end) if TO_THE_END in offsets else (start, min(stop, end))


def _widened(root: str, table: Table, offsets: Offsets) -> Offsets:
    """With those of a repair that was open already."""
    out = dict(noted(root, table) or {})
    for key, (a, b) in offsets.items():
        first, last = out.get(key, (a, b))
        out[key] = min(a, first), max(b, last)
    return out


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lakehouse.repair", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--table", action="append", choices=tuple(TABLES), metavar="TABLE", help="only this one")
    parser.add_argument("--do", action="store_true", help="mend; without it, only look")
    parser.add_argument(
        "--believe-table", action="store_true", help="a last commit with other content is right, its record wrong"
    )
    given = parser.parse_args(argv)
    settings = conf.load(given.env)
    found: list[Finding] = []

    def work() -> None:
        configure(settings, "repair")
        tables = [TABLES[name] for name in given.table or TABLES]
        found.extend(looked(conf.lake_root(settings), tables))
        print(*(finding.text() for finding in found), sep="\n", end="\n" if found else "")
        print(f"{len(tables)} tables, " + (f"{len(found)} damages" if found else "all sound"))
        if found and given.do:
            _mended(settings, given, found)
            found.clear()

    return jobs.guarded(work) or int(bool(found))


def _mended(settings: Settings, given: argparse.Namespace, found: Sequence[Finding]) -> None:
    names = " ".join(dict.fromkeys(finding.table.name for finding in found))
    with recorded(settings, "lakehouse.repair", "repair", tables=names):
        given.available_now, given.from_position, given.to_position = True, None, None
        Repair(jobs.context("repair", given), print).mend(found, given.believe_table)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
