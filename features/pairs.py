"""The kernel of pairs: what two entities did together; payments only, no windows."""

import numpy as np

from features.expressions import evaluate
from features.prefetch import AHEAD, prefetch
from features.records import AUTHORISED, LABELLED
from features.ring import EXPIRED, KEYS, NONE, ROOM_FOR_KEYS
from features.table import first_place, place_of, put
from lakehouse.compiled import compiled


@compiled
def pair_key(first, second):
    """One 64-bit key of two (finaliser of SplitMix64 over a multiplicative mix)."""
    mixed = np.uint64(first) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(second)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    key = np.int64(mixed ^ (mixed >> np.uint64(31)))
    return key if key != 0 else np.int64(1)


@compiled
def _look_ahead(s, plan, records, i):
    n = len(records.what)
    if i + 2 * AHEAD < n:
        whose = records.who[i + 2 * AHEAD]
        key = pair_key(whose[plan.columns[0]], whose[plan.columns[1]])
        prefetch(s.table, first_place(s.table, key), 0)
    if i + AHEAD < n:
        whose = records.who[i + AHEAD]
        slot = s.table[place_of(s.table, s.record, pair_key(whose[plan.columns[0]], whose[plan.columns[1]]))].slot
        if slot != NONE:
            prefetch(s.record, slot, 0)


@compiled
def advance_pairs(s, plan, records, begin, result, capped):
    """Take payments [begin, n) into a pair's state and write its features; returns as kernel.advance does."""
    statistics = s.statistics
    for i in range(begin, len(records.what)):
        _look_ahead(s, plan, records, i)
        if records.what[i] == LABELLED or records.what[i] == AUTHORISED:
            continue
        first, second = records.who[i, plan.columns[0]], records.who[i, plan.columns[1]]
        if first == 0 or second == 0:
            continue
        key = pair_key(first, second)
        at = place_of(s.table, s.record, key)
        slot = np.int64(s.table[at].slot)
        if slot == NONE:
            n = s.counters[KEYS]
            if n >= plan.max_keys:
                capped[records.row[i]] = True
                continue
            if n >= len(s.record):
                return i, ROOM_FOR_KEYS
            s.counters[KEYS] = n + 1
            put(s.table, at, key, n)
            s.record[n].key = key
            s.record[n].owner = first
            s.record[n].last = -(1 << 62)
            slot = n
        record = s.record[slot]
        now = max(records.event_ms[i], record.last)
        if record.count > 0 and now - record.last > plan.retention_ms:
            record.count = 0
            record.sum = 0
            record.max = 0
            s.counters[EXPIRED] += 1
        known = record.count > 0
        amount = records.amount[i]
        statistics[0] = 1.0 if known else 0.0
        statistics[1] = (now - record.first) / 1000 if known else np.nan
        statistics[2] = (now - record.last) / 1000 if known else np.nan
        statistics[3] = np.float64(record.count)
        statistics[4] = np.float64(record.sum)
        statistics[5] = record.sum / record.count if known else np.nan
        statistics[6] = np.float64(record.max) if known else np.nan
        evaluate(plan.program, records.payment[i], statistics, result[records.row[i]])
        if not known:
            record.first = now
            record.max = amount
        record.last = now
        record.count += 1
        record.sum += amount
        record.max = max(record.max, amount)
    return len(records.what), 0
