"""Random placed records with everything that is awkward: ties, gaps, late events, window edges, nobody, reversals."""

import numpy as np

from features.arithmetic import unit_vector
from features.entities import WHO
from features.inputs import Placed
from features.records import AUTHORISED, DECLINED, FOREIGN, FRAUD, LABELLED, PAID, REMOTE, SMALL, Records, empty
from features.statistics import PAYMENT
from features.windows import DAY_MS, HOUR_MS, WINDOWS

START_MS = 1_780_000_000_000


def world(seed, n=200, people=6, days=50, declined=0.3):
    """(events, labels): about n payments and authorisations of few people over some days, and labels on some."""
    random = np.random.default_rng(seed)
    step = np.where(random.random(n) < 0.3, 0, random.exponential(days * DAY_MS / n, n)).astype(np.int64)
    # Some steps are exactly a window long, or one millisecond off it.
    edges = random.choice(list(WINDOWS.values())[:5], n) + random.integers(-1, 2, n)
    step = np.where(random.random(n) < 0.05, edges, step)
    received = START_MS + np.cumsum(step)
    late = np.where(random.random(n) < 0.1, random.integers(0, 10 * HOUR_MS, n), random.integers(0, 3000, n))
    event_ms = received - late
    what = np.where(random.random(n) < 0.25, AUTHORISED, PAID).astype(np.int8)
    who = np.zeros((n, len(WHO)), np.int64)
    for column, name in enumerate(WHO):
        kinds = {"card": people + 2, "customer": people, "merchant": 5, "device": people, "ip": 4}.get(name, 3)
        who[:, column] = random.integers(1, kinds + 1, n) * (1_000_003 + column) * 7919
        if name in ("device", "ip", "country", "issuer_country", "category"):
            who[random.random(n) < 0.2, column] = 0
    flags = np.zeros(n, np.uint8)
    for bit in (REMOTE, SMALL, FOREIGN):
        flags |= np.where((random.random(n) < 0.3) & (what == PAID), bit, 0).astype(np.uint8)
    flags |= np.where((what == AUTHORISED) & (random.random(n) < declined), DECLINED, 0).astype(np.uint8)
    payment = random.random((n, len(PAYMENT)))
    payment[:, PAYMENT.index("seconds_late")] = late / 1000
    amount = random.choice([100, 250, 250, 999, 5000, 123_456], n) + random.integers(0, 2, n)
    payment[:, PAYMENT.index("amount_minor")] = amount
    nowhere = random.random(n) < 0.3
    latitude, longitude = random.choice([48.85, 48.9, 40.7, -33.9], n), random.choice([2.35, 2.4, -74.0, 151.2], n)
    place = np.array([unit_vector(*degrees) for degrees in zip(latitude, longitude, strict=True)])
    place[nowhere] = np.nan
    records = Records(
        what,
        event_ms,
        np.where(what == PAID, amount, 0),
        place,
        who,
        flags,
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
        payment,
        np.full(n, -1, np.int64),
    )
    offset = np.sort(random.choice(np.arange(4 * n), n, replace=False))
    events = Placed(records, offset, np.maximum.accumulate(received))
    return events, labels(random, events)


def labels(random, events):
    """Labels on some payments, some taken back, at free offsets of the log."""
    paid = np.flatnonzero(events.records.what == PAID)
    chosen = random.choice(paid, len(paid) // 8, replace=False)
    taken_back = chosen[: len(chosen) // 4]
    of = np.concatenate([chosen, taken_back])
    n = len(of)
    records = empty(n)
    records.what[:] = LABELLED
    records.who[:] = events.records.who[of]
    records.who[:, 5:] = 0
    records.amount[:] = events.records.amount[of]
    records.flags[: len(chosen)] = np.where(random.random(len(chosen)) < 0.8, FRAUD, 0)
    records.label_id[:] = np.arange(1, n + 1) * 104_729
    records.reverses[len(chosen) :] = records.label_id[: len(taken_back)]
    free = np.setdiff1d(np.arange(4 * len(events.offset)), events.offset)
    offset = np.sort(random.choice(free, n, replace=False))
    offset = random.permutation(offset)
    # The engine's clock at the label's place, and its own arrival.
    before = np.searchsorted(events.offset, offset) - 1
    clock = np.where(before >= 0, events.clock_ms[np.maximum(before, 0)], START_MS)
    available = events.clock_ms[of] + random.integers(0, 12 * DAY_MS, n)
    records.event_ms[:] = np.maximum(available, clock)
    order = np.argsort(offset)
    return Placed(records.take(order), offset[order], clock[order])


def nobody():
    """Placed records of nobody: no labels."""
    return Placed(empty(0), np.zeros(0, np.int64), np.zeros(0, np.int64))


def pieces(placed, bounds):
    """Placed records cut at offsets."""
    cut = np.searchsorted(placed.offset, bounds)
    out = []
    for a, b in zip([0, *cut], [*cut, len(placed.offset)], strict=True):
        at = np.arange(a, b)
        out.append(Placed(placed.records.take(at), placed.offset[at], placed.clock_ms[at]))
    return out
