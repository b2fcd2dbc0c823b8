"""States taken apart by shard and put together again; a key's numbers do not change by it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features.packing import Saved, copied
from features.ring import KEYS, no_counters

Ints = npt.NDArray[np.int64]


def shard_of(keys: Ints, shards: int) -> Ints:
    """The shard of every key, 0 to shards - 1."""
    mixed = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(33)) % np.uint64(shards)).astype(np.int64)


def together(
    parts: Sequence[Saved], keep: Sequence[npt.NDArray[np.bool_]] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """One saved state of several with different keys; of each only the keys of its mask in `keep`, if given."""
    records = [p["record"] if keep is None else p["record"][keep[i]] for i, p in enumerate(parts)]
    if "events" in parts[0]:
        return copied(list(zip(records, parts, strict=True)))
    counters = no_counters()
    counters[KEYS] = sum(map(len, records))
    return {"record": np.concatenate(records), "counters": counters}
