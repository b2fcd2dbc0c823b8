"""The long-term record of a key: what it tells about a payment, and how the payment enters it."""

import numpy as np

from features.arithmetic import distance_km, distance_to_mean_km
from features.entities import WHO
from features.fraud_labels import forget_labels
from features.records import FOREIGN, REMOTE, SMALL
from features.ring import NONE
from features.statistics import LONG_TERM, LONG_TERM_AT
from features.windows import DAY_MS, HOUR_MS
from lakehouse.compiled import compiled

TRUE_TIME_LIMIT_S = 60.0
"""Distance and speed are unknown for payments that arrive later: their place in the order is not their time."""
MIN_SPEED_GAP_MS = 1000
NAMED = ("country", "merchant", "device", "ip", "category")
"""Whom and what of its last payment a record keeps: columns 5, 2, 3, 4 and 7 of entities.WHO."""


@compiled
def forget(s, slot, key):
    """A key's state as if it had never been seen."""
    forget_labels(s, slot)
    record = s.record[slot]
    clock, at, size_class = record.clock, record.at, record.size_class
    merged_at, merged_class = record.merged_at, record.merged_class
    s.record[slot] = s.blank[0]
    record.key = key
    record.clock, record.at, record.size_class = clock, at, size_class
    record.merged_at, record.merged_class = merged_at, merged_class
    record.label_head = NONE


@compiled
def long_term_statistics(s, slot, records, i, now, out):
    """What the key's record tells about payment i, in the places of statistics.LONG_TERM."""
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
        np.float64(record.hours[hour]) + np.float64(record.hours[(hour + 1) % 24]) + np.float64(record.hours[hour - 1])
    )
    out[o + 11] = near / n if known else np.nan
    out[o + 12] = np.float64(record.weekdays[(now // DAY_MS) % 7]) / n if known else np.nan
    out[o + 13] = np.nan
    out[o + 14] = np.nan
    out[o + 15] = np.nan
    on_time = records.payment[i, -1] <= TRUE_TIME_LIMIT_S
    x, y, z = records.place[i, 0], records.place[i, 1], records.place[i, 2]
    if record.located > 0 and not np.isnan(x):
        out[o + 15] = distance_to_mean_km(record.x, record.y, record.z, x, y, z)
        if on_time and record.located_at != 0:
            km = distance_km(record.last_x, record.last_y, record.last_z, x, y, z)
            gap = max(abs(records.event_ms[i] - record.located_at), MIN_SPEED_GAP_MS)
            out[o + 13] = km
            out[o + 14] = km / (gap / HOUR_MS)
    out[o + 16] = np.float64(record.located)
    for k, held, column in (
        (17, record.country, 5),
        (18, record.merchant, 2),
        (19, record.device, 3),
        (20, record.ip, 4),
        (21, record.category, 7),
    ):
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


@compiled
def remember(s, slot, records, i, now):
    """Let payment i enter the key's record."""
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
    hours, weekdays = record.hours, record.weekdays
    if hours[hour] < 65535:
        hours[hour] += 1
    if weekdays[weekday] < 65535:
        weekdays[weekday] += 1
    x, y, z = records.place[i, 0], records.place[i, 1], records.place[i, 2]
    if not np.isnan(x):
        record.x += x
        record.y += y
        record.z += z
        record.located += 1
        if records.payment[i, -1] <= TRUE_TIME_LIMIT_S:
            record.located_at = records.event_ms[i]
            record.last_x = x
            record.last_y = y
            record.last_z = z
    record.country = records.who[i, 5] if records.who[i, 5] else record.country
    record.merchant = records.who[i, 2] if records.who[i, 2] else record.merchant
    record.device = records.who[i, 3] if records.who[i, 3] else record.device
    record.ip = records.who[i, 4] if records.who[i, 4] else record.ip
    record.category = records.who[i, 7] if records.who[i, 7] else record.category
    record.life_remote += 1 if flags & REMOTE else 0
    record.life_foreign += 1 if flags & FOREIGN else 0


assert len(LONG_TERM) == 32
assert [WHO.index(name) for name in NAMED] == [5, 2, 3, 4, 7]
