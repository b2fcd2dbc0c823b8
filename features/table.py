"""Open-addressing tables from 64-bit keys to slots, and the growing of arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lakehouse.compiled import compiled

TABLE = np.dtype([("slot", np.int32), ("tag", np.uint32)])
"""One place: where a key's record is, and half of the key's hash, so that other keys' records are rarely looked at."""
NONE = -1
FIRST_PLACES = 2048


@compiled
def _mixed(key):
    return np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)


@compiled
def _first(table, mixed):
    return np.int64(mixed >> np.uint64(20)) & (len(table) - 1)


@compiled
def first_place(table, key):
    """Where the search for a key begins."""
    return _first(table, _mixed(key))


@compiled
def place_of(table, record, key):
    """Where a key is, or would be put."""
    mixed = _mixed(key)
    tag = np.uint32(mixed >> np.uint64(32))
    at = _first(table, mixed)
    while table[at].slot != NONE and (table[at].tag != tag or record[table[at].slot].key != key):
        at = (at + 1) & (len(table) - 1)
    return at


@compiled
def put(table, at, key, slot):
    """Take a place for a key."""
    table[at].slot = slot
    table[at].tag = np.uint32(_mixed(key) >> np.uint64(32))


@compiled
def _fill(table, record):
    for slot in range(len(record)):
        put(table, place_of(table, record, record[slot].key), record[slot].key, slot)


def tabled(held: npt.NDArray[np.void], places: int) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
    """A table of so many places (a power of two) of the records' keys, and the records with the room that it has.

    At three quarters full a search still ends after two or three places.
    """
    table = np.zeros(places, TABLE)
    table["slot"] = NONE
    record = grown(held, places * 3 // 4)
    _fill(table, record[: len(held)])
    return table, record


def places_for(keys: int) -> int:
    """Places of the smallest table for so many keys and some more."""
    return max(FIRST_PLACES, 1 << int(keys * 1.5).bit_length())


def grown(array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """The array with room for `length` rows; new rows are zero."""
    out = np.zeros((length, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out
