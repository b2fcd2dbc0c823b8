"""A state's blocks laid one after the other: close together on disk and between machines, with their room in memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from features.layout import LABEL
from features.ring import EVENT, EVENTS_USED, FIRST_CAPACITY, KEYS, LABELS_USED, MERGED, MERGED_USED, NONE, no_counters
from lakehouse.compiled import compiled

Saved = Mapping[str, npt.NDArray[Any]]


@compiled
def _copy(events, merged, labels, record, new_events, new_merged, new_labels, counters, roomy):
    """Blocks and labels of the records' keys behind the used parts of the new arrays; `roomy` with free places."""
    for i in range(len(record)):
        key = record[i]
        used = counters[EVENTS_USED]
        for j in range(key.length):
            new_events[used + j] = events[key.at + j]
        key.at = used
        counters[EVENTS_USED] = used + ((FIRST_CAPACITY << key.size_class) if roomy else key.length)
        if key.merged_at != NONE:
            used = counters[MERGED_USED]
            for j in range(key.merged_length):
                new_merged[used + j] = merged[key.merged_at + j]
            key.merged_at = used
            counters[MERGED_USED] = used + ((FIRST_CAPACITY << key.merged_class) if roomy else key.merged_length)
        at, last = np.int64(key.label_head), np.int64(NONE)
        key.label_head = NONE
        while at != NONE:
            used = counters[LABELS_USED]
            new_labels[used] = labels[at]
            new_labels[used].next = NONE
            if last == NONE:
                key.label_head = used
            else:
                new_labels[last].next = used
            last = used
            counters[LABELS_USED] = used + 1
            at = labels[at].next


def _sizes(record: npt.NDArray[np.void], roomy: bool) -> tuple[int, int]:
    """Places that the keys' events and merged entries take."""
    merged = record[record["merged_at"] != NONE]
    if not roomy:
        return int(record["length"].sum()), int(merged["merged_length"].sum())
    events, entries = (FIRST_CAPACITY << c.astype(np.int64) for c in (record["size_class"], merged["merged_class"]))
    return int(events.sum()), int(entries.sum())


def copied(
    parts: list[tuple[npt.NDArray[np.void], Saved]], roomy: bool = False, slack: float = 0.0
) -> dict[str, npt.NDArray[Any]]:
    """One state of (records, arrays that they point into), in this order; with `slack` more room at every end."""
    record = np.concatenate([mine for mine, _ in parts])
    counters = no_counters()
    counters[KEYS] = len(record)
    sizes = np.sum([_sizes(mine, roomy) for mine, _ in parts], axis=0)
    labels = sum(len(held["labels"]) for _, held in parts)
    room = [int(n * (1 + slack)) for n in (*sizes, labels)]
    events, merged, new_labels = np.zeros(room[0], EVENT), np.zeros(room[1], MERGED), np.zeros(room[2], LABEL)
    begin = 0
    for mine, held in parts:
        end = begin + len(mine)
        source = held["events"], held["merged"], held["labels"]
        _copy(*source, record[begin:end], events, merged, new_labels, counters, roomy)
        begin = end
    if not slack:
        new_labels = new_labels[: counters[LABELS_USED]]
    return {"record": record, "events": events, "merged": merged, "labels": new_labels, "counters": counters}
