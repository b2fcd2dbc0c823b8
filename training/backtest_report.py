"""The report of a backtest: JSON for machines, tables for people."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from decisions.ladder import RULES_ONLY, RUNGS
from expectations.rules.rule_set import OUTCOMES
from lakehouse.experiment_settings import Experiment
from lakehouse.moments import time_of
from training.effect_figures import Figures, by_pattern, by_rule, difference, of_side, shifts
from training.effects import Effects

NO_PATTERNS = "labels say fraud or not, never which pattern; --truth FILE names the pattern of each"


@dataclass(frozen=True)
class Asked:
    """What was taken again, and with what changed."""

    start_ms: int
    end_ms: int
    from_position: int
    to_position: int
    as_of_ms: int
    matured_before_ms: int
    changes: Mapping[str, Any]
    """Of rules, model and thresholds what was given."""
    fitted_until_ms: int | None = None
    """Payments before that are such as the given model was fitted on, where its manifest says so."""


@dataclass(frozen=True)
class Report:
    """Everything that a backtest found."""

    asked: Asked
    payments: int
    matured: int
    frauds: int
    """Of the matured ones."""
    original: Figures
    changed: Figures
    difference: Figures
    """Changed minus original, with 95 % intervals."""
    shifts: Mapping[str, Mapping[str, int]]
    patterns: Mapping[str, Figures] | None
    original_rules: list[Figures]
    changed_rules: list[Figures]

    @staticmethod
    def of(asked: Asked, effects: Effects, settings: Experiment, seed: int) -> "Report":
        """The report over effects."""
        return Report(
            asked,
            len(effects),
            int(effects.matured.sum()),
            int((effects.fraud & effects.matured).sum()),
            of_side(effects, effects.before, settings),
            of_side(effects, effects.after, settings),
            difference(effects, settings.costs, seed),
            shifts(effects),
            by_pattern(effects),
            by_rule(effects, effects.before, effects.after),
            by_rule(effects, effects.after, effects.before),
        )

    def as_json(self) -> str:
        """For machines."""
        told = {**asdict(self), "not_matured": self.payments - self.matured}
        if self.patterns is None:
            told["patterns_unknown"] = NO_PATTERNS
        return orjson.dumps(told).decode()

    def as_text(self) -> str:
        """For people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        asked = self.asked
        times = " to ".join(f"{time_of(one):%Y-%m-%d %H:%M:%S}" for one in (asked.start_ms, asked.end_ms))
        yield f"{times} UTC, offsets {asked.from_position:,} to {asked.to_position:,}"
        told = ", ".join(f"{name} {value}" for name, value in asked.changes.items())
        yield f"changed: {told or 'nothing'}"
        yield (
            f"{self.payments:,} payments: {self.matured:,} matured with {self.frauds:,} frauds, "
            f"{self.payments - self.matured:,} not matured (labels as of {time_of(asked.as_of_ms):%Y-%m-%d %H:%M})"
        )
        until = asked.fitted_until_ms
        if until is not None and until > asked.start_ms:
            yield f"the model was fitted on payments until {time_of(until):%Y-%m-%d %H:%M}: before that it knows them"
        without = self.original["rungs"].get(RUNGS[RULES_ONLY], 0)
        if without:
            yield f"at {without:,} of them no model was in force: rules and lists alone, as the ladder decides then"
        yield ""
        yield f"{'':28}{'original':>16}{'changed':>16}   difference, 95 % interval"
        for name in ("net_minor", "prevented_minor", "friction_minor", "review_minor"):
            yield self._line(name, 0)
        for name in ("recall", "precision", "false_positive_rate"):
            yield self._line(name, 5)
        for name in ("frauds_stopped", "genuine_stopped", "reviews"):
            yield self._line(name, 0)
        yield self._line("review_hours", 1)
        yield ""
        yield f"{'from / to':12}" + "".join(f"{name:>12}" for name in OUTCOMES)
        for name, row in self.shifts.items():
            yield f"{name:12}" + "".join(f"{row[to]:>12,}" for to in OUTCOMES)
        yield ""
        yield from self._pattern_lines()
        yield ""
        heads = (
            ("state", 8),
            ("fired", 9),
            ("matured", 9),
            ("frauds", 8),
            ("precision", 11),
            ("stopped", 9),
            ("others", 8),
        )
        yield f"{'rule':36}" + "".join(f"{name:>{width}}" for name, width in heads)
        for rule in self.changed_rules:
            yield _rule_line(rule)
        kept = {rule["rule"] for rule in self.changed_rules}
        for rule in self.original_rules:
            if rule["rule"] not in kept:
                yield _rule_line(rule) + "  (only in the original)"
        yield "stopped: of these the original stops already; others: another rule fires on them too; *: new"

    def _line(self, name: str, digits: int) -> str:
        sides = "".join(f"{_number(side[name], digits):>16}" for side in (self.original, self.changed))
        found = self.difference.get(name)
        if found is None:
            return f"{name:28}{sides}"
        value, low, high = (_number(found[key], digits) for key in ("value", "low", "high"))
        return f"{name:28}{sides}   {value} ({low} to {high})"

    def _pattern_lines(self) -> Iterator[str]:
        if self.patterns is None:
            yield f"by pattern: {NO_PATTERNS}"
            return
        yield f"{'pattern':28}{'frauds':>8}{'original':>10}{'changed':>10}"
        for name, one in self.patterns.items():
            yield f"{name:28}{one['frauds']:>8,}{one['original_stopped']:>10,}{one['changed_stopped']:>10,}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _rule_line(rule: Figures) -> str:
    name = f"{'*' if rule['new'] else ' '}{rule['rule']}"
    counts = f"{rule['fired']:>9,}{rule['matured']:>9,}{rule['frauds']:>8,}{_number(rule['precision'], 3):>11}"
    return f"{name:36}{rule['state']:>8}{counts}{rule['stopped_already']:>9,}{rule['with_other_rules']:>8,}"
