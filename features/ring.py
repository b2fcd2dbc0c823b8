"""The age ring: an entity's recent events, newest scanned first, old ones merged so that no ring grows for ever.

A ring is a block of entries in one pool, oldest first. An entry is a single event until its ring is full at
MERGE_FROM entries or more; then neighbours are merged as long as the merged entry is not wider than 1/64 of its age, so
the far edge of a window moves by at most 1/64 of the window. What is older than the longest window goes first, and a
ring that stays three quarters full doubles. Blocks come in sizes of powers of two; freed ones are used again.
"""

import numpy as np
from numba import njit

from features.arithmetic import SKETCH_BITS, SKETCH_COUNTS

ENTRY = np.dtype(
    [
        ("last", np.int64),  # time of the newest event in it, ms
        ("sum", np.int64),
        ("max", np.int64),
        ("m2", np.float64),  # sum of squared deviations from the entry's mean
        ("who1", np.uint64),  # single entry: 32-bit hash of the counterpart, 0 for none; merged entry: 64-bit sketch
        ("who2", np.uint64),
        ("who3", np.uint64),
        ("who4", np.uint64),
        ("width", np.uint32),  # ms between oldest and newest event; the top bit marks a merged entry
        ("count", np.uint32),  # payments
        ("declined", np.uint32),
        ("remote", np.uint32),
        ("small", np.uint32),
        ("foreign", np.uint32),
    ]
)
MERGED = np.uint32(1 << 31)
RESOLUTION = 64
MERGE_FROM = 64
"""Smaller rings only grow: an ordinary card, about one payment a day, is exact for the whole of the longest window."""
FIRST_CAPACITY = 4
CLASSES = 40
NONE = -1

# Places in a ring state's `counters`.
KEYS, POOL_USED, LABELS_USED, LABEL_FREE, EXPIRED, FREE_BLOCKS = 0, 1, 2, 3, 4, 8


@njit(cache=True)
def bit_of(hash32):
    """The sketch bit of a counterpart."""
    return np.uint64(1) << ((np.uint64(hash32) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - 6))


@njit(cache=True)
def _sketch(who, merged):
    if merged or who == 0:
        return who
    return bit_of(who)


@njit(cache=True)
def allocate(pool, counters, size_class):
    """A free block of FIRST_CAPACITY << size_class entries; NONE when the pool is used up."""
    head = counters[FREE_BLOCKS + size_class]
    if head != NONE:
        counters[FREE_BLOCKS + size_class] = pool[head].last
        return head
    size = FIRST_CAPACITY << size_class
    at = counters[POOL_USED]
    if at + size > len(pool):
        return NONE
    counters[POOL_USED] = at + size
    return at


@njit(cache=True)
def release(pool, counters, at, size_class):
    """Give a block back."""
    pool[at].last = counters[FREE_BLOCKS + size_class]
    counters[FREE_BLOCKS + size_class] = at


@njit(cache=True)
def _merge(into, newer):
    was_merged = (into.width & MERGED) != 0
    is_merged = (newer.width & MERGED) != 0
    if into.count > 0 and newer.count > 0:
        # Chan, Golub and LeVeque 1983: the deviations of two sets joined.
        delta = newer.sum / newer.count - into.sum / into.count
        together = np.float64(into.count) + np.float64(newer.count)
        into.m2 += newer.m2 + delta * delta * np.float64(into.count) * np.float64(newer.count) / together
    else:
        into.m2 += newer.m2
    into.who1 = _sketch(into.who1, was_merged) | _sketch(newer.who1, is_merged)
    into.who2 = _sketch(into.who2, was_merged) | _sketch(newer.who2, is_merged)
    into.who3 = _sketch(into.who3, was_merged) | _sketch(newer.who3, is_merged)
    into.who4 = _sketch(into.who4, was_merged) | _sketch(newer.who4, is_merged)
    first = into.last - np.int64(into.width & ~MERGED)
    into.last = newer.last
    into.width = np.uint32(newer.last - first) | MERGED
    into.count += newer.count
    into.sum += newer.sum
    into.max = max(into.max, newer.max)
    into.declined += newer.declined
    into.remote += newer.remote
    into.small += newer.small
    into.foreign += newer.foreign


@njit(cache=True)
def _copy(pool, to, source):
    target, entry = pool[to], pool[source]
    target.last = entry.last
    target.sum = entry.sum
    target.max = entry.max
    target.m2 = entry.m2
    target.who1 = entry.who1
    target.who2 = entry.who2
    target.who3 = entry.who3
    target.who4 = entry.who4
    target.width = entry.width
    target.count = entry.count
    target.declined = entry.declined
    target.remote = entry.remote
    target.small = entry.small
    target.foreign = entry.foreign


@njit(cache=True)
def compact(pool, at, length, now, longest, merge):
    """Drop what is older than the longest window and, if `merge`, join neighbours; the new length."""
    write = at
    for read in range(at, at + length):
        entry = pool[read]
        if entry.last <= now - longest:
            continue
        if merge and write > at:
            before = pool[write - 1]
            first = before.last - np.int64(before.width & ~MERGED)
            if (entry.last - first) * RESOLUTION <= now - entry.last:
                _merge(before, entry)
                continue
        if write != read:
            _copy(pool, write, read)
        write += 1
    return write - at


@njit(cache=True)
def _has_block(pool, counters, size_class):
    return counters[FREE_BLOCKS + size_class] != NONE or counters[POOL_USED] + (FIRST_CAPACITY << size_class) <= len(
        pool
    )


@njit(cache=True)
def with_room(pool, counters, block, length, size_class, slot, now, longest):
    """Make room for one more entry in a slot's ring; False, and nothing changed, when the pool must grow first.

    When a ring is merged and when it doubles depends on the key's own records only, never on who else is in the pool:
    everything that merging touches would depend on it too.
    """
    capacity = FIRST_CAPACITY << size_class[slot]
    if length[slot] < capacity:
        return True
    if not _has_block(pool, counters, size_class[slot] + 1):
        return False
    length[slot] = compact(pool, block[slot], length[slot], now, longest, capacity >= MERGE_FROM)
    if length[slot] * 4 <= capacity * 3:
        return True
    bigger = allocate(pool, counters, size_class[slot] + 1)
    for i in range(length[slot]):
        _copy(pool, bigger + i, block[slot] + i)
    release(pool, counters, block[slot], size_class[slot])
    block[slot] = bigger
    size_class[slot] += 1
    return True


@njit(cache=True)
def _is_new(seen, row, stamp, mask, who):
    at = np.int64((who * np.uint64(0x9E3779B1)) & np.uint64(0xFFFFFFFF)) & mask
    mark = (np.uint64(stamp) << np.uint64(32)) | who
    while True:
        held = seen[row, at]
        if held == mark:
            return 0
        if held >> np.uint64(32) != np.uint64(stamp):
            seen[row, at] = mark
            return 1
        at = (at + 1) & mask


@njit(cache=True)
def _zeros(bits):
    n = 0
    while bits:
        bits &= bits - np.uint64(1)
        n += 1
    return SKETCH_BITS - n


@njit(cache=True)
def scan(pool, at, length, now, bounds, window_of, seen, stamp, width, statistics, counts):
    """All windows of a ring in one pass from its newest entry: window statistics, and payments per bound in `counts`.

    `bounds` are window lengths in ms, ascending; `window_of` is the place of a bound's statistics in units of `width`,
    NONE where only the count is wanted. `seen` (4, power of two >= 2 x length) and `stamp` are scratch.
    """
    count, total, largest, m2 = 0, np.int64(0), np.int64(0), 0.0
    declined, remote, small, foreign = 0, 0, 0, 0
    exact1, exact2, exact3, exact4 = 0, 0, 0, 0
    bits1, bits2, bits3, bits4 = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
    sketched = False
    mask = 7
    while mask + 1 < 2 * length:
        mask = mask * 2 + 1
    j = at + length - 1
    for b in range(len(bounds)):
        limit = now - bounds[b]
        while j >= at and pool[j].last > limit:
            entry = pool[j]
            if entry.count > 0:
                if count > 0:
                    delta = total / count - entry.sum / entry.count
                    together = np.float64(count) + np.float64(entry.count)
                    m2 += entry.m2 + delta * delta * np.float64(count) * np.float64(entry.count) / together
                else:
                    m2 = entry.m2
                count += entry.count
                total += entry.sum
                largest = max(largest, entry.max)
                remote += entry.remote
                small += entry.small
                foreign += entry.foreign
                if entry.width & MERGED:
                    sketched = True
                    bits1 |= entry.who1
                    bits2 |= entry.who2
                    bits3 |= entry.who3
                    bits4 |= entry.who4
                else:
                    if entry.who1:
                        exact1 += _is_new(seen, 0, stamp, mask, entry.who1)
                        bits1 |= bit_of(entry.who1)
                    if entry.who2:
                        exact2 += _is_new(seen, 1, stamp, mask, entry.who2)
                        bits2 |= bit_of(entry.who2)
                    if entry.who3:
                        exact3 += _is_new(seen, 2, stamp, mask, entry.who3)
                        bits3 |= bit_of(entry.who3)
                    if entry.who4:
                        exact4 += _is_new(seen, 3, stamp, mask, entry.who4)
                        bits4 |= bit_of(entry.who4)
            declined += entry.declined
            j -= 1
        counts[b] = count
        if window_of[b] == NONE:
            continue
        o = window_of[b] * width
        statistics[o] = count
        statistics[o + 1] = total
        statistics[o + 2] = largest if count > 0 else np.nan
        statistics[o + 3] = total / count if count > 0 else np.nan
        statistics[o + 4] = np.sqrt(m2 / (count - 1)) if count > 1 else np.nan
        if sketched:
            statistics[o + 5] = max(np.float64(exact1), SKETCH_COUNTS[_zeros(bits1)])
            statistics[o + 6] = max(np.float64(exact2), SKETCH_COUNTS[_zeros(bits2)])
            statistics[o + 7] = max(np.float64(exact3), SKETCH_COUNTS[_zeros(bits3)])
            statistics[o + 8] = max(np.float64(exact4), SKETCH_COUNTS[_zeros(bits4)])
        else:
            statistics[o + 5] = exact1
            statistics[o + 6] = exact2
            statistics[o + 7] = exact3
            statistics[o + 8] = exact4
        statistics[o + 9] = declined
        statistics[o + 10] = remote
        statistics[o + 11] = small
        statistics[o + 12] = foreign
