"""Labels in the state: one that takes effect, one that is taken back, and the fraud statistics of a key."""

import numpy as np

from features.layout import LABEL_MEMORY_MS
from features.records import FRAUD
from features.ring import FLAG_BITS, IS_PAID, LABEL_FREE, LABELS_USED, NONE, ROOM_FOR_LABELS
from features.statistics import DELAYED_AT, LABEL_AT, RUN_AT
from features.windows import DAY_MS
from lakehouse.compiled import compiled

NO_TIME = -(1 << 62)
RUN_MS = 30 * DAY_MS
"""A run of frauds is looked for so far back."""


@compiled
def _paid_between(s, slot, after, until):
    """Payments of a key with after < time <= until; merged ones by their entry's newest."""
    record = s.record[slot]
    found = 0
    for j in range(record.at, record.at + record.length):
        when = s.events[j].when
        if when & IS_PAID and after < (when >> FLAG_BITS) <= until:
            found += 1
    for m in range(record.merged_at, record.merged_at + record.merged_length):
        if after < s.merged[m].last <= until:
            found += s.merged[m].count
    return found


@compiled
def label_statistics(s, slot, now, plan, counts, out):
    """Fraud labels per label window, and the payments of each window moved back by the delay.

    Of the labels of RUN_MS also the time since the oldest one, and how many payments have outlived the delay since the
    newest one: none while the last payment of which anything can be known was fraud.
    """
    for w in range(len(plan.label_windows)):
        out[LABEL_AT + w] = 0.0
        out[DELAYED_AT + w] = counts[plan.delayed[w, 1]] - counts[plan.delayed[w, 0]]
    out[RUN_AT] = np.nan
    out[RUN_AT + 1] = np.nan
    newest, oldest = NO_TIME, NO_TIME
    at = s.record[slot].label_head
    while at != NONE:
        label = s.labels[at]
        if label.at <= now - LABEL_MEMORY_MS:
            break
        if label.standing == 1:
            if label.at > now - RUN_MS:
                newest = label.at if newest == NO_TIME else newest
                oldest = label.at
            for w in range(len(plan.label_windows)):
                if label.at > now - plan.label_windows[w]:
                    out[LABEL_AT + w] += 1.0
        at = label.next
    if newest != NO_TIME:
        delay = plan.bounds[plan.delayed[0, 0]]
        out[RUN_AT] = (now - oldest) / 1000
        out[RUN_AT + 1] = _paid_between(s, slot, newest - delay, now - delay)


@compiled
def _find_label(s, slot, label_id):
    at = s.record[slot].label_head
    while at != NONE and s.labels[at].id != label_id:
        at = s.labels[at].next
    return at


@compiled
def forget_labels(s, slot):
    """Give back the labels of a key."""
    head = s.record[slot].label_head
    while head != NONE:
        following = s.labels[head].next
        s.labels[head].next = s.counters[LABEL_FREE]
        s.counters[LABEL_FREE] = head
        head = following
    s.record[slot].label_head = NONE


@compiled
def take_label(s, slot, records, i):
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
    label.next = s.record[slot].label_head
    label.standing = -1 if reverses != 0 else 1
    s.record[slot].label_head = new
    if reverses == 0:
        record.life_fraud += 1
        record.fraud_amount += records.amount[i]
        record.last_fraud = records.event_ms[i]
    return 0
