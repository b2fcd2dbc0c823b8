"""The kernel: records in log order through the state of one entity (or pair); features out, just before each payment.

A feature of a payment sees the records before it and the payment's own fields, nothing else: statistics are computed
first, then the payment enters the state. A key's clock is the running maximum of its event times, so a late event
counts as happening now; only distance and speed use true times.
"""

import numpy as np

from features.expressions import evaluate
from features.fraud_labels import label_statistics, take_label
from features.layout import RECORD
from features.long_term import forget, long_term_statistics, remember
from features.prefetch import AHEAD, prefetch
from features.records import AUTHORISED, DECLINED, LABELLED
from features.ring import (
    EVENTS_USED,
    EXPIRED,
    FREE_EVENTS,
    KEYS,
    NONE,
    ROOM_FOR_EVENTS,
    ROOM_FOR_KEYS,
    allocate,
    has_block,
    with_room,
)
from features.scan import append, append_declined, scan
from features.table import first_place, place_of, put
from lakehouse.compiled import compiled

EVENTS_AHEAD = 32
"""Of a longer ring the rest follows by itself: the processor sees that it is read line after line."""
RECORD_BYTES = RECORD.itemsize


@compiled
def _slot_for(s, plan, key):
    """(slot, room that is lacking); slot NONE with nothing lacking means that the cap is reached."""
    at = place_of(s.table, s.record, key)
    slot = np.int64(s.table[at].slot)
    if slot != NONE:
        return slot, 0
    n = s.counters[KEYS]
    if n >= plan.max_keys:
        return NONE, 0
    if n >= len(s.record):
        return NONE, ROOM_FOR_KEYS
    if not has_block(s.events, s.counters, EVENTS_USED, FREE_EVENTS, 0):
        return NONE, ROOM_FOR_EVENTS
    s.counters[KEYS] = n + 1
    put(s.table, at, key, n)
    record = s.record[n]
    record.key = key
    record.clock = -(1 << 62)
    record.at = allocate(s.events, s.counters, EVENTS_USED, FREE_EVENTS, 0)
    record.merged_at = NONE
    record.label_head = NONE
    return n, 0


@compiled
def _look_ahead(s, key_column, records, i):
    """Begin to load what later records need: places in the table first, then records, then the newest events."""
    n = len(records.what)
    if i + 3 * AHEAD < n:
        prefetch(s.table, first_place(s.table, records.who[i + 3 * AHEAD, key_column]), 0)
    if i + 2 * AHEAD < n:
        slot = s.table[place_of(s.table, s.record, records.who[i + 2 * AHEAD, key_column])].slot
        if slot != NONE:
            for byte in range(0, RECORD_BYTES, 64):
                prefetch(s.record, slot, byte)
    if i + AHEAD < n:
        slot = s.table[place_of(s.table, s.record, records.who[i + AHEAD, key_column])].slot
        if slot != NONE:
            record = s.record[slot]
            for event in range(max(0, record.length - EVENTS_AHEAD), record.length + 1, 2):
                prefetch(s.events, record.at + event, 0)


@compiled
def advance(s, plan, records, begin, result, capped):
    """Take records [begin, n) into an entity's state and write its features into `result`.

    Returns (next record, room lacking): with nothing lacking, all were taken; else the caller makes room and calls
    again from that record, whose state is untouched. `capped` is set for payments whose key found no place.
    """
    statistics, counts = s.statistics, s.counts
    longest = plan.bounds[-1]
    key_column = plan.columns[0]
    for i in range(begin, len(records.what)):
        _look_ahead(s, key_column, records, i)
        key = records.who[i, key_column]
        if key == 0:
            continue
        what = records.what[i]
        slot, lacking = _slot_for(s, plan, key)
        if lacking:
            return i, lacking
        if slot == NONE:
            if records.row[i] >= 0:
                capped[records.row[i]] = True
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
        if paid or declined:
            lacking = with_room(s, slot, now, longest)
            if lacking:
                return i, lacking
        record.clock = now
        if paid:
            again = scan(s, slot, records, i, now, plan, statistics, counts)
            label_statistics(s, slot, now, plan, counts, statistics)
            long_term_statistics(s, slot, records, i, now, statistics)
            evaluate(plan.program, records.payment[i], statistics, result[records.row[i]])
            append(s, slot, records, i, now, plan, again)
            remember(s, slot, records, i, now)
        elif declined:
            append_declined(s, slot, now)
            record.declines += 1
            record.life_declined += 1
        else:
            record.declines = 0
    return len(records.what), 0
