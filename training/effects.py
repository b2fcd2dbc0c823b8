"""What two policies make of the same payments of the past, payment by payment, with what is known of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from decisions.past import Stretch
from decisions.ruling import Ruling
from decisions.verdicts import Verdicts
from expectations.rules.rule_set import OUTCOMES, Rule
from features.inputs import token_keys
from lakehouse.moments import DAY_MS
from training.paired import Flags, Ints

_PLACE = {name: at for at, name in enumerate(OUTCOMES)}


class Known(NamedTuple):
    """What is known of payments by their ids."""

    frauds: pa.Array
    """Ids of payments that labels call fraud."""
    matured_before_ms: int
    """Payments before had time for their labels to arrive."""
    told: pa.Table | None
    """(transaction_id, pattern) of frauds, where somebody can tell."""


class Fired(NamedTuple):
    """Which rules fired on which payments, a row a pair; shadow rules too, suppressed ones not."""

    payment: Ints
    rule: Ints
    """Place among the names of the rules."""


@dataclass(frozen=True)
class Side:
    """One policy's part: a row a payment."""

    outcome: Ints
    """Index into OUTCOMES, after exploration."""
    rung: Ints
    fired: Fired
    rules: Mapping[str, Rule]
    """Everything that was evaluated, by name and version; the places that `fired` names."""


@dataclass(frozen=True)
class Effects:
    """A row a payment, in the order of the log."""

    event_ms: Ints
    card: Ints
    """Codes from zero on."""
    amount_minor: Ints
    """Base currency."""
    fraud: Flags
    """By labels; of those that are not matured, what is known so far."""
    matured: Flags
    pattern: Ints
    """Place among `patterns`, -1 where nobody tells one."""
    patterns: tuple[str, ...] | None
    """None where nobody tells patterns."""
    before: Side
    after: Side

    def __len__(self) -> int:
        return len(self.event_ms)

    @property
    def day(self) -> Ints:
        """Days from zero on."""
        day = self.event_ms // DAY_MS
        return day - (day.min() if len(day) else 0)


@dataclass
class _Side:
    """One policy's part while it grows."""

    outcome: list[Ints] = field(default_factory=list)
    rung: list[Ints] = field(default_factory=list)
    payment: list[int] = field(default_factory=list)
    rule: list[int] = field(default_factory=list)
    place: dict[str, int] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)

    def add(self, found: Verdicts, first: int) -> None:
        """Take in the verdicts on the next payments; `first` is the number of the first of them."""
        self.outcome.append(np.fromiter((_PLACE[one] for one in found.outcome), np.int64, len(found.outcome)))
        self.rung.append(found.rung)
        if found.ruling is not None:
            self._add_rules(found.ruling, first + found.ruled)

    def _add_rules(self, ruling: Ruling, number: Ints) -> None:
        for rule in ruling.heard.rules.evaluated:
            if rule.name not in self.place:
                self.place[rule.name] = len(self.place)
                self.rules[rule.name] = rule
        for named in (ruling.fired, ruling.shadow):
            for row, names in named.items():
                self.payment += [int(number[row])] * len(names)
                self.rule += [self.place[name] for name in names]

    def whole(self) -> Side:
        """Everything that was taken in."""
        fired = Fired(np.array(self.payment, np.int64), np.array(self.rule, np.int64))
        return Side(_joined(self.outcome), _joined(self.rung), fired, self.rules)


def _joined(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


class Collected:
    """Effects while they are made."""

    def __init__(self, known: Known) -> None:
        self._known = known
        names = None if known.told is None else sorted(set(known.told.column("pattern").to_pylist()))
        self._patterns = None if names is None else tuple(names)
        self._columns: dict[str, list[Ints]] = {name: [] for name in ("event_ms", "card", "amount", "fraud", "pattern")}
        self._before, self._after = _Side(), _Side()
        self.payments = 0

    def add(self, stretch: Stretch, before: Verdicts, after: Verdicts) -> None:
        """Take in the next payments; nothing of their features is kept."""
        payments = stretch.payments
        ids = payments.batch.texts("transaction_id").to_arrow()
        tokens, has = payments.people.texts("card", stretch.tokens[-1]), payments.people.has["card"]
        self._columns["event_ms"].append(stretch.event_ms)
        self._columns["card"].append(token_keys(tokens.take(payments.rows), has[payments.rows]))
        self._columns["amount"].append(payments.amount_base_minor)
        self._columns["fraud"].append(pc.is_in(ids, value_set=self._known.frauds).to_numpy(zero_copy_only=False))
        self._columns["pattern"].append(self._told(ids))
        self._before.add(before, self.payments)
        if after is not before:
            self._after.add(after, self.payments)
        self.payments += len(stretch.offset)

    def _told(self, ids: pa.Array) -> Ints:
        told = self._known.told
        if told is None or self._patterns is None:
            return np.full(len(ids), -1, np.int64)
        at = pc.index_in(ids, value_set=told.column("transaction_id").combine_chunks())
        names = told.column("pattern").take(at)
        place = pc.fill_null(pc.index_in(names, value_set=pa.array(self._patterns, pa.string())), -1)
        found: Ints = place.to_numpy().astype(np.int64)
        return found

    def whole(self) -> Effects:
        """Everything that was taken in."""
        event_ms, card, amount, fraud, pattern = (_joined(parts) for parts in self._columns.values())
        before = self._before.whole()
        return Effects(
            event_ms,
            np.unique(card, return_inverse=True)[1].astype(np.int64),
            amount,
            fraud.astype(np.bool_),
            event_ms < self._known.matured_before_ms,
            pattern,
            self._patterns,
            before,
            self._after.whole() if self._after.outcome else before,
        )
