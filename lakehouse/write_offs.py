"""lake.write_offs: ranges of topics whose loss somebody has accepted, and whose decisions may lie in them."""

import pyarrow.compute as pc

from lakehouse import delta
from lakehouse.contracts import bronze, silver
from lakehouse.contracts.lake import WRITE_OFFS
from lakehouse.spans import Span
from lakehouse.tables import Table

NO_END = 1 << 62
"""An offset after every offset."""


def ranges(root: str, table: Table) -> list[Span]:
    """The ranges that a table of bronze lacks and that are written off."""
    columns = ["topic_id", "partition", "start_offset", "end_offset"]
    found = delta.rows(root, WRITE_OFFS, columns, pc.field("place") == table.name).to_pylist()
    return [Span(*(row[name] for name in columns)) for row in found]


def undecided(root: str) -> list[Span]:
    """Offsets of topic `events` whose decisions may be among those that were written off.

    Decisions are made in the order of the log: they lie between the last one that silver has from before a range and
    the first one from behind it.
    """
    place = silver.DECISIONS.position
    assert place is not None
    found = []
    for lost in ranges(root, bronze.DECISIONS):
        here = delta.of_partition(lost.topic_id, lost.partition, place)
        before, behind = (
            delta.rows(root, silver.DECISIONS, ["topic_id", "offset"], here & side)
            for side in (pc.field(place[2]) < lost.start, pc.field(place[2]) >= lost.end)
        )
        last, first = pc.max(before.column("offset")).as_py(), pc.min(behind.column("offset")).as_py()
        topic_ids = {*before.column("topic_id").to_pylist()[:1], *behind.column("topic_id").to_pylist()[:1]}
        start, end = 0 if last is None else last + 1, NO_END if first is None else first
        found += [Span(topic_id, lost.partition, start, end) for topic_id in topic_ids]
    return found
