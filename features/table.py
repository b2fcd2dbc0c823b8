"""Open-addressing tables from 64-bit keys to slots, and the growing of arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

NONE = -1


@njit(cache=True)
def place_of(table_key, table_slot, key):
    """Where a key is, or would be put."""
    mask = len(table_key) - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    at = np.int64(mixed >> np.uint64(20)) & mask
    while table_slot[at] != NONE and table_key[at] != key:
        at = (at + 1) & mask
    return at


@njit(cache=True)
def fill(table_key, table_slot, keys):
    """Put keys 0..n-1 into an empty table."""
    for slot in range(len(keys)):
        at = place_of(table_key, table_slot, keys[slot])
        table_key[at] = keys[slot]
        table_slot[at] = slot


def grown(array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """The array with room for `length` rows; new rows are zero."""
    out = np.zeros((length, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out
