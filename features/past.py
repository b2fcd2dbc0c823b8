"""The past once more: silver's records in the order of the log, through the kernel in this process, piece by piece.

What the history driver does shard by shard, without Spark: the same records, the same kernel, the same bits. A piece's
rows are read while the piece before it is worked on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from expectations.switching import switches
from features import snapshot, store
from features.bases import newest_base
from features.flow import Flow
from features.inputs import Placed
from features.preparing import COLUMNS, placed_of
from features.records import empty
from features.renaming import Names, renaming
from features.state import Flags, Matrix
from features.waiting import joined
from lakehouse import delta
from lakehouse.contracts import silver
from lakehouse.settings import Settings, resolve
from lakehouse.spans import Span
from lakehouse.tables import Table
from lakehouse.workplace import workplace

PIECE = 65_536
"""Positions that are read and computed together: a row group of a file."""
TABLES: Mapping[str, Table] = {
    "payment": silver.PAYMENTS,
    "authorisation": silver.AUTHORISATIONS,
    "label": silver.LABELS,
}
"""What the kernel's records are made of."""

Said = Callable[[str], None]
"""Is told the stage of which the work is done: read, prepare, features."""


class Piece(NamedTuple):
    """The payments of some positions, in the order of the log."""

    rows: pa.RecordBatch
    """Of silver.payments."""
    vectors: Matrix
    capped: Flags
    """Who named somebody that found no place below the cap of keys."""
    next_offset: int


def columns_of(table: Table) -> list[str]:
    """The columns of silver that the kernel's records are made of."""
    return [name for name in table.column_names if name in COLUMNS]


def parts(root: str, span: Span) -> Iterator[Span]:
    """A span cut where the token key changes: everybody has one name in each part."""
    start = span.start
    for switch in switches(root, span.topic_id, span.partition, span.end):
        if switch.offset >= start:
            yield replace(span, start=start, end=switch.offset)
            start = switch.offset + 1
    yield replace(span, start=start)


def rebuilt(
    settings: Settings, root: str, part: Span, folders: Sequence[Path], more: Sequence[str], done: Said
) -> Iterator[Piece]:
    """The payments of a part with their features as of just before each; `more` are other columns that are wanted.

    From the newest snapshot in front of the part, or from an empty state. Pieces without payments of the part are
    given too, so that whoever counts sees how far it is.
    """
    base = newest_base(settings, root, part, folders)
    begin = 0 if base is None else snapshot.position(base)
    flow = Flow(store.spec_of(settings)) if base is None else store.load(base, settings, part.topic_id).flow
    whole = replace(part, start=begin)
    with workplace(resolve(settings.features.snapshot_folder)) as working:
        names = renaming(settings, root, whole, working).opened()
    for span, rows in _read(root, whole, more):
        done("read")
        placed = {kind: _placed(kind, rows[kind], names) for kind in TABLES}
        events = joined([placed["payment"], placed["authorisation"]])
        done("prepare")
        vectors = flow.take(events, placed["label"])
        done("features")
        first = int(np.searchsorted(placed["payment"].offset, part.start))
        yield Piece(rows["payment"].slice(first), vectors[first:], flow.capped[first:], span.end)


def _placed(kind: str, rows: pa.RecordBatch, names: Names) -> Placed:
    if rows.num_rows:
        return placed_of(kind, rows, names)
    return Placed(empty(0), np.zeros(0, np.int64), np.zeros(0, np.int64))


def _read(root: str, span: Span, more: Sequence[str]) -> Iterator[tuple[Span, dict[str, pa.RecordBatch]]]:
    """The rows of every piece of a span by kind, sorted; the next piece is read meanwhile."""
    wanted = {kind: columns_of(table) for kind, table in TABLES.items()}
    wanted["payment"] += [name for name in more if name not in wanted["payment"]]

    def read(piece: Span) -> dict[str, pa.RecordBatch]:
        return {
            kind: _batch(delta.rows(root, table, wanted[kind], delta.within(piece)).sort_by("offset"))
            for kind, table in TABLES.items()
        }

    pieces = [replace(span, start=at, end=min(at + PIECE, span.end)) for at in range(span.start, span.end, PIECE)]
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(read, pieces[0]) if pieces else None
        for number, piece in enumerate(pieces):
            assert coming is not None
            rows = coming.result()
            if number + 1 < len(pieces):
                coming = ahead.submit(read, pieces[number + 1])
            yield piece, rows


def _batch(rows: pa.Table) -> pa.RecordBatch:
    batches = rows.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], rows.schema)
