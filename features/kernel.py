"""The kernel: records in log order through the state of one entity (or pair); features out, just before each payment.

A feature of a payment sees the records before it and the payment's own fields, nothing else: statistics are computed
first, then the payment enters the state. A key's clock is the running maximum of its event times, so a late event
counts as happening now; only distance and speed use true times.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from features.arithmetic import distance_km, distance_to_mean_km, unit_vector
from features.expressions import evaluate
from features.records import AUTHORISED, DECLINED, FOREIGN, FRAUD, LABELLED, REMOTE, SMALL
from features.ring import (
    EXPIRED,
    KEYS,
    LABEL_FREE,
    LABELS_USED,
    NONE,
    allocate,
    scan,
    with_room,
)
from features.statistics import DELAYED_AT, ENTITY, LABEL_AT, LONG_TERM, LONG_TERM_AT, PAIR, WINDOWED
from features.table import place_of
from features.windows import DAY_MS, HOUR_MS

RECORD = np.dtype(
    [
        ("key", np.int64),
        ("clock", np.int64),  # running maximum of event times, ms
        ("first", np.int64),  # clock at the first payment
        ("last", np.int64),  # clock at the last payment
        ("count", np.int64),
        ("sum", np.int64),
        ("max", np.int64),
        ("mean", np.float64),
        ("m2", np.float64),
        ("last_amount", np.int64),
        ("last_day", np.int64),
        ("days", np.int64),
        ("x", np.float64),  # sum of unit vectors of past places
        ("y", np.float64),
        ("z", np.float64),
        ("located", np.int64),
        ("located_at", np.int64),  # true event time of the last located payment
        ("latitude", np.float64),
        ("longitude", np.float64),
        ("country", np.int64),
        ("merchant", np.int64),
        ("device", np.int64),
        ("ip", np.int64),
        ("category", np.int64),
        ("rising", np.int64),
        ("small", np.int64),
        ("repeat", np.int64),
        ("declines", np.int64),
        ("life_declined", np.int64),
        ("life_remote", np.int64),
        ("life_foreign", np.int64),
        ("life_fraud", np.int64),
        ("fraud_amount", np.int64),
        ("last_fraud", np.int64),
    ]
)
PAIR_RECORD = np.dtype(
    [
        ("key", np.int64),
        ("owner", np.int64),  # key of the first entity, in whose shard the pair lives
        ("clock", np.int64),
        ("first", np.int64),
        ("last", np.int64),
        ("count", np.int64),
        ("sum", np.int64),
        ("max", np.int64),
    ]
)
LABEL = np.dtype(
    [("at", np.int64), ("id", np.int64), ("amount", np.int64), ("next", np.int64), ("standing", np.int64)]
)
"""`standing`: 1 a fraud label that counts, 0 one that was taken back, -1 a reversal that came before its label."""

TRUE_TIME_LIMIT_S = 60.0
"""Distance and speed are unknown for payments that arrive later than this: their place in the order is not their time."""
MIN_SPEED_GAP_MS = 1000
LABEL_MEMORY_MS = 400 * DAY_MS


class EntityArrays(NamedTuple):
    """The state of one entity; `seen` is scratch."""

    table_key: npt.NDArray[np.int64]
    table_slot: npt.NDArray[np.int32]
    record: npt.NDArray[np.void]
    hours: npt.NDArray[np.uint16]
    weekdays: npt.NDArray[np.uint16]
    block: npt.NDArray[np.int64]
    length: npt.NDArray[np.int32]
    size_class: npt.NDArray[np.int8]
    label_head: npt.NDArray[np.int32]
    pool: npt.NDArray[np.void]
    labels: npt.NDArray[np.void]
    counters: npt.NDArray[np.int64]
    blank: npt.NDArray[np.void]
    """One record of zeros."""
    seen: npt.NDArray[np.uint64]
    stamp: npt.NDArray[np.int64]


class PairArrays(NamedTuple):
    """The state of one pair."""

    table_key: npt.NDArray[np.int64]
    table_slot: npt.NDArray[np.int32]
    record: npt.NDArray[np.void]
    counters: npt.NDArray[np.int64]


class Plan(NamedTuple):
    """What to compute for one entity or pair: windows, whom to count, and its features as a program."""

    columns: npt.NDArray[np.int64]
    """Columns of Records.who: the key (two for pairs), then the four counterparts of an entity."""
    bounds: npt.NDArray[np.int64]
    window_of: npt.NDArray[np.int64]
    label_windows: npt.NDArray[np.int64]
    delayed: npt.NDArray[np.int64]
    """(label windows, 2): bounds whose counts are subtracted to give the payments of a delayed window."""
    retention_ms: int
    max_keys: int
    program: npt.NDArray[np.int64]
    """(features, 5): operation, three operands, column of the result."""


ROOM_FOR_KEYS, ROOM_IN_POOL, ROOM_FOR_LABELS = 1, 2, 3


@njit(cache=True)  # type: ignore[untyped-decorator]
def _forget(s, slot, key):
    """A key's state as if it had never been seen."""
    head = s.label_head[slot]
    while head != NONE:
        following = s.labels[head].next
        s.labels[head].next = s.counters[LABEL_FREE]
        s.counters[LABEL_FREE] = head
        head = following
    s.label_head[slot] = NONE
    s.length[slot] = 0
    s.hours[slot] = 0
    s.weekdays[slot] = 0
    record = s.record[slot]
    clock = record.clock
    s.record[slot] = s.blank[0]
    s.record[slot].key = key
    s.record[slot].clock = clock


@njit(cache=True)  # type: ignore[untyped-decorator]
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


@njit(cache=True)  # type: ignore[untyped-decorator]
def _label_statistics(s, slot, now, plan, counts, out):
    for w in range(len(plan.label_windows)):
        out[LABEL_AT + w] = 0.0
        out[DELAYED_AT + w] = counts[plan.delayed[w, 1]] - counts[plan.delayed[w, 0]]
    at = s.label_head[slot]
    while at != NONE:
        label = s.labels[at]
        if label.at <= now - LABEL_MEMORY_MS:
            break
        if label.standing == 1:
            for w in range(len(plan.label_windows)):
                if label.at > now - plan.label_windows[w]:
                    out[LABEL_AT + w] += 1.0
        at = label.next


@njit(cache=True)  # type: ignore[untyped-decorator]
def _long_term(s, slot, records, i, now, out):
    record = s.record[slot]
    known = record.count > 0
    n = np.float64(record.count)
    o = LONG_TERM_AT
    out[o] = 1.0 if known else 0.0
    out[o + 1] = (now - record.first) / 1000 if known else np.nan
    out[o + 2] = (now - record.last) / 1000 if known else np.nan
    out[o + 3] = n
    out[o + 4] = np.float64(record.sum)
    out[o + 5] = record.mean if known else np.nan
    out[o + 6] = np.sqrt(record.m2 / (n - 1)) if record.count > 1 else np.nan
    out[o + 7] = np.float64(record.max) if known else np.nan
    out[o + 8] = np.float64(record.last_amount) if known else np.nan
    out[o + 9] = np.float64(record.days)
    out[o + 10] = (record.last - record.first) / 1000 / (n - 1) if record.count > 1 else np.nan
    hour = (now // HOUR_MS) % 24
    near = (
        np.float64(s.hours[slot, hour]) + np.float64(s.hours[slot, (hour + 1) % 24]) + np.float64(s.hours[slot, hour - 1])
    )
    out[o + 11] = near / n if known else np.nan
    out[o + 12] = np.float64(s.weekdays[slot, (now // DAY_MS) % 7]) / n if known else np.nan
    out[o + 13] = np.nan
    out[o + 14] = np.nan
    out[o + 15] = np.nan
    on_time = records.payment[i, -1] <= TRUE_TIME_LIMIT_S
    if record.located > 0 and not np.isnan(records.latitude[i]) and not np.isnan(records.longitude[i]):
        out[o + 15] = distance_to_mean_km(record.x, record.y, record.z, records.latitude[i], records.longitude[i])
        if on_time:
            km = distance_km(record.latitude, record.longitude, records.latitude[i], records.longitude[i])
            gap = max(abs(records.event_ms[i] - record.located_at), MIN_SPEED_GAP_MS)
            out[o + 13] = km
            out[o + 14] = km / (gap / HOUR_MS)
    out[o + 16] = np.float64(record.located)
    for k, held, column in ((17, record.country, 5), (18, record.merchant, 2), (19, record.device, 3), (20, record.ip, 4), (21, record.category, 7)):
        given = records.who[i, column]
        out[o + k] = np.nan if held == 0 or given == 0 else (1.0 if held == given else 0.0)
    out[o + 22] = np.float64(record.rising)
    out[o + 23] = np.float64(record.small)
    out[o + 24] = np.float64(record.repeat)
    out[o + 25] = np.float64(record.declines)
    out[o + 26] = np.float64(record.life_declined)
    out[o + 27] = np.float64(record.life_remote)
    out[o + 28] = np.float64(record.life_foreign)
    out[o + 29] = np.float64(record.life_fraud)
    out[o + 30] = np.float64(record.fraud_amount)
    out[o + 31] = (now - record.last_fraud) / 1000 if record.life_fraud > 0 else np.nan


@njit(cache=True)  # type: ignore[untyped-decorator]
def _short(who):
    # 32 bits of a counterpart's hash; never zero for somebody.
    low = np.uint64(who) & np.uint64(0xFFFFFFFF)
    return low if low or who == 0 else np.uint64(1)


@njit(cache=True)  # type: ignore[untyped-decorator]
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


@njit(cache=True)  # type: ignore[untyped-decorator]
def _remember(s, slot, records, i, now):
    record = s.record[slot]
    amount, flags = records.amount[i], records.flags[i]
    if record.count == 0:
        record.first = now
        record.max = amount
        record.last_day = -1
    record.rising = record.rising + 1 if record.count > 0 and amount > record.last_amount else 0
    record.repeat = record.repeat + 1 if record.count > 0 and amount == record.last_amount else 0
    record.small = record.small + 1 if flags & SMALL else 0
    record.count += 1
    record.sum += amount
    record.max = max(record.max, amount)
    delta = amount - record.mean
    record.mean += delta / record.count
    record.m2 += delta * (amount - record.mean)
    record.last = now
    record.last_amount = amount
    day = now // DAY_MS
    if day != record.last_day:
        record.days += 1
        record.last_day = day
    hour, weekday = (now // HOUR_MS) % 24, day % 7
    if s.hours[slot, hour] < 65535:
        s.hours[slot, hour] += 1
    if s.weekdays[slot, weekday] < 65535:
        s.weekdays[slot, weekday] += 1
    if not np.isnan(records.latitude[i]) and not np.isnan(records.longitude[i]):
        x, y, z = unit_vector(records.latitude[i], records.longitude[i])
        record.x += x
        record.y += y
        record.z += z
        record.located += 1
        if records.payment[i, -1] <= TRUE_TIME_LIMIT_S:
            record.located_at = records.event_ms[i]
            record.latitude = records.latitude[i]
            record.longitude = records.longitude[i]
    record.country = records.who[i, 5] if records.who[i, 5] else record.country
    record.merchant = records.who[i, 2] if records.who[i, 2] else record.merchant
    record.device = records.who[i, 3] if records.who[i, 3] else record.device
    record.ip = records.who[i, 4] if records.who[i, 4] else record.ip
    record.category = records.who[i, 7] if records.who[i, 7] else record.category
    record.life_remote += 1 if flags & REMOTE else 0
    record.life_foreign += 1 if flags & FOREIGN else 0


@njit(cache=True)  # type: ignore[untyped-decorator]
def _find_label(s, slot, label_id):
    at = s.label_head[slot]
    while at != NONE and s.labels[at].id != label_id:
        at = s.labels[at].next
    return at


@njit(cache=True)  # type: ignore[untyped-decorator]
def _label(s, slot, records, i):
    """Let a label take effect; the room that is lacking."""
    record = s.record[slot]
    reverses = records.reverses[i]
    if reverses != 0:
        at = _find_label(s, slot, reverses)
        if at != NONE:
            label = s.labels[at]
            if label.standing == 1:
                label.standing = 0
                record.life_fraud -= 1
                record.fraud_amount -= label.amount
            return 0
    elif not records.flags[i] & FRAUD:
        return 0
    else:
        at = _find_label(s, slot, records.label_id[i])
        if at != NONE:
            s.labels[at].standing = 0
            return 0
    new = s.counters[LABEL_FREE]
    if new != NONE:
        s.counters[LABEL_FREE] = s.labels[new].next
    else:
        new = s.counters[LABELS_USED]
        if new >= len(s.labels):
            return ROOM_FOR_LABELS
        s.counters[LABELS_USED] = new + 1
    label = s.labels[new]
    label.at = records.event_ms[i]
    label.id = reverses if reverses != 0 else records.label_id[i]
    label.amount = records.amount[i]
    label.next = s.label_head[slot]
    label.standing = -1 if reverses != 0 else 1
    s.label_head[slot] = new
    if reverses == 0:
        record.life_fraud += 1
        record.fraud_amount += records.amount[i]
        record.last_fraud = records.event_ms[i]
    return 0


@njit(cache=True)  # type: ignore[untyped-decorator]
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
            lacking = _label(s, slot, records, i)
            if lacking:
                return i, lacking
            continue
        record = s.record[slot]
        now = max(records.event_ms[i], record.clock)
        if record.count > 0 and now - record.last > plan.retention_ms:
            _forget(s, slot, key)
            s.counters[EXPIRED] += 1
        paid = what != AUTHORISED
        declined = records.flags[i] & DECLINED
        if (paid or declined) and not with_room(s.pool, s.counters, s.block, s.length, s.size_class, slot, now, longest):
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
            _label_statistics(s, slot, now, plan, counts, statistics)
            _long_term(s, slot, records, i, now, statistics)
            evaluate(plan.program, records.payment[i], statistics, result[records.row[i]])
            _append(s, slot, records, i, now, plan, True)
            _remember(s, slot, records, i, now)
        elif declined:
            _append(s, slot, records, i, now, plan, False)
            s.record[slot].declines += 1
            s.record[slot].life_declined += 1
        else:
            s.record[slot].declines = 0
    return len(records.what), 0


@njit(cache=True)  # type: ignore[untyped-decorator]
def pair_key(first, second):
    """One 64-bit key of two (finaliser of SplitMix64 over a multiplicative mix)."""
    mixed = np.uint64(first) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(second)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    key = np.int64(mixed ^ (mixed >> np.uint64(31)))
    return key if key != 0 else np.int64(1)


@njit(cache=True)  # type: ignore[untyped-decorator]
def advance_pairs(s, plan, records, begin, result, capped):
    """The same for a pair of entities: payments only, no windows."""
    statistics = np.empty(len(PAIR))
    for i in range(begin, len(records.what)):
        if records.what[i] == LABELLED or records.what[i] == AUTHORISED:
            continue
        first, second = records.who[i, plan.columns[0]], records.who[i, plan.columns[1]]
        if first == 0 or second == 0:
            continue
        key = pair_key(first, second)
        at = place_of(s.table_key, s.table_slot, key)
        slot = np.int64(s.table_slot[at])
        if slot == NONE:
            n = s.counters[KEYS]
            if n >= plan.max_keys:
                capped[0] += 1
                continue
            if n >= len(s.record) or 2 * n >= len(s.table_key):
                return i, ROOM_FOR_KEYS
            s.counters[KEYS] = n + 1
            s.table_key[at] = key
            s.table_slot[at] = n
            s.record[n].key = key
            s.record[n].owner = first
            s.record[n].clock = -(1 << 62)
            slot = n
        record = s.record[slot]
        now = max(records.event_ms[i], record.clock)
        if record.count > 0 and now - record.last > plan.retention_ms:
            record.count = 0
            record.sum = 0
            record.max = 0
            s.counters[EXPIRED] += 1
        record.clock = now
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


assert len(LONG_TERM) == 32
