"""What the issuer's own checks say about every payment, a moment later."""

import numpy as np

from lakehouse.codec import Batch
from lakehouse.texts import Ints, Texts
from simulator.intents import APPROVED, REFUSALS
from simulator.payments import Payments
from simulator.randomness import generator

MIN_DELAY_MS, MAX_DELAY_MS = 200, 4_000

_RESULTS = Texts.of(("approved", "declined"))
_REASONS = Texts.of(REFUSALS)


def authorisations(seed: int, day: int, payments: Payments) -> tuple[Batch, Ints]:
    """(authorisation records in the order of their payments, when each arrives)."""
    rng = generator(seed, "authorisations", day)
    n = len(payments)
    # Most issuers answer within a second, so the delay leans to its lower end.
    delay = MIN_DELAY_MS + (MAX_DELAY_MS - MIN_DELAY_MS) * rng.beta(1.3, 5, n)
    received = payments.received_ms + delay.astype(np.int64)
    batch = payments.batch
    shared = ("transaction_id", "card_number", "customer_id", "merchant_id", "device_id", "ip_address")
    columns = {name: batch.columns[name] for name in shared} | {
        "event_time": received - rng.integers(20, 150, n),
        "received_at": received,
        "result": _RESULTS.take((payments.refused != APPROVED).astype(np.int64)),
        "decline_reason": _REASONS.take(payments.refused),
    }
    valid = {
        "device_id": batch.has("device_id"),
        "ip_address": batch.has("ip_address"),
        "decline_reason": payments.refused != APPROVED,
    }
    return Batch(n, columns, valid), received
