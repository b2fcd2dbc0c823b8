"""Records of a steady stream of payments by a fixed population, made without decoding: for the kernel alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.entities import WHO
from features.inputs import Placed
from features.records import AUTHORISED, DECLINED, FOREIGN, PAID, REMOTE, SMALL, concatenated, empty
from features.statistics import PAYMENT
from features.windows import DAY_MS

START_MS = 1_780_000_000_000
SHARES = {"customer": 0.32, "card": 0.36, "merchant": 0.02, "device": 0.2, "ip": 0.1}
"""Of the keys, by entity; the rest of what a record names comes from short lists."""
SHORT = {"country": 40, "issuer_country": 40, "category": 60}
DECLINED_SHARE = 0.03


@dataclass(frozen=True)
class Stream:
    """`payments` payments of so many keys over so many days, the same for the same seed."""

    payments: int
    keys: int
    days: float
    seed: int

    def batches(self, size: int) -> Iterator[Placed]:
        """The records in order, `size` payments at a time, with the declined authorisations among them."""
        random = np.random.default_rng(self.seed)
        people = {name: max(1, int(self.keys * share)) for name, share in SHARES.items()} | SHORT
        step_ms = self.days * DAY_MS / self.payments
        for begin in range(0, self.payments, size):
            n = min(size, self.payments - begin)
            yield _batch(random, people, n, begin, step_ms)


HABITS = {"card": (2, 1.0), "device": (2, 1.0), "merchant": (15, 0.8), "ip": (2, 0.9), "country": (1, 0.95)}
"""Of every customer: how many of their own they have, and how often it is one of these."""

Numbers = npt.NDArray[np.int64]


def _somebody(random: np.random.Generator, count: int, n: int, skew: float) -> Numbers:
    """Numbers below `count`; with more skew, fewer of them have most of the records."""
    found: Numbers = (count * random.random(n) ** skew).astype(np.int64)
    return found


def _of_their_own(random: np.random.Generator, count: int, customer: Numbers, habit: tuple[int, float]) -> Numbers:
    own, share = habit
    mine = (customer * 2_654_435_761 + random.integers(0, own, len(customer)) * 40_503) % count
    return np.where(random.random(len(customer)) < share, mine, _somebody(random, count, len(customer), 2.0))


def _places(random: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    phi, lam = np.radians(random.uniform(35, 60, n)), np.radians(random.uniform(-10, 30, n))
    return np.column_stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])


def _batch(random: np.random.Generator, people: dict[str, int], n: int, begin: int, step_ms: float) -> Placed:
    who = np.zeros((n, len(WHO)), np.int64)
    customer = _somebody(random, people["customer"], n, 1.5)
    numbers = {name: _of_their_own(random, people[name], customer, habit) for name, habit in HABITS.items()}
    numbers |= {"customer": customer, "issuer_country": customer % people["issuer_country"], "email": customer}
    numbers["category"] = numbers["merchant"] % people["category"]
    for column, name in enumerate(WHO):
        who[:, column] = (numbers[name] + 1) * 0x9E3779B97F4A7C1 ^ column
    who[random.random(n) < 0.3, WHO.index("device")] = 0
    who[random.random(n) < 0.7, WHO.index("email")] = 0
    amount = np.rint(np.exp(random.normal(7.5, 1.2, n))).astype(np.int64)
    event_ms = START_MS + ((begin + np.arange(n)) * step_ms).astype(np.int64)
    payment = random.random((n, len(PAYMENT)))
    payment[:, PAYMENT.index("amount_minor")] = amount
    flags = np.zeros(n, np.uint8)
    for bit in (REMOTE, SMALL, FOREIGN):
        flags |= np.where(random.random(n) < 0.2, bit, 0).astype(np.uint8)
    paid = empty(n)._replace(
        what=np.full(n, PAID, np.int8),
        event_ms=event_ms,
        amount=amount,
        place=_places(random, n),
        who=who,
        flags=flags,
        payment=payment,
    )
    refused = np.flatnonzero(random.random(n) < DECLINED_SHARE)
    answers = empty(len(refused))._replace(
        what=np.full(len(refused), AUTHORISED, np.int8),
        event_ms=event_ms[refused],
        who=who[refused],
        flags=np.full(len(refused), DECLINED, np.uint8),
    )
    order = np.argsort(np.concatenate([np.arange(n) * 2, refused * 2 + 1]), kind="stable")
    together = concatenated([paid, answers]).take(order)
    offset = 2 * begin + np.arange(len(order))
    return Placed(together, offset, together.event_ms)
