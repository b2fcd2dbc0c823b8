"""Where a run over a span of silver may begin: no holes below its end, and the newest snapshot that fits."""

from collections.abc import Sequence
from pathlib import Path

from expectations.switching import token_version
from features import snapshot, store
from lakehouse import delta
from lakehouse.contracts import bronze, silver
from lakehouse.errors import RangeMissing, SnapshotRefused
from lakehouse.expired import first_held
from lakehouse.log import logger
from lakehouse.settings import Settings
from lakehouse.spans import Span


def refuse_holes(root: str, span: Span) -> None:
    """RangeMissing unless silver holds everything below the end of a span."""
    names = ["topic_id", "partition", "start_offset", "offset"]
    done = delta.rows(root, silver.BALANCE, names)
    end = 0
    for row in sorted(done.to_pylist(), key=lambda r: r["start_offset"]):
        if (row["topic_id"], row["partition"]) != (span.topic_id, span.partition):
            continue
        if row["start_offset"] > end:
            lacking = f"silver lacks offsets {end} to {row['start_offset']} of partition {span.partition}"
            if first_held(root, bronze.EVENTS, span.key) > end:
                raise RangeMissing(
                    f"{lacking}, and bronze.events does not hold them: a state without them is not the engine's.",
                    'What can be done: lakehouse/RUNBOOK.md, "Records that Kafka deleted too early".',
                )
            raise RangeMissing(
                f"{lacking}.", f"python -m silver.job --from-position {end} --to-position {row['start_offset']}"
            )
        end = max(end, row["offset"] + 1)
    if end < span.end:
        raise RangeMissing(f"silver ends at offset {end}, before {span.end}.", "Run silver.job first.")


def tokens_behind(settings: Settings, root: str, span: Span) -> int:
    """The key version of the tokens behind a span."""
    return token_version(settings, root, span.topic_id, span.partition, span.end)


def newest_base(settings: Settings, root: str, span: Span, folders: Sequence[Path]) -> Path | None:
    """The newest good snapshot at or before a span, of the tokens behind its end; None: from an empty state."""
    version = tokens_behind(settings, root, span)
    for path in snapshot.newest(list(folders)):
        if snapshot.position(path) > span.start:
            continue
        try:
            meta = snapshot.read(path).meta
            store.check(path, meta, settings, span.topic_id)
        except SnapshotRefused as error:
            logger("features").warning("snapshot not used", reason=error.what)
            continue
        except FileNotFoundError:
            continue  # deleted meanwhile by a run that left a newer one
        if meta["token_version"] == version:
            return path
    return None
