"""Topic `events` gives up its records up to an offset, for every reader: Kafka cannot delete single ones.

Only where nobody needs them from there any more: bronze holds every record that the topic still has, silver has taken
them, and there is a state file from behind them that an engine begins with.
"""

import numpy as np

from lakehouse import broker, delta, state_files, storage, topics, trail
from lakehouse import settings as conf
from lakehouse.contracts import bronze, silver
from lakehouse.errors import RangeMissing, Terminal
from lakehouse.settings import Settings, resolve
from lakehouse.spans import Span


def shortened(settings: Settings, topic_id: str, partition: int, end: int, token: str) -> int:
    """Delete what topic `events` has below `end`, on record; how many records went, others' included.

    RangeMissing, with the range, where somebody still needs one.
    """
    identity = topics.identify(settings, topics.EVENTS)
    identity.check(topic_id, "silver")
    if identity.partitions > 1:
        raise Terminal(
            f"Topic {identity.name} has {identity.partitions} partitions, and the state of one engine is known here.",
            "Look at the state of each, then use kafka-delete-records; or leave the records to the topic's retention.",
        )
    low, _ = broker.watermarks(settings, identity.name, partition)
    if low >= end:
        return 0
    _refuse_unless_landed(conf.lake_root(settings), Span(topic_id, partition, low, end))
    _refuse_unless_passed(settings, end)
    trail.record(settings, "log.shortened", token, {"topic": identity.name, "from_offset": low, "to_offset": end})
    return broker.delete_below(settings, identity.name, partition, end) - low


def _refuse_unless_landed(root: str, span: Span) -> None:
    held = np.unique(delta.rows(root, bronze.EVENTS, ["offset"], delta.within(span)).column("offset").to_numpy())
    if len(held) < span.end - span.start:
        lacking = np.setdiff1d(np.arange(span.start, span.end), held)
        first, end = int(lacking[0]), int(lacking[-1]) + 1
        raise RangeMissing(
            f"bronze.events lacks {len(lacking)} of the offsets {span.start} to {span.end} of partition "
            f"{span.partition}, from {first} to {end}; topic events keeps its records.",
            f"Land them first: python -m bronze.job --from-position {first} --to-position {end}",
        )
    done = storage.written_ends(root, silver.BALANCE).get(span.key, 0)
    if done < span.end:
        raise RangeMissing(
            f"silver has not taken offsets {done} to {span.end} of partition {span.partition}; topic events keeps its "
            "records.",
            "Run silver.job first.",
        )


def _refuse_unless_passed(settings: Settings, end: int) -> None:
    """An engine begins at its own newest state file, or where it has none at that of the history driver."""
    folders = [resolve(settings.engine.state_folder), resolve(settings.features.snapshot_folder)]
    own = state_files.newest(folders[:1])
    found = max(map(state_files.position, own or state_files.newest(folders)), default=0)
    if found < end:
        whose = "The engine's newest state file" if own else "The newest state file of features.job"
        raise RangeMissing(
            f"{whose} ends at offset {found}: an engine that starts again needs offsets {found} to {end} from topic "
            "events, which keeps its records.",
            "A running engine writes one every engine.snapshot_interval_s; without an engine, run features.job.",
        )
