"""The one definition of an accepted record, for the engine and for silver: row rules, clock, repeats, references.

In log order, a record is
  quarantined   when it breaks a row rule, when its currency has no rate, when a control event may not take force, or
                when its id was accepted before with other content (a conflict);
  a duplicate   when its id was accepted before with the same content, within the horizon on the engine's clock;
  accepted      otherwise; only then does it move the engine's clock, the running maximum of received_at.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from numba import njit

from expectations.control import ControlEvent, InForce, Staged
from expectations.reference import Doubles, converted
from lakehouse.errors import ControlRefused
from lakehouse.settings import Settings
from lakehouse.signing import Trust
from lakehouse.texts import Flags, Ints
from lakehouse.topics import EVENT_KINDS

ACCEPTED, QUARANTINED, DUPLICATE = range(3)
ROW_RULE, NO_REFERENCE, NO_RATE, CONFLICT, REFUSED = range(1, 6)
REASONS = {NO_REFERENCE: "no_reference_in_force", NO_RATE: "currency_without_rate", CONFLICT: "conflict"}

PAYMENT, AUTHORISATION, LABEL, CONTROL = (
    EVENT_KINDS.index(k) for k in ("payment", "authorisation", "label", "control")
)

_HOUR_MS = 3_600_000
_KEY_HI, _KEY_LO, _CONTENT_HI, _CONTENT_LO, _EXPIRES, _OFFSET = range(6)
_FREE = -(2**63)
"""In `_EXPIRES`: the slot holds nothing."""


@dataclass(frozen=True)
class Candidates:
    """Records of one partition in log order, as far as admission looks at them; one entry a record."""

    offset: Ints
    kind: Ints
    """Index into EVENT_KINDS."""
    received_ms: Ints
    sound: Flags
    """No row rule is broken."""
    identity: Ints
    """(n, 2): keyed digest of what makes the record unique within its kind."""
    content: Ints
    """(n, 2): keyed digest of everything but received_at."""
    amount_minor: Ints
    currency: Ints
    category: Ints
    country: Ints
    """Short codes (expectations.reference.short_codes) of payments and labels."""
    controls: Mapping[int, ControlEvent]
    """Control events by row."""
    staged: Mapping[int, Staged] = field(default_factory=dict)
    """What was said of staged models, by row."""


@dataclass(frozen=True)
class Verdicts:
    """What became of every record; the last five columns have a meaning for accepted ones only."""

    status: Ints
    why: Ints
    first_offset: Ints
    """Of duplicates and conflicts: offset of the accepted record, else -1."""
    first_content: Ints
    refusals: dict[int, str]
    """Why a control event may not take force, by row."""
    engine_clock: Ints
    amount_base_minor: Ints
    reference_version: Ints
    category_risk: Doubles
    country_risk: Doubles

    def reason(self, row: int, broken_rules: str) -> list[str]:
        """Names of the rules that a quarantined record breaks."""
        why = int(self.why[row])
        if why == ROW_RULE:
            return broken_rules.split(",")
        return [self.refusals[row]] if why == REFUSED else [REASONS[why]]


@njit(cache=True)
def _slot(seen: Ints, hi: int, lo: int) -> int:
    mask = seen.shape[0] - 1
    at = (hi ^ (lo >> 7)) & mask
    while seen[at, _EXPIRES] != _FREE and (seen[at, _KEY_HI] != hi or seen[at, _KEY_LO] != lo):
        at = (at + 1) & mask
    return int(at)


@njit(cache=True)
def _judge(
    first: int,
    last: int,
    offset: Ints,
    kind: Ints,
    received_ms: Ints,
    why: Ints,
    identity: Ints,
    content: Ints,
    horizon_ms: Ints,
    clock: int,
    seen: Ints,
    held: int,
    status: Ints,
    first_offset: Ints,
    first_content: Ints,
    engine_clock: Ints,
) -> tuple[int, int]:
    for i in range(first, last):
        now = max(clock, received_ms[i])
        engine_clock[i] = clock
        if why[i]:
            status[i] = QUARANTINED
            continue
        at = _slot(seen, identity[i, 0], identity[i, 1])
        if seen[at, _EXPIRES] > now:
            first_offset[i] = seen[at, _OFFSET]
            first_content[i, 0] = seen[at, _CONTENT_HI]
            first_content[i, 1] = seen[at, _CONTENT_LO]
            if seen[at, _CONTENT_HI] == content[i, 0] and seen[at, _CONTENT_LO] == content[i, 1]:
                status[i] = DUPLICATE
            else:
                status[i] = QUARANTINED
                why[i] = CONFLICT
            continue
        clock = now
        engine_clock[i] = clock
        status[i] = ACCEPTED
        held += seen[at, _EXPIRES] == _FREE
        seen[at, _KEY_HI] = identity[i, 0]
        seen[at, _KEY_LO] = identity[i, 1]
        seen[at, _CONTENT_HI] = content[i, 0]
        seen[at, _CONTENT_LO] = content[i, 1]
        seen[at, _EXPIRES] = clock + horizon_ms[kind[i]]
        seen[at, _OFFSET] = offset[i]
    return clock, held


@njit(cache=True)
def _rebuilt(seen: Ints, clock: int, size: int) -> tuple[Ints, int]:
    out = np.full((size, 6), _FREE, np.int64)
    held = 0
    for i in range(seen.shape[0]):
        if seen[i, _EXPIRES] > clock:
            at = _slot(out, seen[i, _KEY_HI], seen[i, _KEY_LO])
            out[at] = seen[i]
            held += 1
    return out, held


@njit(cache=True)
def _remember(seen: Ints, rows: Ints, held: int) -> int:
    for i in range(rows.shape[0]):
        at = _slot(seen, rows[i, _KEY_HI], rows[i, _KEY_LO])
        held += seen[at, _EXPIRES] == _FREE
        seen[at] = rows[i]
    return held


def horizons_ms(settings: Settings) -> Ints:
    """For how long an id of each kind is unique, in milliseconds of the engine's clock, by index of EVENT_KINDS."""
    out = np.full(len(EVENT_KINDS), settings.admission.duplicate_horizon_h * _HOUR_MS, np.int64)
    out[LABEL] = settings.admission.label_horizon_d * 24 * _HOUR_MS
    return out


@dataclass
class Admission:
    """The state of admission over one partition: the clock, the ids of the horizon, what is in force."""

    horizon_ms: Ints
    trust: Trust
    in_force: InForce = field(default_factory=InForce)
    clock: int = -(2**62)
    seen: Ints = field(default_factory=lambda: np.full((1024, 6), _FREE, np.int64))
    held: int = 0

    def _room_for(self, records: int) -> None:
        if (self.held + records) * 2 <= len(self.seen):
            return
        live = int((self.seen[:, _EXPIRES] > self.clock).sum())
        size = 1024
        while size < (live + records) * 3:
            size *= 2
        self.seen, self.held = _rebuilt(self.seen, self.clock, size)

    def remember(self, kind: Ints, identity: Ints, content: Ints, clock_ms: Ints, offset: Ints) -> None:
        """Take over accepted records from a table: what was accepted when, in log order."""
        self._room_for(len(offset))
        rows = np.column_stack([identity, content, clock_ms + self.horizon_ms[kind], offset])
        self.held = _remember(self.seen, rows, self.held)
        if len(offset):
            self.clock = max(self.clock, int(clock_ms.max()))

    def admit(self, records: Candidates) -> Verdicts:
        """The verdicts over the next records of the log; the state moves behind them."""
        n = len(records.offset)
        self._room_for(n)
        verdicts = Verdicts(
            status=np.zeros(n, np.int64),
            why=np.where(records.sound, 0, ROW_RULE),
            first_offset=np.full(n, -1, np.int64),
            first_content=np.zeros((n, 2), np.int64),
            refusals={},
            engine_clock=np.zeros(n, np.int64),
            amount_base_minor=np.zeros(n, np.int64),
            reference_version=np.zeros(n, np.int64),
            category_risk=np.full(n, np.nan),
            country_risk=np.full(n, np.nan),
        )
        begin = 0
        for row in [*sorted({*records.controls, *records.staged}), n]:
            self._segment(records, verdicts, begin, row)
            if row in records.controls:
                self._control(records, verdicts, row)
            elif row in records.staged:
                self._segment(records, verdicts, row, row + 1)
                if verdicts.status[row] == ACCEPTED:
                    self.in_force.hear(records.staged[row])
            begin = row + 1
        return verdicts

    def _segment(self, records: Candidates, verdicts: Verdicts, first: int, last: int) -> None:
        if first >= last:
            return
        self._refer(records, verdicts, slice(first, last))
        self.clock, self.held = _judge(
            first,
            last,
            records.offset,
            records.kind,
            records.received_ms,
            verdicts.why,
            records.identity,
            records.content,
            self.horizon_ms,
            self.clock,
            self.seen,
            self.held,
            verdicts.status,
            verdicts.first_offset,
            verdicts.first_content,
            verdicts.engine_clock,
        )

    def _refer(self, records: Candidates, verdicts: Verdicts, rows: slice) -> None:
        kind, why = records.kind[rows], verdicts.why[rows]
        priced: npt.NDArray[np.bool_] = ((kind == PAYMENT) | (kind == LABEL)) & (why == 0)
        reference = self.in_force.reference
        if reference is None:
            why[priced] = NO_REFERENCE
            return
        rate = reference.rate_micro(records.currency[rows])
        known = priced & ~np.isnan(rate)
        why[priced & ~known] = NO_RATE
        whole = np.where(known, rate, 0).astype(np.int64)
        verdicts.amount_base_minor[rows] = converted(np.where(known, records.amount_minor[rows], 0), whole)
        verdicts.reference_version[rows] = np.where(known, reference.version, 0)
        verdicts.category_risk[rows] = np.where(known, reference.category_risk(records.category[rows]), np.nan)
        verdicts.country_risk[rows] = np.where(known, reference.country_risk(records.country[rows]), np.nan)

    def _control(self, records: Candidates, verdicts: Verdicts, row: int) -> None:
        at = _slot(self.seen, records.identity[row, 0], records.identity[row, 1])
        repeated = self.seen[at, _EXPIRES] > max(self.clock, int(records.received_ms[row]))
        if verdicts.why[row] == 0 and not repeated:
            try:
                self.in_force.offer(records.controls[row], self.trust)
                self.in_force.forget(self.clock)
            except ControlRefused as error:
                verdicts.why[row] = REFUSED
                verdicts.refusals[row] = f"control_refused: {error.what}"
        self._segment(records, verdicts, row, row + 1)
