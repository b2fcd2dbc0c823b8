"""What became of states, as a table for people: a line a state, a column a recipe."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pytest

TABLES: dict[str, dict[str, dict[str, "Outcome"]]] = {}
"""By hop, state and recipe; what a run of the tests has found."""


@dataclass(frozen=True)
class Outcome:
    """How the job ended and what its table then held, in records."""

    lost: int
    doubled: int
    error: str = ""
    """Of a job that refused; counts are then those after its repair, or without one those that were found."""
    repaired: bool = False

    @property
    def safe(self) -> bool:
        """Nothing lost, nothing doubled."""
        return self.lost == self.doubled == 0

    @property
    def silent_loss(self) -> bool:
        """It ended well and something is gone."""
        return not self.error and self.lost > 0

    def text(self) -> str:
        """For a cell."""
        counts = f"{self.lost}/{self.doubled}"
        if not self.error:
            loud = "**" if self.silent_loss else ""
            return f"{loud}{counts}{', no error' if self.silent_loss else ''}{loud}"
        return f"{self.error}, repaired: {counts}" if self.repaired else f"{self.error} at every start"


def outcome(found: Iterable[int], expected: Iterable[int], error: str = "", repaired: bool = False) -> Outcome:
    """The outcome of a table that holds some positions and should hold others."""
    held = list(found)
    return Outcome(len(set(expected) - set(held)), len(held) - len(set(held)), error, repaired)


def noted(hop: str, state: str, recipe: str, found: Outcome) -> Outcome:
    """Keep an outcome for the table; the outcome."""
    TABLES.setdefault(hop, {}).setdefault(state, {})[recipe] = found
    return found


def lines(hop: str, states: Mapping[str, Mapping[str, Outcome]]) -> list[str]:
    """The table of a hop; cells are lost/doubled."""
    recipes = list(dict.fromkeys(recipe for row in states.values() for recipe in row))
    out = [f"| {hop}: state (lost/doubled) | " + " | ".join(recipes) + " |", "| --- " * (len(recipes) + 1) + "|"]
    for state, row in states.items():
        cells = (row[recipe].text() if recipe in row else "" for recipe in recipes)
        out.append(f"| {state} | {' | '.join(cells)} |")
    return out


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of several hands over what it has found."""
    handed = getattr(session.config, "workeroutput", None)
    if handed is not None:
        handed["crash"] = [
            [hop, state, recipe, *asdict(found).values()]
            for hop, states in TABLES.items()
            for state, row in states.items()
            for recipe, found in row.items()
        ]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a process has found."""
    for hop, state, recipe, *found in getattr(node, "workeroutput", {}).get("crash", ()):
        noted(hop, state, recipe, Outcome(*found))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was found."""
    for hop, states in TABLES.items():
        terminalreporter.write_line("")
        for line in lines(hop, states):
            terminalreporter.write_line(line)
