"""The age ring: an entity's recent events, one by one while they are few, old dense ones merged.

A key has two blocks, oldest first: `events`, single events in 32 bytes each, and behind them in time `merged`, entries
of several old events. When the events of a key fill a block of MERGE_FROM places or more, the oldest are merged as far
as that saves room: an entry takes the room of three events, and no entry is wider than 1/64 of its age, so the far edge
of a window moves by at most 1/64 of the window. What is older than the longest window goes first, and a block that
stays three quarters full doubles. Blocks come in sizes of powers of two; freed ones are used again.
"""

import numpy as np
import numpy.typing as npt

from lakehouse.compiled import compiled

EVENT = np.dtype(
    [
        ("when", np.int64),  # ms << FLAG_BITS | flags
        ("amount", np.int64),
        ("who1", np.uint32),  # hash of the counterpart, 0 for none
        ("who2", np.uint32),
        ("who3", np.uint32),
        ("who4", np.uint32),
    ]
)
MERGED = np.dtype(
    [
        ("last", np.int64),  # time of the newest event in it, ms
        ("amount", np.int64),  # sum
        ("max", np.int64),
        ("m2", np.float64),  # sum of squared deviations from the entry's mean
        ("who1", np.uint64),  # sketch of the counterparts
        ("who2", np.uint64),
        ("who3", np.uint64),
        ("who4", np.uint64),
        ("width", np.uint32),  # ms between oldest and newest event
        ("count", np.uint32),  # payments
        ("declined", np.uint32),
        ("remote", np.uint32),
        ("small", np.uint32),
        ("foreign", np.uint32),
    ]
)
FLAG_BITS = 9
IS_PAID, IS_DECLINED, IS_REMOTE, IS_SMALL, IS_FOREIGN = (1 << bit for bit in range(5))
NEWEST = 5
"""The four bits from here: the event's counterpart has no newer event in the ring. A distinct count is a count of
them."""
RESOLUTION = 64
MERGE_FROM = 64
"""Smaller rings only grow: an ordinary card, about one payment a day, is exact for the whole of the longest window."""
FIRST_CAPACITY = 4
CLASSES = 24
NONE = -1
EVENTS_AN_ENTRY = 3
"""Single events that take the room of one merged entry."""

# Places in a state's `counters`.
KEYS, EVENTS_USED, MERGED_USED, LABELS_USED, LABEL_FREE, EXPIRED = range(6)
FREE_EVENTS = 8
FREE_MERGED = FREE_EVENTS + CLASSES
COUNTERS = FREE_MERGED + CLASSES
ROOM_FOR_KEYS, ROOM_FOR_EVENTS, ROOM_FOR_MERGED, ROOM_FOR_LABELS = 1, 2, 3, 4


def no_counters() -> npt.NDArray[np.int64]:
    """Counters of an empty state."""
    counters = np.zeros(COUNTERS, np.int64)
    counters[FREE_EVENTS:] = NONE
    counters[LABEL_FREE] = NONE
    return counters


@compiled
def bit_of(hash32):
    """The sketch bit of a counterpart."""
    return np.uint64(1) << ((np.uint64(hash32) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - 6))


@compiled
def has_block(pool, counters, used, free, size_class):
    """Whether a block of a size can be had without the pool's growing."""
    return counters[free + size_class] != NONE or counters[used] + (FIRST_CAPACITY << size_class) <= len(pool)


@compiled
def allocate(pool, counters, used, free, size_class):
    """A block of FIRST_CAPACITY << size_class places; `has_block` said that there is one."""
    head = counters[free + size_class]
    if head != NONE:
        counters[free + size_class] = pool[head].amount
        return head
    at = counters[used]
    counters[used] = at + (FIRST_CAPACITY << size_class)
    return at


@compiled
def release(pool, counters, free, at, size_class):
    """Give a block back."""
    pool[at].amount = counters[free + size_class]
    counters[free + size_class] = at


@compiled
def _moved(pool, to, source, length):
    for i in range(length):
        pool[to + i] = pool[source + i]


@compiled
def class_of(length):
    """The smallest size class that holds so many."""
    size_class = 0
    while (FIRST_CAPACITY << size_class) < length:
        size_class += 1
    return size_class


@compiled
def _joins(first, last, now):
    """Whether events from `first` to `last` may be one entry."""
    return (last - first) * RESOLUTION <= now - last


@compiled
def _foldable(s, record, now):
    """(events, entries): how many of the oldest events to merge, into how many new entries, to save the most room."""
    events, best, entries, saved = s.events, 0, 0, 0
    first = np.int64(0)
    held = record.merged_length > 0
    if held:
        entry = s.merged[record.merged_at + record.merged_length - 1]
        first = entry.last - np.int64(entry.width)
    new = 0
    for i in range(record.length):
        at = events[record.at + i].when >> FLAG_BITS
        if not held or not _joins(first, at, now):
            new += 1
            first = at
            held = True
        if i + 1 - EVENTS_AN_ENTRY * new > saved:
            best, entries, saved = i + 1, new, i + 1 - EVENTS_AN_ENTRY * new
    return best, entries


@compiled
def _single(entry, event):
    """A merged entry of one event."""
    flags = event.when
    paid = flags & IS_PAID
    entry.last = event.when >> FLAG_BITS
    entry.width = 0
    entry.amount = event.amount
    entry.max = event.amount
    entry.m2 = 0.0
    entry.who1 = bit_of(event.who1) if event.who1 else np.uint64(0)
    entry.who2 = bit_of(event.who2) if event.who2 else np.uint64(0)
    entry.who3 = bit_of(event.who3) if event.who3 else np.uint64(0)
    entry.who4 = bit_of(event.who4) if event.who4 else np.uint64(0)
    entry.count = 1 if paid else 0
    entry.declined = 1 if flags & IS_DECLINED else 0
    entry.remote = 1 if flags & IS_REMOTE else 0
    entry.small = 1 if flags & IS_SMALL else 0
    entry.foreign = 1 if flags & IS_FOREIGN else 0


@compiled
def joined_m2(m2, count, total, other_m2, other_count, other_total):
    """Sum of squared deviations of two sets together (Chan, Golub and LeVeque 1983)."""
    if count == 0:
        return other_m2
    if other_count == 0:
        return m2
    n, m = np.float64(count), np.float64(other_count)
    delta = total / n - other_total / m
    return m2 + other_m2 + delta * delta * n * m / (n + m)


@compiled
def _join(into, newer):
    first = into.last - np.int64(into.width)
    into.m2 = joined_m2(into.m2, into.count, into.amount, newer.m2, newer.count, newer.amount)
    into.last = newer.last
    into.width = np.uint32(newer.last - first)
    into.max = max(into.max, newer.max)
    into.amount += newer.amount
    into.who1 |= newer.who1
    into.who2 |= newer.who2
    into.who3 |= newer.who3
    into.who4 |= newer.who4
    into.count += newer.count
    into.declined += newer.declined
    into.remote += newer.remote
    into.small += newer.small
    into.foreign += newer.foreign


@compiled
def _compacted(s, record, now, longest):
    """Drop old merged entries and join neighbours that may be joined by now."""
    merged, at = s.merged, record.merged_at
    write = at
    for read in range(at, at + record.merged_length):
        entry = merged[read]
        if entry.last <= now - longest:
            continue
        if write > at:
            before = merged[write - 1]
            if _joins(before.last - np.int64(before.width), entry.last, now):
                _join(before, entry)
                continue
        if write != read:
            merged[write] = merged[read]
        write += 1
    record.merged_length = write - at


@compiled
def _fold(s, record, now, fold):
    """Merge the oldest `fold` events behind the merged entries, which have room for them."""
    for i in range(fold):
        event = s.events[record.at + i]
        at = event.when >> FLAG_BITS
        _single(s.fresh[0], event)
        if record.merged_length > 0:
            before = s.merged[record.merged_at + record.merged_length - 1]
            if _joins(before.last - np.int64(before.width), at, now):
                _join(before, s.fresh[0])
                continue
        s.merged[record.merged_at + record.merged_length] = s.fresh[0]
        record.merged_length += 1
    record.length -= fold
    _moved(s.events, record.at, record.at + fold, record.length)


@compiled
def _room_to_merge(s, record, length):
    """Room for `length` merged entries of a key; behind the used part of the pool there is enough."""
    if length <= 0 or (record.merged_at != NONE and length <= FIRST_CAPACITY << record.merged_class):
        return
    size_class = class_of(length)
    block = allocate(s.merged, s.counters, MERGED_USED, FREE_MERGED, size_class)
    if record.merged_at != NONE:
        _moved(s.merged, block, record.merged_at, record.merged_length)
        release(s.merged, s.counters, FREE_MERGED, record.merged_at, record.merged_class)
    record.merged_at = block
    record.merged_class = size_class


@compiled
def with_room(s, slot, now, longest):
    """Make room for one more event of a key; the room that is lacking, with nothing changed, when a pool must grow.

    When events are merged and when a block doubles depends on the key's own records only, never on who else is in the
    pool: everything that merging touches would depend on it too.
    """
    record = s.record[slot]
    capacity = FIRST_CAPACITY << record.size_class
    if record.length < capacity:
        return 0
    if not has_block(s.events, s.counters, EVENTS_USED, FREE_EVENTS, record.size_class + 1):
        return ROOM_FOR_EVENTS
    most = FIRST_CAPACITY << class_of(record.merged_length + record.length // EVENTS_AN_ENTRY)
    if capacity >= MERGE_FROM and s.counters[MERGED_USED] + most > len(s.merged):
        return ROOM_FOR_MERGED
    gone = 0
    while gone < record.length and s.events[record.at + gone].when >> FLAG_BITS <= now - longest:
        gone += 1
    record.length -= gone
    _moved(s.events, record.at, record.at + gone, record.length)
    if record.length * 4 <= capacity * 3:
        return 0
    if capacity >= MERGE_FROM:
        _compacted(s, record, now, longest)
        fold, entries = _foldable(s, record, now)
        if fold:
            _room_to_merge(s, record, record.merged_length + entries)
            _fold(s, record, now, fold)
        if record.length * 4 <= capacity * 3:
            return 0
    bigger = allocate(s.events, s.counters, EVENTS_USED, FREE_EVENTS, record.size_class + 1)
    _moved(s.events, bigger, record.at, record.length)
    release(s.events, s.counters, FREE_EVENTS, record.at, record.size_class)
    record.at = bigger
    record.size_class += 1
    return 0
