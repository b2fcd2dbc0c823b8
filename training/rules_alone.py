"""What rules alone would have decided of payments: the lowest baseline that is already paid for.

A training set has vectors and amounts, so the rules that name other fields or lists are not heard, and named.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from decisions.ladder import CUTS
from decisions.outcome import OUTCOMES, edges
from decisions.rule_control import file_payload
from decisions.ruling import Heard
from expectations.rules.programs import Program
from expectations.rules.rule_set import RuleSet
from expectations.rules.vocabulary import FEATURES
from features.catalogue import NAMES
from lakehouse import settings as conf
from training.data import Matrix
from training.fit import Doubles, Flags
from training.split import Rows

AMOUNT = "amount_base_minor"


@dataclass(frozen=True)
class RulesAlone:
    """A row a payment."""

    outcome: Rows
    """An index into OUTCOMES, from a model's score of zero."""
    score: Doubles
    """Ranks payments: by outcome, then by what rules add to the score; 0 to 1."""
    by_pattern: Mapping[str, Flags]
    """Pattern of fraud -> where a rule that serves it fires."""
    unheard: tuple[str, ...]
    """Active rules that name what a training set does not have."""


def shipped(path: Path | None = None) -> RuleSet:
    """The rules of a file, by default those of conf/rules.json; ControlRefused says what is wrong with it."""
    path = conf.home() / "conf" / "rules.json" if path is None else path
    return RuleSet.of(file_payload(str(path)))


def _numbers(wanted: Program, X: Matrix, amount_minor: Rows) -> Doubles:
    columns = [amount_minor if name == AMOUNT else X[:, NAMES.index(name)] for name in wanted.numbers]
    return np.array(columns, np.float64).reshape(len(columns), len(X))


def rules_alone(rules: RuleSet, X: Matrix, amount_minor: Rows, clock_ms: Rows) -> RulesAlone:
    """Active rules over vectors (n, features); amounts in minor units of the base currency, times of the payments."""
    active = [rule for rule in rules.rules if rule.state == "active"]
    heard = [rule for rule in active if FEATURES.union([AMOUNT]).issuperset(rule.node.columns)]
    acting_rules = RuleSet(tuple(heard))
    wanted = acting_rules.program
    acting = wanted.fired(_numbers(wanted, X, amount_minor), [], len(X)) & acting_rules.valid(clock_ms)
    settled = Heard(acting_rules, acting, {}, None).settled(np.zeros(len(X)), edges(CUTS))
    patterns = sorted({rule.pattern for rule in heard if rule.pattern is not None})
    return RulesAlone(
        settled.outcome,
        (settled.outcome + settled.score) / len(OUTCOMES),
        {one: np.logical_or.reduce(acting[[rule.pattern == one for rule in heard]]) for one in patterns},
        tuple(rule.name for rule in active if rule not in heard),
    )
