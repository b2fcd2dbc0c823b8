"""One audit: every hop, partition by partition and window by window."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from audit import (
    admission,
    arrival,
    belonging,
    challenged,
    keys,
    log,
    marks,
    office,
    outcomes,
    repairs,
    schemas,
    scoring,
)
from audit.arrival import Arrived, Reading
from audit.challenged import Said
from audit.errors import CannotLook
from audit.findings import Finding, Hop
from audit.log import Topic
from audit.office import Office
from audit.outcomes import Gold
from audit.places import Places
from audit.progress import Progress
from audit.purges import Purges
from audit.schemas import Schema
from audit.tables import NO_END, OF_DECISION, OF_SHADOW, Columns, Source, Span, Table
from audit.witnesses import Wrong
from audit.write_offs import WRITE_OFFS, WriteOffs, around

EVENTS, DECISIONS, SHADOW = "bronze.events", "bronze.decisions", "bronze.shadow"
_READ_FIRST = (*scoring.TABLES, "gold.decisions")
"""What lies to the right is opened first, so that what follows from something never seems to be ahead of it."""


@dataclass
class Audit:
    """What an audit found."""

    hops: list[Hop]
    seconds: float
    notes: list[str] = field(default_factory=list)

    @property
    def findings(self) -> list[Finding]:
        """Everything that is wrong, from left to right."""
        return [finding for hop in self.hops for finding in hop.findings.values()]


class _Lake:
    """The tables, each at the version at which it was first looked at."""

    def __init__(self, root: str) -> None:
        names = [*_READ_FIRST, "silver.balance", *belonging.TABLES]
        beside = (arrival.PURGES, WRITE_OFFS, office.SILVER, challenged.SILVER, SHADOW, DECISIONS, EVENTS)
        known = marks.read(root, [*names, *beside])
        self.tables: dict[str, Table] = {name: Table(root, name) for name in names}
        self.purges = Purges.of(root, self.tables)
        written_off = Table(root, WRITE_OFFS)
        self.write_offs = WriteOffs.of(written_off)
        self.decisions = Table(root, office.SILVER, OF_DECISION)
        self.by_event = Table(root, office.SILVER, version=self.decisions.version)
        self.shadow = Table(root, challenged.SILVER, OF_SHADOW)
        self.shadow_by_event = Table(root, challenged.SILVER, version=self.shadow.version)
        self.bronze = {name: Table(root, name) for name in (SHADOW, DECISIONS, EVENTS)}
        others = (self.purges.table, written_off, self.decisions, self.shadow)
        marks.refuse_set_back([*self.tables.values(), *others, *self.bronze.values()], known)
        vectors, balance = self.tables[scoring.VECTORS], self.tables[admission.BALANCE]
        vectors.followed_by = (self.tables[scoring.FEATURES], self.tables[scoring.SCORES])
        balance.followed_by = (vectors,)
        for name, follower in ((EVENTS, balance), (DECISIONS, self.decisions), (SHADOW, self.shadow)):
            self.bronze[name].followed_by = (follower,)
        if not any(table.version >= 0 for table in (*self.tables.values(), *self.bronze.values())):
            raise CannotLook(f"There is no lake at {root}.", "--lake names its root; `make demo` makes one.")


def run(places: Places, window: int, progress: Progress) -> Audit:
    """Look at everything. CannotLook where something that the audit needs is not there."""
    began = time.monotonic()
    known = schemas.load(places.schemas)
    key = None if places.digest_key is None else keys.digest_key(places.digest_key)
    progress.at("opening the tables")
    lake = _Lake(places.root)
    # Topics last: they are ahead of every table.
    servers, names = places.bootstrap_servers, (places.events, places.decisions, places.shadow)
    topics = [None if servers is None else log.topic(servers, name, places.timeout_s) for name in names]
    audit = _Auditing(places, lake, known, key, topics, window, progress)
    return Audit(audit.hops(), round(time.monotonic() - began, 1), audit.notes)


class _Auditing:
    def __init__(
        self,
        places: Places,
        lake: _Lake,
        known: Mapping[int, Schema],
        key: bytes | None,
        topics: Sequence[Topic | None],
        window: int,
        progress: Progress,
    ) -> None:
        self._places, self._lake, self._known, self._key = places, lake, known, key
        self._window, self._progress = window, progress
        self._events, self._decisions, self._shadow = topics
        self._said: dict[int, Said] = {}
        self._offices: dict[int, Office] = {}
        self.notes = _left_out(places, key)
        self._landed = Hop("topic events -> bronze.events")
        self._admitted = Hop("bronze.events -> silver")
        self._scored = Hop("silver.payments -> features.vectors -> gold.features, gold.scores")
        self._decided = Hop("topic decisions -> bronze.decisions -> silver.decisions -> gold.decisions")
        self._challenged = Hop("topic shadow -> bronze.shadow -> silver.shadow")

    def hops(self) -> list[Hop]:
        """Look at all of them."""
        hops = [self._landed, self._admitted, self._scored, self._decided, self._challenged]
        for source in self._sources(self._decisions, self._lake.bronze[DECISIONS], [self._lake.decisions]):
            self._decisions_of(source)
        for source in self._sources(self._shadow, self._lake.bronze[SHADOW], [self._lake.shadow]):
            self._shadow_of(source)
        others = [*self._lake.tables.values(), self._lake.by_event]
        silver = admission.Silver(self._lake.tables, self._known)
        gold = Gold.of(self._lake.tables)
        for source in self._sources(self._events, self._lake.bronze[EVENTS], others):
            self._events_of(source, silver, gold)
        amiss = {finding.table for finding in self._admitted.findings.values()}
        for table, fact, column in outcomes.WORDS:
            if table in amiss:
                self._decided.withdraw(
                    fact, f"{table} has to be repaired before gold can be compared with its {column}s"
                )
        topics = {EVENTS: self._events, DECISIONS: self._decisions, SHADOW: self._shadow}
        for hop in hops:
            for finding in hop.findings.values():
                topic = topics.get(finding.table)
                kept_from = 0 if topic is None else topic.range(finding.source)[0]
                finding.repair = repairs.command(finding, self._places.root, kept_from)
        return hops

    def _sources(self, topic: Topic | None, bronze: Table, others: list[Table]) -> list[Source]:
        """The partitions to look at. CannotLook when the topic is another one than the lake is of."""
        found = {source for table in (bronze, *others) for source in table.extents}
        of_lake = {source.topic_id for source in found}
        if topic is not None:
            if of_lake and topic.topic_id not in of_lake:
                raise CannotLook(
                    f"Topic {topic.name} has the id {topic.topic_id}, {bronze.name} is of "
                    f"{', '.join(sorted(of_lake))}: the topic was replaced, so its offsets mean other records.",
                    "Name the topics of this lake (--events, --decisions, --shadow), or leave them out: "
                    "--without-topics.",
                )
            found |= {Source(topic.topic_id, partition) for partition in topic.kept}
        return sorted(found)

    def _say_kept(self, hop: Hop, topic: Topic | None, source: Source, bronze: Table) -> None:
        if topic is None:
            hop.note("the topic was left out (--without-topics)")
            return
        low, high = topic.range(source)
        hop.line(arrival.topic_of(bronze.name))
        landed = bronze.end(source)
        hop.line(bronze.name).behind += max(0, high - max(low, landed))
        if topic.topic_id == source.topic_id and landed > high:
            # What is written to it from now on takes offsets that mean other records in the lake.
            gone = np.arange(high, landed, dtype=np.int64)
            hop.found(source, [Wrong("lost", arrival.topic_of(bronze.name), "rows", gone, bronze.name)])
        if low:
            hop.note(
                f"partition {source.partition}: the topic keeps offsets from {low:,} on; "
                "what is older was compared among the tables only"
            )

    def _arrivals(
        self, hop: Hop, topic: Topic | None, bronze: Table, spans: list[Span], kinds: tuple[str, ...]
    ) -> Iterator[Arrived]:
        reading = Reading(self._known, kinds, self._key)
        source = spans[0].source
        self._say_kept(hop, topic, source, bronze)
        start = self._start(topic, bronze, source)
        if expired := bronze.expired.get(source, 0):
            start = max(start, expired)
            hop.note(
                f"partition {source.partition}: the retention of bronze has passed below offset {expired:,}; "
                "what is older was compared among the tables behind it"
            )
        purged = self._lake.purges.offsets(source, bronze.name)
        written_off = self._lake.write_offs.of_table(source, bronze.name)
        for one in written_off:
            hop.note(one.text)
        holes = self._places.transactional and bronze.name == DECISIONS
        # What the topic forgot before a table that had begun came to it is lost, not behind.
        end = max([bronze.end(source), *(_kept(topic, source) if source in bronze.ends and not holes else [])])
        for span in spans:
            arrived = arrival.read(topic, bronze, span, reading, self._progress.more)
            arrival.compare(hop, arrived, bronze, (start, end), holes, purged, written_off)
            yield arrived

    def _start(self, topic: Topic | None, bronze: Table, source: Source) -> int:
        """The first offset that the topic, bronze or a table behind it holds of a source; 0 where none does."""
        extents = [self._lake.tables[name].extents.get(source) for name in belonging.TABLES]
        extents += [table.extents.get(source) for table in (bronze, self._lake.decisions, self._lake.shadow)]
        return min([*_kept(topic, source), *(extent.first for extent in extents if extent is not None)], default=0)

    def _spans(self, source: Source, end: int, cuts: list[tuple[int, int]]) -> list[Span]:
        """Windows over all offsets that do not cut one of silver's ranges; the last one has no end."""
        spans, start = [], 0
        while start + self._window < end:
            cut = start + self._window
            for low, high in sorted(cuts):
                if low < cut < high:
                    cut = high
            if cut >= end:
                break
            spans.append(Span(source, start, cut))
            start = cut
        return [*spans, Span(source, start, NO_END)]

    def _decisions_of(self, source: Source) -> None:
        self._progress.at(f"decisions of partition {source.partition}")
        known = self._offices.setdefault(source.partition, Office())
        bronze = self._lake.bronze[DECISIONS]
        end = max(bronze.end(source), 0 if self._decisions is None else self._decisions.range(source)[1])
        known.written_off = around(self._lake.decisions, source, self._lake.write_offs.of_table(source, DECISIONS))
        spans = self._spans(source, end, [])
        for arrived in self._arrivals(self._decided, self._decisions, bronze, spans, office.KINDS):
            office.compare(self._decided, arrived, bronze, self._lake.decisions, self._known, known)
        self._decided.line(office.SILVER).behind += max(0, bronze.end(source) - self._lake.decisions.end(source))

    def _shadow_of(self, source: Source) -> None:
        self._progress.at(f"challengers of partition {source.partition}")
        said = self._said.setdefault(source.partition, Said())
        bronze, silver = self._lake.bronze[SHADOW], self._lake.shadow
        end = max(bronze.end(source), 0 if self._shadow is None else self._shadow.range(source)[1])
        spans = self._spans(source, end, [])
        for arrived in self._arrivals(self._challenged, self._shadow, bronze, spans, challenged.KINDS):
            challenged.compare(self._challenged, arrived, silver, self._known, said)
        self._challenged.line(challenged.SILVER).behind += max(0, bronze.end(source) - silver.end(source))

    def _events_of(self, source: Source, silver: admission.Silver, gold: Gold) -> None:
        self._progress.at(f"events of partition {source.partition}")
        tables, bronze = self._lake.tables, self._lake.bronze[EVENTS]
        ranges = admission.balance(tables["silver.balance"], Span(source, 0, NO_END))
        cuts = [(int(low), int(last) + 1) for low, last in zip(ranges["start_offset"], ranges["offset"], strict=True)]
        done = tables["silver.balance"].end(source)
        end = max(bronze.end(source), done)
        start = min([self._start(self._events, bronze, source), *(low for low, _ in cuts)])
        spans = self._spans(source, end, cuts)
        known = self._offices.get(source.partition, Office())
        if (live := self._lake.by_event.extents.get(source)) is not None:
            known.held(live.first, live.end - 1)
        for arrived in self._arrivals(self._landed, self._events, bronze, spans, tuple(belonging.KINDS)):
            span = arrived.span
            here = (ranges.offset >= span.start) & (ranges.offset < span.end)
            told = Columns({name: values[here] for name, values in ranges.items()})
            scored = scoring.read(tables, span)
            admitted = admission.compare(self._admitted, arrived, silver, told, scoring.paid(scored), (start, done))
            decided = outcomes.read(self._lake.by_event, span)
            scoring.compare(self._scored, admitted, scored, outcomes.of_accepted(decided), known, tables)
            outcomes.compare(self._decided, admitted, arrived, decided, gold, known)
            challenged.beside(self._challenged, admitted, decided, self._lake.shadow_by_event)
            self._sum(arrived)
        self._lag(source, done)

    def _sum(self, arrived: Arrived) -> None:
        paid = arrived.kinds.get("payment")
        if paid is not None:
            line = self._landed.line(arrival.topic_of(EVENTS))
            line.amount = (line.amount or 0) + int(paid.numbers["amount_minor"].sum())

    def _lag(self, source: Source, done: int) -> None:
        tables, end = self._lake.tables, self._lake.bronze[EVENTS].end(source)
        self._admitted.line("silver.balance").behind += max(0, end - done)
        for name, ahead in (("features.vectors", done), ("gold.features", tables["features.vectors"].end(source))):
            self._scored.line(name).behind += max(0, ahead - tables[name].end(source))
        if tables["gold.scores"].ends:
            behind = tables["features.vectors"].end(source) - tables["gold.scores"].end(source)
            self._scored.line("gold.scores").behind += max(0, behind)


def _kept(topic: Topic | None, source: Source) -> list[int]:
    """The first offset that a topic keeps of a source; empty where it never held a record."""
    return [topic.range(source)[0]] if topic is not None and topic.range(source)[1] else []


def _left_out(places: Places, key: bytes | None) -> list[str]:
    """What this audit cannot compare."""
    notes = []
    if places.bootstrap_servers is None:
        notes.append("without the topics: the tables were compared among themselves, nothing with the log")
    elif key is None:
        notes.append(
            "without a digest key (--digest-key): payload digests were compared among the tables, but not with the "
            "topic's bytes; of what arrived, ids, lengths, times and decoded fields were"
        )
    return notes
