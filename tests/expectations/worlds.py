"""Logs for admission without bytes: a record as a few plain values, and the columns made of them.

`expected` is admission written a second time, record by record with dictionaries, as the text of the contract has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from expectations.admission import ACCEPTED, DUPLICATE, QUARANTINED, Admission, Candidates, Verdicts, horizons_ms
from expectations.control import ControlEvent, Staged
from expectations.reference import short_codes
from lakehouse import settings as conf
from lakehouse.signing import Trust
from lakehouse.texts import Texts
from lakehouse.topics import EVENT_KINDS
from tests.lakehouse.records import HOUR, T0

HORIZON_MS = dict.fromkeys(EVENT_KINDS, 48 * HOUR) | {"label": 400 * 24 * HOUR}


MODEL = {"digest": "ab" * 32}
"""The one model that these logs know."""


@dataclass(frozen=True)
class Record:
    """One record as admission looks at it; `at_h` is received_at in hours after T0.

    A `staged` record with content says that the model was refused, one without that it is ready.
    """

    identity: str
    at_h: float = 0
    content: int = 0
    kind: str = "payment"
    sound: bool = True
    amount: int = 100
    currency: str = "EUR"
    event: ControlEvent | None = None

    @property
    def received_ms(self) -> int:
        """In milliseconds."""
        return T0 + round(self.at_h * HOUR)

    @property
    def refused(self) -> str | None:
        """Why the model is refused, of a `staged` record."""
        return "altered" if self.content else None


@dataclass(frozen=True)
class Judgement:
    """What became of a record."""

    status: int
    reason: str = ""
    first_offset: int = -1
    clock_ms: int = 0
    amount_base: int = 0
    version: int = 0


def fresh(trust: Trust) -> Admission:
    """Admission before the first record."""
    return Admission(horizons_ms(conf.load()), trust)


def _number(text: str) -> int:
    return int.from_bytes(text.encode().ljust(8, b"\0")[:8], "big", signed=True)


def columns(log: Sequence[Record], first: int = 0) -> Candidates:
    """The records, from offset `first` on, as admission takes them."""

    def ints(values: Sequence[int]) -> Any:
        return np.array(values, np.int64)

    return Candidates(
        offset=ints(range(first, first + len(log))),
        kind=ints([EVENT_KINDS.index(r.kind) for r in log]),
        received_ms=ints([r.received_ms for r in log]),
        sound=np.array([r.sound for r in log], np.bool_),
        identity=ints([(_number(r.identity), EVENT_KINDS.index(r.kind)) for r in log]).reshape(-1, 2),
        content=ints([(r.content, 7) for r in log]).reshape(-1, 2),
        amount_minor=ints([r.amount for r in log]),
        currency=short_codes(Texts.of([r.currency for r in log])),
        category=short_codes(Texts.of(["5411"] * len(log))),
        country=short_codes(Texts.of(["FR"] * len(log))),
        controls={row: r.event for row, r in enumerate(log) if r.event is not None},
        staged={row: Staged(MODEL["digest"], r.refused) for row, r in enumerate(log) if r.kind == "staged"},
    )


def judgements(verdicts: Verdicts, log: Sequence[Record]) -> list[Judgement]:
    """The verdicts in plain values."""
    out = []
    for row, record in enumerate(log):
        status = int(verdicts.status[row])
        reason = verdicts.reason(row, "broken")[0] if status == QUARANTINED else ""
        priced = status == ACCEPTED and record.kind in ("payment", "label")
        out.append(
            Judgement(
                status,
                reason,
                int(verdicts.first_offset[row]),
                int(verdicts.engine_clock[row]) if status == ACCEPTED else 0,
                int(verdicts.amount_base_minor[row]) if priced else 0,
                int(verdicts.reference_version[row]) if priced else 0,
            )
        )
    return out


@dataclass
class Model:
    """Admission as its contract reads, with dictionaries."""

    trust: Trust
    clock: int = -(2**62)
    seen: dict[tuple[str, str], tuple[int, int, int]] = field(default_factory=dict)
    reference: dict[str, Any] | None = None
    versions: dict[str, tuple[int, str]] = field(default_factory=dict)
    is_staged: bool = False

    def judge(self, offset: int, record: Record) -> Judgement:
        """The judgement over the next record."""
        if not record.sound:
            return Judgement(QUARANTINED, "broken")
        priced = record.kind in ("payment", "label")
        if priced and self.reference is None:
            return Judgement(QUARANTINED, "no_reference_in_force")
        if priced and self.reference is not None and record.currency not in self.reference["rates_micro"]:
            return Judgement(QUARANTINED, "currency_without_rate")
        now = max(self.clock, record.received_ms)
        expires, content, first = self.seen.get((record.kind, record.identity), (now, 0, -1))
        if expires > now:
            if content == record.content:
                return Judgement(DUPLICATE, "", first)
            return Judgement(QUARANTINED, "conflict", first)
        if record.event is not None and (why := self._refusal(record.event)):
            return Judgement(QUARANTINED, f"control_refused: {why}")
        self.clock = now
        self.seen[record.kind, record.identity] = (now + HORIZON_MS[record.kind], record.content, offset)
        if record.kind == "staged":
            self.is_staged = record.refused is None
        if not priced or self.reference is None:
            return Judgement(ACCEPTED, "", -1, now)
        rate = self.reference["rates_micro"][record.currency]
        base, rest = divmod(record.amount * rate, 1_000_000)
        base += rest > 500_000 or (rest == 500_000 and base % 2)
        return Judgement(ACCEPTED, "", -1, now, base, self.versions["reference"][0])

    def _refusal(self, event: ControlEvent) -> str:
        version, digest = self.versions.get(event.scope, (0, ""))
        if (event.version, event.previous_digest) != (version + 1, digest):
            return f"{event.scope} version {event.version} does not follow version {version}."
        if not self.trust.verifies(event.author, "author", event.message, event.author_signature):
            return f"The author's signature by {event.author} does not verify."
        if event.scope == "model" and not self.is_staged:
            return "model abababababab is not staged: no `staged` record before this one says that it is ready."
        self.versions[event.scope] = (event.version, event.digest)
        if event.scope == "staging":
            self.is_staged = False
        if event.scope == "reference":
            self.reference = orjson.loads(event.payload)
        return ""


def state(admission: Admission) -> dict[str, Any]:
    """Everything that later verdicts depend on."""
    live = admission.seen[admission.seen[:, 4] > admission.clock]
    return {
        "clock": admission.clock,
        "in_force": admission.in_force.digest,
        "staged": admission.in_force.staged,
        "version": admission.in_force.reference and admission.in_force.reference.version,
        "seen": sorted(map(tuple, live.tolist())),
    }
