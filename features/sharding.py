"""States taken apart by shard and put together again; a key's numbers do not change by it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from features.layout import LABEL
from features.ring import CLASSES, FIRST_CAPACITY, FREE_BLOCKS, KEYS, LABEL_FREE, LABELS_USED, NONE, POOL_USED

Saved = Mapping[str, npt.NDArray[Any]]
Ints = npt.NDArray[np.int64]


def shard_of(keys: Ints, shards: int) -> Ints:
    """The shard of every key, 0 to shards - 1."""
    mixed = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(33)) % np.uint64(shards)).astype(np.int64)


@njit(cache=True)
def _copy_rings(source, block, length, size_class, target, new_block, used):
    for i in range(len(block)):
        new_block[i] = used
        for j in range(length[i]):
            target[used + j] = source[block[i] + j]
        used += FIRST_CAPACITY << size_class[i]
    return used


@njit(cache=True)
def _copy_labels(source, head, target, new_head, used):
    for i in range(len(head)):
        new_head[i] = NONE
        at, last = head[i], NONE
        while at != NONE:
            target[used] = source[at]
            target[used].next = NONE
            if last == NONE:
                new_head[i] = used
            else:
                target[last].next = used
            last = used
            used += 1
            at = source[at].next
    return used


def _counters(keys: int, pool_used: int, labels_used: int) -> Ints:
    counters = np.zeros(FREE_BLOCKS + CLASSES, np.int64)
    counters[FREE_BLOCKS:] = NONE
    counters[LABEL_FREE] = NONE
    counters[KEYS], counters[POOL_USED], counters[LABELS_USED] = keys, pool_used, labels_used
    return counters


def together(
    parts: Sequence[Saved], keep: Sequence[npt.NDArray[np.bool_]] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """One saved state of several with different keys; of each only the keys of its mask in `keep`, if given."""
    kept = [np.ones(len(p["record"]), np.bool_) for p in parts] if keep is None else list(keep)
    if "pool" not in parts[0]:
        record = np.concatenate([p["record"][mask] for p, mask in zip(parts, kept, strict=True)])
        return {"record": record, "counters": _counters(len(record), 0, 0)}
    plain = {
        name: np.concatenate([p[name][mask] for p, mask in zip(parts, kept, strict=True)])
        for name in ("record", "hours", "weekdays", "length", "size_class")
    }
    sizes = FIRST_CAPACITY << plain["size_class"].astype(np.int64)
    pool = np.zeros(int(sizes.sum()), parts[0]["pool"].dtype)
    labels = np.zeros(sum(len(p["labels"]) for p in parts), LABEL)
    n = len(plain["record"])
    block, head = np.zeros(n, np.int64), np.full(n, NONE, np.int32)
    used = labels_used = begin = 0
    for p, mask in zip(parts, kept, strict=True):
        end = begin + int(mask.sum())
        used = _copy_rings(
            p["pool"], p["block"][mask], p["length"][mask], p["size_class"][mask], pool, block[begin:end], used
        )
        labels_used = _copy_labels(p["labels"], p["label_head"][mask], labels, head[begin:end], labels_used)
        begin = end
    return {
        **plain,
        "block": block,
        "label_head": head,
        "pool": pool,
        "labels": labels[:labels_used],
        "counters": _counters(n, used, labels_used),
    }
