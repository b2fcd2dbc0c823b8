"""Offsets that a table of bronze lacks for good: Kafka holds their records no more.

Either retention was faster than the job, so that the table ends before its topic begins, or rows of the table were lost
later (`lakehouse.repair` names them). Records that bronze's own retention took out are not missing.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow.compute as pc
from pyarrow import fs

from bronze.job import TABLES
from lakehouse import broker, delta, storage, topics, write_offs
from lakehouse import settings as conf
from lakehouse.contracts import silver
from lakehouse.expired import expired_ends
from lakehouse.files import filesystem
from lakehouse.jobs import checkpoint
from lakehouse.settings import Settings
from lakehouse.spans import Span, holes
from lakehouse.tables import Table

FIRST_OF = {
    topics.EVENTS: (silver.BALANCE, "start_offset"),
    topics.DECISIONS: (silver.DECISIONS, "decision_offset"),
    topics.SHADOW: (silver.SHADOW, "shadow_offset"),
}
"""What silver made of a topic, and the column of its offsets: it may begin before what bronze still has."""


@dataclass(frozen=True)
class Missing:
    """A range of a topic that neither its table of bronze nor Kafka holds."""

    topic: str
    name: str
    """Of the topic, on the broker."""
    span: Span
    at_end: bool
    """The table ends before it: the stream cannot go on."""
    dense: bool
    """Every offset of the topic is a record."""

    @property
    def table(self) -> Table:
        """The table that lacks it."""
        return TABLES[self.topic]

    def text(self) -> str:
        """One line for people."""
        records = f"{'' if self.dense else 'at most '}{self.span.end - self.span.start} records"
        where = "it ends before them" if self.at_end else "its rows were lost"
        return (
            f"{self.table.name}, partition {self.span.partition}: offsets {self.span.start} to {self.span.end} "
            f"({records}; {where}) are on topic {self.name} no more"
        )


def runs(offsets: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """The ranges of consecutive numbers among some."""
    ascending = np.unique(offsets)
    cuts = np.flatnonzero(np.diff(ascending) > 1)
    firsts, lasts = np.append(0, cuts + 1), np.append(cuts, len(ascending) - 1)
    return [(int(ascending[a]), int(ascending[b]) + 1) for a, b in zip(firsts, lasts, strict=True) if len(ascending)]


def named(root: str, table: Table, span: Span) -> list[tuple[int, int]]:
    """The ranges of a span's partition that are written off already."""
    return [(one.start, one.end) for one in write_offs.ranges(root, table) if one.key == span.key]


def missing(settings: Settings, topic: str) -> list[Missing]:
    """What is missing of a topic, partition by partition, in the order of its offsets; nothing before it first landed.

    Behind a transactional engine the topic has holes that hold no record, and a hole in the table may be one of them:
    there only what the stream has not read is known to be missing.
    """
    root, table = conf.lake_root(settings), TABLES[topic]
    identity = topics.identify(settings, topic)
    ends = storage.written_ends(root, table)
    for key in ends:
        identity.check(key.rsplit("/", 1)[0], table.name)
    dense = topic != topics.DECISIONS or settings.engine.delivery != "transactional"
    found: list[Missing] = []
    for partition in range(identity.partitions):
        span = Span(identity.topic_id, partition, 0, 0)
        end = ends.get(span.key)
        if end is None:
            continue
        low, _ = broker.watermarks(settings, identity.name, partition)
        lost = _lost(root, topic, replace(span, end=min(end, low))) if dense else []
        unread = end if dense else max(end, _read_up_to(root, table, identity.name, partition))
        ranges = [(a, b, False) for a, b in lost] + ([(unread, low, True)] if unread < low else [])
        found += [
            Missing(topic, identity.name, Span(identity.topic_id, partition, a, b), at_end, dense)
            for a, b, at_end in ranges
        ]
    return found


def _lost(root: str, topic: str, span: Span) -> list[tuple[int, int]]:
    """Holes in a table up to the end of `span`: from the first offset that the lake had, or bronze's retention kept."""
    table, (made, column) = TABLES[topic], FIRST_OF[topic]
    assert made.position is not None
    reader = delta.opened(root, table)
    here = delta.of_partition(span.topic_id, span.partition)
    batches = delta.dataset(reader).scanner(columns=["offset"], filter=here).to_batches()
    held = [one for batch in batches for one in runs(batch.column(0).to_numpy())]
    of_silver = delta.of_partition(span.topic_id, span.partition, made.position)
    taken = pc.min(delta.rows(root, made, [column], of_silver).column(column)).as_py()
    firsts = [first for first, _ in held] + ([] if taken is None else [taken])
    begin = max(expired_ends(reader).get(span.key, 0), min(firsts, default=span.end))
    return holes(held + named(root, table, span), begin, span.end)


def _read_up_to(root: str, table: Table, name: str, partition: int) -> int:
    """The offset behind the last record that the stream's checkpoint says was taken; 0 where it does not say."""
    store = filesystem(checkpoint(root, table.name))
    done = [f.base_name for f in store.get_file_info(fs.FileSelector("commits", allow_not_found=True))]
    latest = max((int(number) for number in done if number.isdigit()), default=-1)
    try:
        with store.open_input_file(f"offsets/{latest}") as file:
            told: dict[str, dict[str, Any]] = orjson.loads(file.read().splitlines()[-1])
        return int(told[name][str(partition)])
    except (OSError, ValueError, KeyError, IndexError):
        return 0
