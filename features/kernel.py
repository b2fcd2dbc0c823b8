"""The kernel: records in log order through the state of one entity (or pair); features out, just before each payment.

A feature of a payment sees the records before it and the payment's own fields, nothing else: statistics are computed
first, then the payment enters the state. A key's clock is the running maximum of its event times, so a late event
counts as happening now; only distance and speed use true times.
"""

import numpy as np
from numba import njit

from features.expressions import evaluate
from features.fraud_labels import label_statistics, take_label
from features.layout import ROOM_FOR_KEYS, ROOM_IN_POOL
from features.long_term import forget, long_term_statistics, remember
from features.records import AUTHORISED, DECLINED, FOREIGN, LABELLED, REMOTE, SMALL
from features.ring import EXPIRED, KEYS, NONE, allocate, scan, with_room
from features.statistics import ENTITY, WINDOWED
from features.table import place_of


@njit(cache=True)
def _slot_for(s, plan, key):
    """(slot, room that is lacking); slot NONE with nothing lacking means that the cap is reached."""
    at = place_of(s.table_key, s.table_slot, key)
    slot = np.int64(s.table_slot[at])
    if slot != NONE:
        return slot, 0
    n = s.counters[KEYS]
    if n >= plan.max_keys:
        return NONE, 0
    if n >= len(s.record) or 2 * n >= len(s.table_key):
        return NONE, ROOM_FOR_KEYS
    block = allocate(s.pool, s.counters, 0)
    if block == NONE:
        return NONE, ROOM_IN_POOL
    s.counters[KEYS] = n + 1
    s.table_key[at] = key
    s.table_slot[at] = n
    s.block[n] = block
    s.size_class[n] = 0
    s.length[n] = 0
    s.label_head[n] = NONE
    s.record[n].key = key
    s.record[n].clock = -(1 << 62)
    return n, 0


@njit(cache=True)
def _short(who):
    # 32 bits of a counterpart's hash; never zero for somebody.
    low = np.uint64(who) & np.uint64(0xFFFFFFFF)
    return low if low or who == 0 else np.uint64(1)


@njit(cache=True)
def _append(s, slot, records, i, now, plan, paid):
    entry = s.pool[s.block[slot] + s.length[slot]]
    flags = records.flags[i]
    entry.last = now
    entry.m2 = 0.0
    entry.width = 0
    entry.declined = 1 if flags & DECLINED else 0
    if paid:
        entry.count = 1
        entry.sum = records.amount[i]
        entry.max = records.amount[i]
        entry.who1 = _short(records.who[i, plan.columns[1]])
        entry.who2 = _short(records.who[i, plan.columns[2]])
        entry.who3 = _short(records.who[i, plan.columns[3]])
        entry.who4 = _short(records.who[i, plan.columns[4]])
        entry.remote = 1 if flags & REMOTE else 0
        entry.small = 1 if flags & SMALL else 0
        entry.foreign = 1 if flags & FOREIGN else 0
    else:
        entry.count = 0
        entry.sum = 0
        entry.max = 0
        entry.who1 = 0
        entry.who2 = 0
        entry.who3 = 0
        entry.who4 = 0
        entry.remote = 0
        entry.small = 0
        entry.foreign = 0
    s.length[slot] += 1


@njit(cache=True)
def advance(s, plan, records, begin, result, capped):
    """Take records [begin, n) into an entity's state and write its features into `result`.

    Returns (next record, room lacking): with nothing lacking, all were taken; else the caller makes room and calls
    again from that record, whose state is untouched. `capped` counts payments whose key found no place.
    """
    statistics = np.empty(len(ENTITY))
    counts = np.empty(len(plan.bounds))
    longest = plan.bounds[-1]
    key_column = plan.columns[0]
    for i in range(begin, len(records.what)):
        key = records.who[i, key_column]
        if key == 0:
            continue
        what = records.what[i]
        slot, lacking = _slot_for(s, plan, key)
        if lacking:
            return i, lacking
        if slot == NONE:
            capped[0] += 1
            continue
        if what == LABELLED:
            lacking = take_label(s, slot, records, i)
            if lacking:
                return i, lacking
            continue
        record = s.record[slot]
        now = max(records.event_ms[i], record.clock)
        if record.count > 0 and now - record.last > plan.retention_ms:
            forget(s, slot, key)
            s.counters[EXPIRED] += 1
        paid = what != AUTHORISED
        declined = records.flags[i] & DECLINED
        if (paid or declined) and not with_room(
            s.pool, s.counters, s.block, s.length, s.size_class, slot, now, longest
        ):
            return i, ROOM_IN_POOL
        s.record[slot].clock = now
        if paid:
            s.stamp[0] += 1
            scan(
                s.pool,
                s.block[slot],
                s.length[slot],
                now,
                plan.bounds,
                plan.window_of,
                s.seen,
                s.stamp[0],
                len(WINDOWED),
                statistics,
                counts,
            )
            label_statistics(s, slot, now, plan, counts, statistics)
            long_term_statistics(s, slot, records, i, now, statistics)
            evaluate(plan.program, records.payment[i], statistics, result[records.row[i]])
            _append(s, slot, records, i, now, plan, True)
            remember(s, slot, records, i, now)
        elif declined:
            _append(s, slot, records, i, now, plan, False)
            s.record[slot].declines += 1
            s.record[slot].life_declined += 1
        else:
            s.record[slot].declines = 0
    return len(records.what), 0
