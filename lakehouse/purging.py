"""Sealed records that are emptied on request: their rows stay at their places, what was sealed leaves every file.

`lake.purges` names them by position before anything is changed. Only files that hold one are written anew; every other
value of every row is what it was. Then the files that left the table and still hold one are deleted, whatever commits
they were of, so versions from before a purge cannot be read any more. Each step can be done again after a crash.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from urllib.parse import unquote

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction
from pyarrow import fs

from lakehouse import delta, high_water, lineage
from lakehouse.contracts import bronze, silver
from lakehouse.contracts.lake import PURGES
from lakehouse.crash import crash_point
from lakehouse.files import FORMAT, Batches, Writer, added, arrow_schema, filesystem
from lakehouse.mending import ASIDE
from lakehouse.purged import MARK
from lakehouse.spans import Span
from lakehouse.tables import Table

TABLES = (silver.QUARANTINE, bronze.EVENTS)
"""What holds records of topic `events` as received; bronze last, as it holds what a purge is found by."""
EMPTY = b""
"""What is sealed of a purged record."""


def empty(root: str, span: Span) -> list[int]:
    """Offsets of a span whose records bronze.events holds purged, ascending; none that is empty without a purge."""
    here = delta.within(span) & (pc.field("place") == bronze.EVENTS.name)
    named = delta.rows(root, PURGES, ["offset"], here).column("offset")
    if not len(named):
        return []
    gone = delta.within(span) & pc.field("offset").isin(named) & (pc.binary_length(pc.field("sealed")) == 0)
    return sorted(delta.rows(root, bronze.EVENTS, ["offset"], gone).column("offset").to_pylist())


def everywhere(root: str, topic_id: str, place: str) -> set[tuple[int, int]]:
    """(partition, offset) of all records of a topic that are to be empty in a place."""
    here = (pc.field("topic_id") == topic_id) & (pc.field("place") == place)
    rows = delta.rows(root, PURGES, ["partition", "offset"], here)
    return set(zip(rows.column("partition").to_pylist(), rows.column("offset").to_pylist(), strict=True))


def asked(root: str, erasure_id: str) -> dict[str, tuple[dict[tuple[str, int], set[int]], datetime]]:
    """By place, what a purge names: offsets by topic id and partition, and when it was first asked for."""
    out: dict[str, tuple[dict[tuple[str, int], set[int]], datetime]] = {}
    rows = delta.rows(root, PURGES, PURGES.column_names, pc.field("erasure_id") == erasure_id).to_pylist()
    for row in rows:
        offsets, since = out.get(row["place"], ({}, row["asked_at"]))
        offsets.setdefault((row["topic_id"], row["partition"]), set()).add(row["offset"])
        out[row["place"]] = offsets, min(since, row["asked_at"])
    return out


def entered(
    root: str, topic_id: str, partition: int, erasure_id: str, places: Mapping[str, Sequence[int]], now: datetime
) -> None:
    """Write down which records of a partition are to be empty in which place, in one commit."""
    at = {"topic_id": topic_id, "partition": partition, "erasure_id": erasure_id, "asked_at": now}
    rows = [{**at, "place": place, "offset": offset} for place, offsets in places.items() for offset in offsets]
    if rows:
        delta.append(root, PURGES, rows)
        crash_point("purge-named")


def _still_sealed(source: tuple[str, int], offsets: Sequence[int]) -> pc.Expression:
    here = delta.of_partition(*source) & pc.field("offset").isin(pa.array(offsets, pa.int64()))
    return here & (pc.binary_length(pc.field("sealed")) > 0)


def left(root: str, table: Table, source: tuple[str, int], offsets: Sequence[int]) -> int:
    """Records at these offsets of a topic id and partition that the table still holds sealed."""
    return delta.count(root, table, _still_sealed(source, offsets))


def emptied(root: str, table: Table, source: tuple[str, int], offsets: Sequence[int], erasure_id: str) -> int:
    """Empty what is sealed of some records, in one commit; how many of them were not empty."""
    delta.ensure(root, table)
    wanted = _still_sealed(source, offsets)
    while True:
        reader = delta.opened(root, table)
        found = delta.dataset(reader)
        concerned = {
            part: part.scanner(schema=found.schema, columns=[], filter=wanted).count_rows()
            for part in found.get_fragments()
        }
        rows = int(sum(concerned.values()))
        if not rows:
            return 0
        files = _written_anew(root, table, reader, found, [p for p, n in concerned.items() if n], wanted)
        told = {"userMetadata": orjson.dumps({MARK: erasure_id}).decode()}
        try:
            # No second attempt on what was read: whoever else has committed meanwhile, it is read again.
            reader.create_write_transaction(
                files, "append", reader.schema(), commit_properties=CommitProperties(told, 0)
            )
        except CommitFailedError:
            if DeltaTable(table.path(root)).version() == reader.version():
                raise
            continue
        crash_point("purge-emptied")
        delta.followed(root, table)
        lineage.wrote(table.name, reader.version() + 1, rows)
        return rows


def _written_anew(
    root: str,
    table: Table,
    reader: DeltaTable,
    found: ds.Dataset,
    parts: Sequence[ds.Fragment],
    wanted: pc.Expression,
) -> list[AddAction | RemoveAction]:
    """Files that take the place of some, with empty records where `wanted` holds."""
    actions = pa.table(reader.get_add_actions(flatten=True)).select(["path", "size_bytes"]).to_pylist()
    known = {unquote(action["path"]): action for action in actions}
    files: list[AddAction | RemoveAction] = []
    for part in parts:
        rows = _with_empty(table, part.to_batches(schema=found.schema), wanted)
        told = Writer(table, table.path(root)).written(rows)
        files += added(file for one in told for file in one.to_pylist())
        old = known[part.path]
        files.append(RemoveAction(old["path"], True, int(time.time() * 1000), old["size_bytes"]))
    return files


def _with_empty(table: Table, batches: Batches, wanted: pc.Expression) -> Iterator[pa.RecordBatch]:
    schema = arrow_schema(table)
    at = schema.get_field_index("sealed")
    for batch in batches:
        rows = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
        numbered = pa.table({"row": np.arange(rows.num_rows), **{n: rows.column(n) for n in (*delta.PLACE, "sealed")}})
        gone = np.zeros(rows.num_rows, np.bool_)
        gone[numbered.filter(wanted).column("row").to_numpy()] = True
        sealed = pc.if_else(pa.array(gone), pa.scalar(EMPTY, pa.binary()), rows.column("sealed"))
        yield from rows.set_column(at, schema.field(at), sealed).to_batches()


def old_files(root: str, table: Table, source: tuple[str, int], offsets: Sequence[int]) -> list[str]:
    """Files that are in no current version and still hold one of the records sealed."""
    wanted, store = _still_sealed(source, offsets), filesystem(table.path(root))
    return [path for path in _out_of_use(root, table, store) if _counted(store, path, wanted)]


def removed(root: str, table: Table, source: tuple[str, int], offsets: Sequence[int]) -> int:
    """Delete the files in no current version that still hold one of the records sealed; how many."""
    holding = old_files(root, table, source, offsets)
    for path in holding:
        filesystem(table.path(root)).delete_file(path)
        crash_point("purge-file-removed")
    return len(holding)


def out_of_reach(root: str, table: Table) -> Iterator[tuple[str, str]]:
    """(place, what it holds) of files with sealed records that nobody can look into, or that a repair put aside."""
    store = filesystem(table.path(root))
    if torn := [path for path in _out_of_use(root, table, store) if _counted(store, path, None) is None]:
        yield f"{table.name}, unfinished files", f"{len(torn)} files that a writer left; vacuum removes them earlier"
    aside = fs.FileSelector(f"{ASIDE}/{table.name}", recursive=True, allow_not_found=True)
    if put := [info for info in filesystem(root).get_file_info(aside) if info.path.endswith(".parquet")]:
        yield f"{ASIDE}/{table.name}", f"{len(put)} files that a repair put aside; delete them when they are not needed"


def _out_of_use(root: str, table: Table, store: fs.FileSystem) -> list[str]:
    if not delta.exists(root, table):
        return []
    current = set(map(unquote, high_water.paths(delta.opened(root, table))))
    found = [info.path for info in store.get_file_info(fs.FileSelector("", recursive=True))]
    return [p for p in found if p.endswith(".parquet") and not p.startswith("_delta_log") and p not in current]


def _counted(store: fs.FileSystem, path: str, wanted: pc.Expression | None) -> int | None:
    """Rows of a file; 0 where vacuum was faster, None where it cannot be read."""
    try:
        return int(FORMAT.make_fragment(path, filesystem=store).scanner(columns=[], filter=wanted).count_rows())
    except FileNotFoundError:
        return 0
    except (OSError, pa.ArrowException):
        return None
