"""Every statistic by its definition, from plain lists: slow, obvious, and written without looking at the kernel."""

import math
from fractions import Fraction

import numpy as np

from features.catalogue import FEATURES, NAMES
from features.entities import CLUSTER, ENTITIES, PAIRS, PLURALS, WHO
from features.expressions import Operation
from features.records import AUTHORISED, DECLINED, FOREIGN, FRAUD, LABELLED, PAID, REMOTE, SMALL
from features.statistics import PAYMENT
from features.windows import DAY_MS, HOUR_MS, LABEL_WINDOWS, WINDOWS

NAN = float("nan")


def km(lat1, lon1, lat2, lon2):
    p1, p2 = math.radians(lat1), math.radians(lat2)
    h = math.sin((p2 - p1) / 2) ** 2 + math.cos(p1) * math.cos(p2) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    return 2 * 6371.0088 * math.asin(math.sqrt(h))


def deviation(values):
    if len(values) < 2:
        return NAN
    mean = Fraction(sum(values), len(values))
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


class Key:
    """What one key of an entity has lived through."""

    def __init__(self):
        self.clock = -(2**62)
        self.paid = []
        self.declined = []
        self.auths = []
        self.labels = {}
        self.reversed = set()
        self.ever = []

    def now(self, event_ms):
        return max(event_ms, self.clock)


def paid_in(key, after, until):
    return [p for p in key.paid if after < p["at"] <= until]


def entity_statistics(entity, key, e, delay_d):
    now = key.now(e["event_ms"])
    s = {}
    for name, length in WINDOWS.items():
        seen = [p for p in key.paid if now - length < p["at"]]
        amounts = [p["amount"] for p in seen]
        s[f"tx_count_{name}"] = len(seen)
        s[f"amount_sum_{name}"] = sum(amounts)
        s[f"amount_max_{name}"] = max(amounts, default=NAN)
        s[f"amount_mean_{name}"] = sum(amounts) / len(amounts) if amounts else NAN
        s[f"amount_std_{name}"] = deviation(amounts)
        for counterpart in entity.counterparts:
            s[f"{PLURALS[counterpart]}_distinct_{name}"] = len({p[counterpart] for p in seen if p[counterpart]})
        s[f"declined_count_{name}"] = len([t for t in key.declined if now - length < t])
        for flag, bit in (("remote", REMOTE), ("small", SMALL), ("foreign", FOREIGN)):
            s[f"{flag}_count_{name}"] = sum(bool(p["flags"] & bit) for p in seen)
    standing = [(at, amount) for label, (at, amount) in key.labels.items() if label not in key.reversed]
    for name, length in LABEL_WINDOWS.items():
        s[f"fraud_count_{name}"] = sum(at > now - length for at, _ in standing)
        delay = delay_d * DAY_MS
        s[f"delayed_tx_count_{name}"] = sum(now - delay - length < p["at"] <= now - delay for p in key.paid)
    run = [at for at, _ in standing if at > now - 30 * DAY_MS]
    s["since_first_fraud_s_30d"] = (now - min(run)) / 1000 if run else NAN
    s["cleared_count_since_fraud_30d"] = len(paid_in(key, max(run) - delay, now - delay)) if run else NAN
    paid, amounts = key.paid, [p["amount"] for p in key.paid]
    first, last = (paid[0], paid[-1]) if paid else (None, None)
    n = len(paid)
    s["is_known"] = float(n > 0)
    s["age_s"] = (now - first["at"]) / 1000 if paid else NAN
    s["since_last_s"] = (now - last["at"]) / 1000 if paid else NAN
    s["life_tx_count"], s["life_amount_sum"] = n, sum(amounts)
    s["life_amount_mean"] = sum(amounts) / n if paid else NAN
    s["life_amount_std"] = deviation(amounts)
    s["life_amount_max"] = max(amounts, default=NAN)
    s["last_amount"] = amounts[-1] if paid else NAN
    days = [p["at"] // DAY_MS for p in paid]
    s["days_active"] = len(set(days))
    s["mean_gap_s"] = (last["at"] - first["at"]) / 1000 / (n - 1) if n > 1 else NAN
    hour = now // HOUR_MS % 24
    near = {(hour + d) % 24 for d in (-1, 0, 1)}
    s["hour_share"] = sum(p["at"] // HOUR_MS % 24 in near for p in paid) / n if paid else NAN
    s["weekday_share"] = sum(p["at"] // DAY_MS % 7 == now // DAY_MS % 7 for p in paid) / n if paid else NAN
    placed = [p for p in paid if not math.isnan(p["latitude"]) and not math.isnan(p["longitude"])]
    on_time = [p for p in placed if p["late"] <= 60]
    s["distance_last_km"] = s["speed_kmh"] = s["distance_home_km"] = NAN
    s["located_count"] = len(placed)
    if placed and not math.isnan(e["latitude"]) and not math.isnan(e["longitude"]):
        x = sum(math.cos(math.radians(p["latitude"])) * math.cos(math.radians(p["longitude"])) for p in placed)
        y = sum(math.cos(math.radians(p["latitude"])) * math.sin(math.radians(p["longitude"])) for p in placed)
        z = sum(math.sin(math.radians(p["latitude"])) for p in placed)
        home_lat, home_lon = math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))
        s["distance_home_km"] = km(home_lat, home_lon, e["latitude"], e["longitude"])
        if e["late"] <= 60 and on_time:
            p = on_time[-1]
            s["distance_last_km"] = km(p["latitude"], p["longitude"], e["latitude"], e["longitude"])
            gap = max(abs(e["event_ms"] - p["event_ms"]), 1000)
            s["speed_kmh"] = s["distance_last_km"] / (gap / HOUR_MS)
    for name, who in (
        ("country", "country"),
        ("merchant", "merchant"),
        ("device", "device"),
        ("ip", "ip"),
        ("category", "category"),
    ):
        before = [p[who] for p in paid if p[who]]
        s[f"same_{name}"] = float(before[-1] == e[who]) if before and e[who] else NAN
    rising = repeat = small = 0
    for i, p in enumerate(paid):
        rising = rising + 1 if i and p["amount"] > paid[i - 1]["amount"] else 0
        repeat = repeat + 1 if i and p["amount"] == paid[i - 1]["amount"] else 0
        small = small + 1 if p["flags"] & SMALL else 0
    s["rising_streak"], s["repeat_streak"], s["small_streak"] = rising, repeat, small
    streak = 0
    for declined in key.auths:
        streak = streak + 1 if declined else 0
    s["decline_streak"] = streak
    s["life_declined"] = len(key.declined)
    s["life_remote"] = sum(bool(p["flags"] & REMOTE) for p in paid)
    s["life_foreign"] = sum(bool(p["flags"] & FOREIGN) for p in paid)
    s["life_fraud"] = len(standing)
    s["life_fraud_amount"] = sum(amount for _, amount in standing)
    s["since_fraud_s"] = (now - max(key.ever)) / 1000 if standing else NAN
    return s


def pair_statistics(paid, clock, e):
    now = max(e["event_ms"], clock)
    amounts = [p["amount"] for p in paid]
    return {
        "is_known": float(bool(paid)),
        "age_s": (now - paid[0]["at"]) / 1000 if paid else NAN,
        "since_last_s": (now - paid[-1]["at"]) / 1000 if paid else NAN,
        "tx_count": len(paid),
        "amount_sum": sum(amounts),
        "amount_mean": sum(amounts) / len(amounts) if paid else NAN,
        "amount_max": max(amounts, default=NAN),
    }


class Rings:
    """Rings as plain sets of customers; whoever shares a token that is not public is in one, up to 64 together."""

    def __init__(self):
        self.rings = []
        self.named_by = {}
        self.labels = {}
        self.clock = -(2**62)

    def ring_of(self, customer):
        return next((ring for ring in self.rings if customer in ring["customers"]), None)

    def touched(self, e):
        found = [self.ring_of(e["customer"])]
        for kind, limit in CLUSTER.limits.items():
            named_by = self.named_by.get((kind, e[kind]), []) if e[kind] else []
            if 0 < len(named_by) <= limit:
                found.append(self.ring_of(named_by[0]))
        return [ring for i, ring in enumerate(found) if ring is not None and ring not in found[:i]]

    def standing(self, customers):
        return [label for label in self.labels.values() if label["standing"] and label["customer"] in customers]

    def statistics(self, e):
        self.clock = max(self.clock, e["event_ms"])
        rings, own = self.touched(e), self.ring_of(e["customer"])
        customers = set().union(*(ring["customers"] for ring in rings))
        fraud = self.standing(customers)
        ever = [label["at"] for label in self.labels.values() if label["counted"] and label["customer"] in customers]
        public = [k for k, limit in CLUSTER.limits.items() if e[k] and len(self.named_by.get((k, e[k]), [])) > limit]
        return {
            "customers": len(customers),
            "tokens": sum(ring["tokens"] for ring in rings),
            "tx_count": sum(ring["payments"] for ring in rings),
            "age_s": (self.clock - min(ring["first"] for ring in rings)) / 1000 if rings else NAN,
            "fraud_count": len(fraud),
            "others_fraud_count": len(fraud) - len(self.standing({e["customer"]})),
            "fraud_amount": sum(label["amount"] for label in fraud),
            "since_fraud_s": (self.clock - max(ever)) / 1000 if fraud else NAN,
            "joined_count": len(rings) - (own is not None),
            "public_tokens": len(public),
        }

    def pay(self, e):
        ring = self.ring_of(e["customer"])
        if ring is None:
            ring = {"customers": {e["customer"]}, "tokens": 0, "payments": 0, "first": self.clock}
            self.rings.append(ring)
        for kind, limit in CLUSTER.limits.items():
            if not e[kind]:
                continue
            named_by = self.named_by.setdefault((kind, e[kind]), [])
            if e["customer"] in named_by or len(named_by) > limit:
                continue
            named_by.append(e["customer"])
            if len(named_by) == 1:
                ring["tokens"] += 1
            elif len(named_by) <= limit:
                other = self.ring_of(named_by[0])
                if other is not ring and len(ring["customers"]) + len(other["customers"]) <= 64:
                    self.rings.remove(other)
                    ring["customers"] |= other["customers"]
                    ring["tokens"] += other["tokens"]
                    ring["payments"] += other["payments"]
                    ring["first"] = min(ring["first"], other["first"])
        ring["payments"] += 1

    def take_label(self, customer, label, reverses, is_fraud, amount, at):
        if self.ring_of(customer) is None:
            return
        if reverses:
            held = self.labels.setdefault(reverses, {"customer": customer, "amount": 0, "at": 0, "counted": False})
            held["standing"] = False
        elif is_fraud and label not in self.labels:
            self.labels[label] = {"customer": customer, "amount": amount, "at": at, "standing": True, "counted": True}


def value_of(feature, own, statistics):
    def get(name):
        return own[name.removeprefix("payment.")] if name.startswith("payment.") else statistics[name]

    a = [get(name) for name in feature.inputs]
    match feature.operation:
        case Operation.VALUE:
            return a[0]
        case Operation.RATIO:
            return a[0] / a[1] if a[1] != 0 else NAN
        case Operation.ZSCORE:
            return (a[0] - a[1]) / a[2] if a[2] != 0 else NAN
        case Operation.SURPLUS:
            return (a[0] + 1) / (a[1] + 1)
    raise AssertionError(feature.operation)


def vectors(events, labels, delay_d):
    """float64 vectors of the payments among placed `events`, given placed `labels`; by definition."""
    rows = []
    records = events.records
    keys = {entity.name: {} for entity in ENTITIES}
    pairs = {pair.name: {} for pair in PAIRS}
    rings = Rings()
    waiting = sorted((int(labels.records.event_ms[i]), int(labels.offset[i]), i) for i in range(len(labels.offset)))
    for i in range(len(events.offset)):
        clock, offset = int(events.clock_ms[i]), int(events.offset[i])
        due = [w for w in waiting if w[0] <= clock and w[1] < offset]
        waiting = [w for w in waiting if w not in due]
        for at, _, row in due:
            take_label(keys, rings, labels.records, row, at)
        e = {"event_ms": int(records.event_ms[i]), "amount": int(records.amount[i]), "flags": int(records.flags[i])}
        x, y, z = records.place[i].tolist()
        e |= {"latitude": math.degrees(math.asin(z)), "longitude": math.degrees(math.atan2(y, x))}
        e |= {name: int(records.who[i, at]) for at, name in enumerate(WHO)}
        own = dict(zip(PAYMENT, records.payment[i].tolist(), strict=True))
        e["late"] = own["seconds_late"]
        if records.what[i] == PAID:
            rows.append(payment(keys, pairs, rings, e, own, delay_d))
        else:
            for entity in ENTITIES:
                if e[entity.name]:
                    key = keys[entity.name].setdefault(e[entity.name], Key())
                    key.clock = key.now(e["event_ms"])
                    declined = bool(e["flags"] & DECLINED)
                    key.auths.append(declined)
                    if declined:
                        key.declined.append(key.clock)
    return np.array(rows).reshape(-1, len(NAMES))


def payment(keys, pairs, rings, e, own, delay_d):
    statistics = {"payment": {}}
    if e["customer"]:
        statistics["cluster"] = rings.statistics(e)
        rings.pay(e)
    for entity in ENTITIES:
        if e[entity.name]:
            key = keys[entity.name].setdefault(e[entity.name], Key())
            statistics[entity.name] = entity_statistics(entity, key, e, delay_d)
            key.clock = key.now(e["event_ms"])
            key.paid.append({**e, "at": key.clock})
    for pair in PAIRS:
        if e[pair.first] and e[pair.second]:
            held = pairs[pair.name].setdefault((e[pair.first], e[pair.second]), {"paid": [], "clock": -(2**62)})
            statistics[pair.name] = pair_statistics(held["paid"], held["clock"], e)
            held["clock"] = max(held["clock"], e["event_ms"])
            held["paid"].append({**e, "at": held["clock"]})
    return [value_of(f, own, statistics[f.entity]) if f.entity in statistics else NAN for f in FEATURES]


def take_label(keys, rings, records, row, at):
    customer, label, reverses = int(records.who[row, 1]), int(records.label_id[row]), int(records.reverses[row])
    if customer:
        rings.take_label(customer, label, reverses, records.flags[row] & FRAUD, int(records.amount[row]), at)
    for entity in ENTITIES:
        who = int(records.who[row, WHO.index(entity.name)])
        if not who:
            continue
        key = keys[entity.name].setdefault(who, Key())
        if records.reverses[row]:
            key.reversed.add(int(records.reverses[row]))
        elif records.flags[row] & FRAUD:
            label = int(records.label_id[row])
            key.labels[label] = (at, int(records.amount[row]))
            if label not in key.reversed:
                key.ever.append(at)


assert (PAID, AUTHORISED, LABELLED) == (0, 1, 2)
