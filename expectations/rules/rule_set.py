"""The rule set in force, from the payload of scope `rules`; ControlRefused says which rule is wrong, and where.

    {"rules": [{"id": "card-testing-burst", "version": 1, "state": "active",
                "sql": "card_small_count_1h >= 3 AND is_remote = 1",
                "action": {"outcome": "review"},                 or {"score": 0.2}, added to the model's
                "reason_code": "CARD_TESTING", "sentence": "Several small payments within an hour.",
                "owner": "fraud-strategy", "pattern": "card_testing",
                "valid_from": null, "valid_to": null,            milliseconds of the engine's clock, to is exclusive
                "tests": {"matching": [{"card_small_count_1h": 3, "is_remote": 1}], "not_matching": [{}]}}]}

A test is a row; columns that it does not name are NULL.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import orjson

from expectations.rules import shapes
from expectations.rules.parsing import parsed
from expectations.rules.programs import Doubles, Flags, Ints, Program, program
from expectations.rules.tree import Node, Type
from expectations.rules.vocabulary import COLUMNS, PATTERNS
from lakehouse.errors import ControlRefused, RuleRefused

STATES = ("draft", "shadow", "active", "retired")
OUTCOMES = ("approve", "challenge", "review", "decline")
"""By severity."""
MOST_RULES = 500
MOST_TESTS = 50
_KEYS = (
    *("id", "version", "state", "sql", "action", "reason_code", "sentence", "owner", "pattern"),
    *("valid_from", "valid_to", "tests"),
)
_FOREVER = 2**62


@dataclass(frozen=True)
class Rule:
    """One rule; `score` is added to the model's, `severity` an index into OUTCOMES: one of the two acts."""

    id: str
    version: int
    state: str
    sql: str
    node: Node
    score: float
    severity: int
    reason_code: str
    sentence: str
    owner: str
    pattern: str | None
    valid_from_ms: int
    valid_to_ms: int

    @property
    def name(self) -> str:
        """How decisions name it."""
        return f"{self.id}@{self.version}"

    @property
    def effect(self) -> tuple[str, float, int, str]:
        """What a version stands for."""
        return self.sql, self.score, self.severity, self.reason_code


@dataclass(frozen=True)
class RuleSet:
    """All rules of one version, those that are evaluated ready to run."""

    rules: tuple[Rule, ...] = ()

    @staticmethod
    def of(payload: str) -> "RuleSet":
        """The rule set of a payload."""
        return _of(payload)

    @cached_property
    def evaluated(self) -> tuple[Rule, ...]:
        """The rules in state active or shadow, in the payload's order."""
        return tuple(rule for rule in self.rules if rule.state in ("active", "shadow"))

    @cached_property
    def program(self) -> Program:
        """The evaluated rules."""
        return program([rule.node for rule in self.evaluated])

    @cached_property
    def active(self) -> Flags:
        """Which of the evaluated rules act."""
        return np.array([rule.state == "active" for rule in self.evaluated], np.bool_)

    @cached_property
    def _from_to(self) -> tuple[Ints, Ints]:
        since, until = ([getattr(r, name) for r in self.evaluated] for name in ("valid_from_ms", "valid_to_ms"))
        return np.array(since, np.int64).reshape(-1, 1), np.array(until, np.int64).reshape(-1, 1)

    def valid(self, clock_ms: Ints) -> Flags:
        """(evaluated rules, payments): which are within their time."""
        since, until = self._from_to
        return (since <= clock_ms) & (clock_ms < until)

    def check_follows(self, before: "RuleSet") -> None:
        """ControlRefused when a rule means something else under the same version."""
        known = {rule.name: rule for rule in before.rules}
        for rule in self.rules:
            if rule.name in known and known[rule.name].effect != rule.effect:
                raise ControlRefused(f"Rule {rule.name} was changed under its old version.", "Raise its version.")


@lru_cache(4)
def _of(payload: str) -> RuleSet:
    content = shapes.loaded("rules", payload, ("rules",))
    rules = tuple(
        _rule(f"Rule {at + 1}", entry) for at, entry in enumerate(shapes.entries("rules", content["rules"], MOST_RULES))
    )
    ids = [rule.id for rule in rules]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice:
        raise ControlRefused(f"Rules appear twice: {', '.join(twice)}.")
    return RuleSet(rules)


def _rule(where: str, entry: object) -> Rule:
    found = shapes.shaped(where, entry, _KEYS)
    where = f"Rule {shapes.text(f'{where}: id', found['id'], r'[a-z][a-z0-9_-]{0,63}')}"
    version = found["version"]
    if type(version) is not int or not 1 <= version < 2**31:
        raise ControlRefused(f"{where}: version must be a whole number from 1 on.")
    text = shapes.text(f"{where}: sql", found["sql"], r"(?s).*")
    try:
        node = parsed(text)
    except RuleRefused as error:
        raise RuleRefused(f"{where}: {error.what}", error.do) from None
    score, severity = _action(where, found["action"])
    since = shapes.moment(f"{where}: valid_from", found["valid_from"])
    until = shapes.moment(f"{where}: valid_to", found["valid_to"])
    pattern = found["pattern"]
    rule = Rule(
        id=found["id"],
        version=version,
        state=shapes.one_of(f"{where}: state", found["state"], STATES),
        sql=text,
        node=node,
        score=score,
        severity=severity,
        reason_code=shapes.text(f"{where}: reason_code", found["reason_code"], r"[A-Z][A-Z0-9_]{0,63}"),
        sentence=shapes.text(f"{where}: sentence", found["sentence"]),
        owner=shapes.text(f"{where}: owner", found["owner"]),
        pattern=None if pattern is None else shapes.one_of(f"{where}: pattern", pattern, PATTERNS),
        valid_from_ms=-_FOREVER if since is None else since,
        valid_to_ms=_FOREVER if until is None else until,
    )
    _test(where, rule, found["tests"])
    return rule


def _action(where: str, found: object) -> tuple[float, int]:
    if isinstance(found, dict) and set(found) == {"outcome"}:
        return 0.0, OUTCOMES.index(shapes.one_of(f"{where}: outcome", found["outcome"], OUTCOMES))
    if isinstance(found, dict) and set(found) == {"score"}:
        score = found["score"]
        if type(score) in (int, float) and -1 <= score <= 1:
            return float(score), 0
    raise ControlRefused(f"{where}: action must be {{'outcome': ...}} or {{'score': -1 to 1}}.")


def _test(where: str, rule: Rule, tests: object) -> None:
    found = shapes.shaped(f"{where}: tests", tests, ("matching", "not_matching"))
    machine = program([rule.node])
    for name, wanted in (("matching", True), ("not_matching", False)):
        rows = shapes.entries(f"{where}: tests.{name}", found[name], MOST_TESTS)
        if rule.state == "active" and not rows:
            raise ControlRefused(f"{where} is active and has no {name.replace('_', ' ')} test.", "Add one.")
        for number, row in enumerate(rows, 1):
            if fires(machine, f"{where}: {name} test {number}", row) is not wanted:
                raise RuleRefused(f"{where}: {name} test {number} {'does not fire' if wanted else 'fires'}.")


def fires(machine: Program, where: str, row: object) -> bool:
    """Whether a program of one rule fires for a row of a test."""
    if not isinstance(row, dict):
        raise ControlRefused(f"{where} must be an object of columns.")
    for name, value in row.items():
        if name not in COLUMNS:
            raise ControlRefused(f"{where}: there is no column {str(name)[:64]}.")
        if value is not None and not _fits(COLUMNS[name], value):
            raise ControlRefused(f"{where}: {name} must be {COLUMNS[name].value} or null.")
    numbers = _numbers([row.get(name) for name in machine.numbers])
    texts = [[None if row.get(name) is None else row[name].encode()] for name in machine.texts]
    return bool(machine.fired(numbers, texts, 1)[0, 0])


def _fits(type_: Type, value: Any) -> bool:
    if type_ is Type.NUMBER:
        return type(value) in (int, float)
    return isinstance(value, str if type_ is Type.TEXT else bool)


def _numbers(values: Sequence[Any]) -> Doubles:
    return np.array([[np.nan if value is None else float(value)] for value in values], np.float64).reshape(-1, 1)


def payload_of(content: Mapping[str, Any]) -> str:
    """A payload as the one text that is signed."""
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode()
