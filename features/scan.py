"""All windows of a key in one pass over its ring, and how the payment behind them enters it."""

import numpy as np

from features.arithmetic import SKETCH_BITS, SKETCH_COUNTS
from features.records import DECLINED, FOREIGN, REMOTE, SMALL
from features.ring import (
    FLAG_BITS,
    IS_DECLINED,
    IS_FOREIGN,
    IS_PAID,
    IS_REMOTE,
    IS_SMALL,
    NEWEST,
    NONE,
    bit_of,
    joined_m2,
)
from features.statistics import WINDOWED
from lakehouse.compiled import compiled

_WIDTH = len(WINDOWED)


@compiled
def _short(who):
    # 32 bits of a counterpart's hash; never zero for somebody.
    low = np.uint32(np.uint64(who) & np.uint64(0xFFFFFFFF))
    return low if low or who == 0 else np.uint32(1)


@compiled
def _estimate(bits, exact):
    n = 0
    while bits:
        bits &= bits - np.uint64(1)
        n += 1
    return max(np.float64(exact), SKETCH_COUNTS[SKETCH_BITS - n])


@compiled
def scan(s, slot, records, i, now, plan, statistics, counts):
    """Window statistics of payment i's key, and payments per bound in `counts`; returns the four places of `append`.

    Bounds are window lengths in ms, ascending. Newest first: a counterpart is counted where its newest event is. The
    places returned are those whose counterparts payment i names again; NONE where there is none.
    """
    record = s.record[slot]
    events, merged = s.events, s.merged
    w1 = _short(records.who[i, plan.columns[1]])
    w2 = _short(records.who[i, plan.columns[2]])
    w3 = _short(records.who[i, plan.columns[3]])
    w4 = _short(records.who[i, plan.columns[4]])
    again1, again2, again3, again4 = NONE, NONE, NONE, NONE
    count, total, largest, m2 = 0, np.int64(0), np.int64(0), 0.0
    declined, remote, small, foreign = 0, 0, 0, 0
    exact1, exact2, exact3, exact4 = 0, 0, 0, 0
    bits1, bits2, bits3, bits4 = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
    sketched = False
    first, j = record.at, record.at + record.length - 1
    first_merged, m = record.merged_at, record.merged_at + record.merged_length - 1
    for b in range(len(plan.bounds)):
        limit = now - plan.bounds[b]
        # Flags fill the low bits, so an event at the limit or before is at most this.
        edge = (limit << FLAG_BITS) | ((1 << FLAG_BITS) - 1)
        while j >= first:
            event = events[j]
            flags = event.when
            if flags <= edge:
                break
            declined += (flags & IS_DECLINED) >> 1
            if flags & IS_PAID:
                amount = event.amount
                if count > 0:
                    # Youngs and Cramer 1971: one more value joins a sum of squared deviations.
                    away = np.float64(total) - np.float64(count) * np.float64(amount)
                    m2 += away * away / (np.float64(count) * np.float64(count + 1))
                count += 1
                total += amount
                largest = max(largest, amount)
                remote += (flags >> 2) & 1
                small += (flags >> 3) & 1
                foreign += (flags >> 4) & 1
                exact1 += (flags >> NEWEST) & 1
                exact2 += (flags >> (NEWEST + 1)) & 1
                exact3 += (flags >> (NEWEST + 2)) & 1
                exact4 += (flags >> (NEWEST + 3)) & 1
                if event.who1 == w1 and flags & (1 << NEWEST):
                    again1 = j
                if event.who2 == w2 and flags & (2 << NEWEST):
                    again2 = j
                if event.who3 == w3 and flags & (4 << NEWEST):
                    again3 = j
                if event.who4 == w4 and flags & (8 << NEWEST):
                    again4 = j
            j -= 1
        while m >= first_merged and merged[m].last > limit:
            entry = merged[m]
            if not sketched and b < plan.distinct_bounds:
                sketched = True
                for k in range(first, first + record.length):
                    event = events[k]
                    bits1 |= bit_of(event.who1) if event.who1 else np.uint64(0)
                    bits2 |= bit_of(event.who2) if event.who2 else np.uint64(0)
                    bits3 |= bit_of(event.who3) if event.who3 else np.uint64(0)
                    bits4 |= bit_of(event.who4) if event.who4 else np.uint64(0)
            m2 = joined_m2(m2, count, total, entry.m2, entry.count, entry.amount)
            count += entry.count
            total += entry.amount
            largest = max(largest, entry.max)
            declined += entry.declined
            remote += entry.remote
            small += entry.small
            foreign += entry.foreign
            bits1 |= entry.who1
            bits2 |= entry.who2
            bits3 |= entry.who3
            bits4 |= entry.who4
            m -= 1
        counts[b] = count
        if plan.window_of[b] == NONE:
            continue
        o = plan.window_of[b] * _WIDTH
        statistics[o] = count
        statistics[o + 1] = total
        statistics[o + 2] = largest if count > 0 else np.nan
        statistics[o + 3] = total / count if count > 0 else np.nan
        statistics[o + 4] = np.sqrt(m2 / (count - 1)) if count > 1 else np.nan
        if b >= plan.distinct_bounds:
            statistics[o + 5 : o + 9] = np.nan
        elif sketched:
            statistics[o + 5] = _estimate(bits1, exact1)
            statistics[o + 6] = _estimate(bits2, exact2)
            statistics[o + 7] = _estimate(bits3, exact3)
            statistics[o + 8] = _estimate(bits4, exact4)
        else:
            statistics[o + 5] = exact1
            statistics[o + 6] = exact2
            statistics[o + 7] = exact3
            statistics[o + 8] = exact4
        statistics[o + 9] = declined
        statistics[o + 10] = remote
        statistics[o + 11] = small
        statistics[o + 12] = foreign
    return again1, again2, again3, again4


@compiled
def append(s, slot, records, i, now, plan, again):
    """Payment i as the newest event of its ring; `again` are the events that no longer have the newest counterpart."""
    for k in range(4):
        if again[k] != NONE:
            s.events[again[k]].when &= ~(np.int64(1) << (NEWEST + k))
    flags = records.flags[i]
    what = IS_PAID
    what |= IS_DECLINED if flags & DECLINED else 0
    what |= IS_REMOTE if flags & REMOTE else 0
    what |= IS_SMALL if flags & SMALL else 0
    what |= IS_FOREIGN if flags & FOREIGN else 0
    event = s.events[s.record[slot].at + s.record[slot].length]
    event.amount = records.amount[i]
    event.who1 = _short(records.who[i, plan.columns[1]])
    event.who2 = _short(records.who[i, plan.columns[2]])
    event.who3 = _short(records.who[i, plan.columns[3]])
    event.who4 = _short(records.who[i, plan.columns[4]])
    what |= (1 << NEWEST) if event.who1 else 0
    what |= (2 << NEWEST) if event.who2 else 0
    what |= (4 << NEWEST) if event.who3 else 0
    what |= (8 << NEWEST) if event.who4 else 0
    event.when = (now << FLAG_BITS) | what
    s.record[slot].length += 1


@compiled
def append_declined(s, slot, now):
    """A declined authorisation as the newest event of its ring."""
    event = s.events[s.record[slot].at + s.record[slot].length]
    event.when = (now << FLAG_BITS) | IS_DECLINED
    event.amount = 0
    event.who1 = 0
    event.who2 = 0
    event.who3 = 0
    event.who4 = 0
    s.record[slot].length += 1
