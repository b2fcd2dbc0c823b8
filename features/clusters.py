"""Rings of customers: who shares a card, device, e-mail or address with whom, and what is known of the whole ring.

Customers are joined (a union by size over trees without path compression) when they name the same token. Three bounds
keep a busy public address from joining a city: a token that more customers name than its kind's limit is public and
joins nobody from then on; a ring takes no more customers than MOST_CUSTOMERS; and a ring, token or membership that was
silent for the retention is as new.

There is one order for all, so this pass cannot be sharded; its clock is the running maximum of the payments' times.
"""

import numpy as np

from features.expressions import evaluate
from features.fraud_labels import forget_labels, take_label
from features.pairs import pair_key
from features.prefetch import AHEAD, prefetch
from features.records import AUTHORISED, LABELLED
from features.ring import EVENTS_USED, KEYS, MERGED_USED, NONE, ROOM_FOR_KEYS
from features.table import first_place, place_of, put
from lakehouse.compiled import compiled

MOST_CUSTOMERS = 64
"""A family has a handful, a mule network some dozens; what is larger is a mesh of public addresses."""

MEMBER = np.dtype(
    [
        ("key", np.int64),
        ("born", np.int64),  # ms: since when this customer's tree stands
        ("joined", np.int64),  # ms: when it was put under its parent
        # What is known of the ring, where the customer is its root.
        ("first", np.int64),
        ("last", np.int64),
        ("tx_count", np.int64),
        ("ring_fraud_amount", np.int64),
        ("ring_last_fraud", np.int64),
        # What is known of the customer alone.
        ("fraud_amount", np.int64),
        ("last_fraud", np.int64),
        ("life_fraud", np.int32),
        ("label_head", np.int32),
        ("parent", np.int32),
        ("customers", np.int32),
        ("tokens", np.int32),
        ("ring_fraud", np.int32),
    ]
)
TOKEN = np.dtype([("key", "i8"), ("born", "i8"), ("last", "i8"), ("member", "i4"), ("degree", "i4")])
"""`degree` customers have named it since it was born; `member` was the first."""
LINK = np.dtype([("key", "i8"), ("at", "i8")])
"""A customer and a token, and when they were first seen together."""

TOKENS, LINKS, CLOCK = EVENTS_USED, MERGED_USED, 6
"""Places in `counters`, beside those of keys and labels."""
ROOM_FOR_TOKENS, ROOM_FOR_LINKS = 5, 6


@compiled
def _alone(s, slot, now):
    """Let a customer be a ring of one, with nothing known."""
    member = s.record[slot]
    member.parent = slot
    member.born = member.first = member.last = now
    member.customers = 1
    member.tokens = 0
    member.tx_count = 0
    member.ring_fraud = 0
    member.ring_fraud_amount = 0
    member.ring_last_fraud = 0
    member.life_fraud = 0
    member.fraud_amount = 0
    forget_labels(s, slot)


@compiled
def _root(s, slot, now, retention_ms):
    """The root of a customer's ring; a customer of a ring that was silent for the retention stands alone from now on.

    Others of that ring are left as they are until they are touched: a ring whose root was born again since somebody
    was put under it is not theirs any more.
    """
    top = slot
    while s.record[top].parent != top:
        above = s.record[top].parent
        if s.record[top].joined < s.record[above].born:
            _alone(s, slot, now)
            return slot
        top = above
    if now - s.record[top].last > retention_ms:
        _alone(s, slot, now)
        return slot
    return top


@compiled
def _united(s, one, other, now):
    """The root of two rings, joined where that makes no more than MOST_CUSTOMERS."""
    if one == other or s.record[one].customers + s.record[other].customers > MOST_CUSTOMERS:
        return one
    if s.record[one].customers < s.record[other].customers:
        one, other = other, one
    ring, under = s.record[one], s.record[other]
    under.parent = one
    under.joined = now
    ring.first = min(ring.first, under.first)
    ring.last = max(ring.last, under.last)
    ring.customers += under.customers
    ring.tokens += under.tokens
    ring.tx_count += under.tx_count
    ring.ring_fraud += under.ring_fraud
    ring.ring_fraud_amount += under.ring_fraud_amount
    ring.ring_last_fraud = max(ring.ring_last_fraud, under.ring_last_fraud)
    return one


@compiled
def _token(s, plan, records, i, k):
    """(place in the table, slot or NONE, key) of the k-th token that a record names; key 0 for none."""
    who = records.who[i, plan.columns[1 + k]]
    if who == 0:
        return 0, NONE, 0
    key = pair_key(who, plan.columns[1 + k])
    at = place_of(s.token_table, s.tokens, key)
    return at, np.int64(s.token_table[at].slot), key


@compiled
def _is_known(ring):
    """Who stands alone as from now, after silence, is as new."""
    return ring.tx_count > 0 or ring.ring_fraud > 0


@compiled
def _statistics(s, plan, records, i, slot, now, out):
    """What is known of the rings that payment i touches, together; in the places of statistics.CLUSTER."""
    roots = s.roots
    found = 0
    if slot != NONE:
        roots[0] = _root(s, slot, now, plan.retention_ms)
        found = 1 if _is_known(s.record[roots[0]]) else 0
    own = found
    public = 0
    for k in range(len(plan.limits)):
        _, token, key = _token(s, plan, records, i, k)
        if key == 0:
            continue
        if token == NONE or now - s.tokens[token].last > plan.retention_ms:
            continue
        if s.tokens[token].degree > plan.limits[k]:
            public += 1
            continue
        root = _root(s, s.tokens[token].member, now, plan.retention_ms)
        new = _is_known(s.record[root])
        for r in range(found):
            new = new and roots[r] != root
        if new:
            roots[found] = root
            found += 1
    customers, tokens, count, fraud, amount = 0, 0, 0, 0, 0
    first, last_fraud = now, np.int64(0)
    for r in range(found):
        ring = s.record[roots[r]]
        customers += ring.customers
        tokens += ring.tokens
        count += ring.tx_count
        fraud += ring.ring_fraud
        amount += ring.ring_fraud_amount
        first = min(first, ring.first)
        last_fraud = max(last_fraud, ring.ring_last_fraud)
    out[0] = customers
    out[1] = tokens
    out[2] = count
    out[3] = (now - first) / 1000 if found else np.nan
    out[4] = fraud
    out[5] = fraud - (s.record[slot].life_fraud if slot != NONE else 0)
    out[6] = amount
    out[7] = (now - last_fraud) / 1000 if fraud > 0 else np.nan
    out[8] = found - own
    out[9] = public


@compiled
def _room(s, plan, slot):
    """The room that one more payment may need and is not there."""
    if slot == NONE and s.counters[KEYS] >= len(s.record):
        return ROOM_FOR_KEYS
    if s.counters[TOKENS] + len(plan.limits) > len(s.tokens):
        return ROOM_FOR_TOKENS
    if s.counters[LINKS] + len(plan.limits) > len(s.links):
        return ROOM_FOR_LINKS
    return 0


@compiled
def _link(s, plan, records, i, k, root, slot, now, capped):
    """Join the customer's ring with that of the k-th token; the root afterwards.

    `capped` is set where the token finds no place.
    """
    at, token, key = _token(s, plan, records, i, k)
    if key == 0:
        return root
    if token == NONE:
        token = s.counters[TOKENS]
        if token >= plan.max_keys:
            capped[records.row[i]] = True
            return root
        s.counters[TOKENS] = token + 1
        put(s.token_table, at, key, token)
        s.tokens[token].key = key
        s.tokens[token].born = s.tokens[token].last = now
        s.tokens[token].degree = 0
    held = s.tokens[token]
    if now - held.last > plan.retention_ms:
        held.born = now
        held.degree = 0
    held.last = now
    if held.degree > plan.limits[k]:
        return root
    pair = pair_key(s.record[slot].key, key)
    place = place_of(s.link_table, s.links, pair)
    link = np.int64(s.link_table[place].slot)
    if link == NONE:
        link = s.counters[LINKS]
        s.counters[LINKS] = link + 1
        put(s.link_table, place, pair, link)
        s.links[link].key = pair
    elif s.links[link].at >= held.born and held.degree > 0:
        return root
    s.links[link].at = now
    held.degree += 1
    if held.degree == 1:
        held.member = slot
        s.record[root].tokens += 1
    elif held.degree <= plan.limits[k]:
        root = _united(s, root, _root(s, held.member, now, plan.retention_ms), now)
    return root


@compiled
def _take_label(s, plan, records, i, slot):
    """Let a label take effect for the customer and the ring; the room that is lacking."""
    ring = s.record[_root(s, slot, s.counters[CLOCK], plan.retention_ms)]
    member = s.record[slot]
    fraud, amount = member.life_fraud, member.fraud_amount
    lacking = take_label(s, slot, records, i)
    ring.ring_fraud += member.life_fraud - fraud
    ring.ring_fraud_amount += member.fraud_amount - amount
    ring.ring_last_fraud = max(ring.ring_last_fraud, member.last_fraud)
    return lacking


@compiled
def _look_ahead(s, plan, records, i):
    """Begin to load what later payments need: tables first, then the records that they name."""
    n = len(records.what)
    if i + 2 * AHEAD < n:
        whose = records.who[i + 2 * AHEAD]
        customer = whose[plan.columns[0]]
        prefetch(s.table, first_place(s.table, customer), 0)
        for k in range(len(plan.limits)):
            key = pair_key(whose[plan.columns[1 + k]], plan.columns[1 + k])
            prefetch(s.token_table, first_place(s.token_table, key), 0)
            prefetch(s.link_table, first_place(s.link_table, pair_key(customer, key)), 0)
    if i + AHEAD < n:
        whose = records.who[i + AHEAD]
        customer = whose[plan.columns[0]]
        slot = s.table[place_of(s.table, s.record, customer)].slot
        if slot != NONE:
            prefetch(s.record, slot, 0)
            prefetch(s.record, slot, 64)
        for k in range(len(plan.limits)):
            key = pair_key(whose[plan.columns[1 + k]], plan.columns[1 + k])
            token = s.token_table[place_of(s.token_table, s.tokens, key)].slot
            if token != NONE:
                prefetch(s.tokens, token, 0)
            link = s.link_table[first_place(s.link_table, pair_key(customer, key))].slot
            if link != NONE:
                prefetch(s.links, link, 0)


@compiled
def advance_clusters(s, plan, records, begin, result, capped):
    """Take records [begin, n) into the rings and write their features; returns as kernel.advance does."""
    for i in range(begin, len(records.what)):
        _look_ahead(s, plan, records, i)
        key = records.who[i, plan.columns[0]]
        if key == 0 or records.what[i] == AUTHORISED:
            continue
        at = place_of(s.table, s.record, key)
        slot = np.int64(s.table[at].slot)
        if records.what[i] == LABELLED:
            # A label of somebody who never paid says nothing of a ring.
            if slot != NONE:
                lacking = _take_label(s, plan, records, i, slot)
                if lacking:
                    return i, lacking
            continue
        if slot == NONE and s.counters[KEYS] >= plan.max_keys:
            capped[records.row[i]] = True
            continue
        lacking = _room(s, plan, slot)
        if lacking:
            return i, lacking
        now = max(records.event_ms[i], s.counters[CLOCK])
        s.counters[CLOCK] = now
        _statistics(s, plan, records, i, slot, now, s.statistics)
        evaluate(plan.program, records.payment[i], s.statistics, result[records.row[i]])
        if slot == NONE:
            slot = s.counters[KEYS]
            s.counters[KEYS] = slot + 1
            put(s.table, at, key, slot)
            s.record[slot].key = key
            s.record[slot].label_head = NONE
            _alone(s, slot, now)
        root = _root(s, slot, now, plan.retention_ms)
        for k in range(len(plan.limits)):
            root = _link(s, plan, records, i, k, root, slot, now, capped)
        s.record[root].last = now
        s.record[root].tx_count += 1
    return len(records.what), 0
