"""What rules, lists and thresholds in force make of scored payments: outcome, risk, reasons.

    score with rules   the model's score plus what active rules add, kept within 0 to 1; its band counts
    outcome            the more severe of that band and the outcomes of active rules
    block list         declines whatever else is true
    allow list         approves, unless a block list or an active rule that declines says otherwise
    watch list         acts through rules only; it is named like the others

A suppressed rule is named and does nothing. Every row is ruled on its own: where a batch was cut does not matter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from decisions.accepted import Accepted
from decisions.bundle import SCALE
from decisions.forests import Doubles
from decisions.identities import FIELDS
from decisions.outcome import OUTCOMES, bands, edges
from expectations.control import InForce
from expectations.rules.programs import Flags
from expectations.rules.rule_set import RuleSet
from expectations.rules.vocabulary import FEATURES, MEMBERSHIPS
from features.catalogue import NAMES
from lakehouse.crypto import Tokens
from lakehouse.texts import Ints

CODES = {"block": "LIST_BLOCK", "allow": "LIST_ALLOW"}
_COLUMN = {name: at for at, name in enumerate(NAMES)}
_DECLINE = len(OUTCOMES) - 1
Hits = dict[int, list[tuple[str, str]]]
"""Row -> (list, kind of entity), sorted."""


class Settled(NamedTuple):
    """A row a payment: score with rules, its band, and the outcome as index into OUTCOMES."""

    score: Doubles
    band: Ints
    outcome: Ints


@dataclass(frozen=True)
class Heard:
    """What rules, lists and thresholds in force say of payments, whatever the model's score is."""

    rules: RuleSet
    acting: Flags
    """(evaluated rules, payments)."""
    lists: dict[int, set[str]]
    """By row the lists that name somebody."""
    cuts: Doubles | None
    """Of the thresholds in force."""

    def settled(self, score: Doubles, cuts: Doubles) -> Settled:
        """What they make of a model's scores; `cuts` (rows of `outcome.edges`) count without thresholds in force."""
        score = score.copy()
        severity = np.zeros(len(score), np.int64)
        for rule, fires in zip(self.rules.evaluated, self.acting, strict=True):
            if rule.score:
                score += np.where(fires, rule.score, 0.0)
            if rule.severity:
                severity = np.maximum(severity, np.where(fires, rule.severity, 0))
        score = np.rint(np.clip(score, 0.0, 1.0) * SCALE) / SCALE
        band = bands(score, cuts if self.cuts is None else self.cuts)
        outcome = np.maximum(band, severity)
        for row, lists in self.lists.items():
            if "block" in lists:
                outcome[row] = _DECLINE
            elif "allow" in lists and severity[row] != _DECLINE:
                outcome[row] = 0
        return Settled(score, band, outcome)


@dataclass(frozen=True)
class Ruling:
    """A row a payment: what was settled, and by row what has any."""

    settled: Settled
    heard: Heard
    fired: dict[int, list[str]]
    shadow: dict[int, list[str]]
    suppressed: dict[int, list[str]]
    codes: dict[int, list[str]]
    lists: dict[int, list[str]]


def ruled(payments: Accepted, score: Doubles, in_force: InForce, cuts: Doubles, tokens: Sequence[Tokens]) -> Ruling:
    """The ruling on every payment and its model's score.

    `cuts` (rows of `outcome.edges`) count where no thresholds are in force.

    `tokens` are of every key version that an entry of a list can be of, the one in force last.
    """
    hits = _hits(payments, in_force, tokens)
    rules = in_force.rules
    found = _fired(payments, rules, hits)
    acting = found & rules.active[:, None]
    held = _suppressed(payments, in_force, acting, tokens)
    acting = acting & ~held
    named_by = {row: {name for name, _ in named} for row, named in hits.items()}
    heard = Heard(rules, acting, named_by, edges(in_force.cuts) if in_force.cuts else None)
    names = [rule.name for rule in rules.evaluated]
    codes: dict[int, list[str]] = {row: [CODES[n] for n in CODES if n in dict(named)] for row, named in hits.items()}
    for row, some in _named([rule.reason_code for rule in rules.evaluated], acting).items():
        codes[row] = codes.get(row, []) + some
    return Ruling(
        settled=heard.settled(score, cuts),
        heard=heard,
        fired=_named(names, acting),
        shadow=_named(names, found & ~rules.active[:, None]),
        suppressed=_named(names, held),
        codes={row: list(dict.fromkeys(some)) for row, some in codes.items()},
        lists={row: [f"{name}:{kind}" for name, kind in named] for row, named in hits.items()},
    )


def _named(names: list[str], fired: Flags) -> dict[int, list[str]]:
    """By row the names of what fired, in the order of the rules."""
    out: dict[int, list[str]] = {}
    for at, row in zip(*(index.tolist() for index in np.nonzero(fired)), strict=True):
        out.setdefault(row, []).append(names[at])
    return out


def _hits(payments: Accepted, in_force: InForce, tokens: Sequence[Tokens]) -> Hits:
    """Which entries name whom; a list counts until its time on the engine's clock."""
    found: Hits = {}
    clock = payments.clock_ms
    for kind, entries in in_force.entries["lists"].by_token.items():
        for row, token in _tokens(payments, kind, tokens):
            for name, until in entries.get(token, {}).items():
                if clock[row] < until:
                    found.setdefault(row, []).append((name, kind))
    return {row: sorted(set(named)) for row, named in found.items()}


def _tokens(payments: Accepted, kind: str, tokens: Sequence[Tokens]) -> Iterator[tuple[int, bytes]]:
    """(row, token) of everybody of a kind, under every key version."""
    if kind == "merchant":
        yield from enumerate(payments.batch.texts("merchant_id").to_list())
        return
    *former, now = tokens
    yield from enumerate(payments.people.texts(kind, now).take(payments.rows).to_list())
    has = np.flatnonzero(payments.people.has[kind][payments.rows])
    for before in former:
        values = payments.batch.texts(FIELDS[kind]).take(has).to_list()
        yield from zip(has.tolist(), (text.encode() for text in before.texts(kind, values)), strict=True)


def _suppressed(payments: Accepted, in_force: InForce, acting: Flags, tokens: Sequence[Tokens]) -> Flags:
    held = np.zeros(acting.shape, np.bool_)
    entries = in_force.entries["suppressions"].by_token.get("customer", {})
    if entries and acting.any():
        place = {rule.id: at for at, rule in enumerate(in_force.rules.evaluated)}
        for row, token in _tokens(payments, "customer", tokens):
            for rule, until in entries.get(token, {}).items():
                if rule in place and payments.clock_ms[row] < until:
                    held[place[rule], row] = acting[place[rule], row]
    return held


def _fired(payments: Accepted, rules: RuleSet, hits: Hits) -> Flags:
    """(evaluated rules, payments): which are TRUE and within their time."""
    n = len(payments.rows)
    program = rules.program
    numbers = np.empty((len(program.numbers), n))
    for at, name in enumerate(program.numbers):
        if name in FEATURES:
            numbers[at] = payments.vectors[:, _COLUMN[name]]
        elif name in MEMBERSHIPS:
            numbers[at] = [MEMBERSHIPS[name] in hits.get(row, ()) for row in range(n)]
        elif name == "amount_base_minor":
            numbers[at] = payments.amount_base_minor
        else:
            values, has = payments.batch.columns[name], payments.batch.has(name)
            numbers[at] = np.where(has, values, np.nan)  # type: ignore[arg-type]
    texts = []
    for name in program.texts:
        raw, has = payments.batch.texts(name).to_list(), payments.batch.has(name).tolist()
        texts.append([one if given else None for one, given in zip(raw, has, strict=True)])
    return program.fired(numbers, texts, n) & rules.valid(payments.clock_ms)
