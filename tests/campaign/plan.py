"""Which faults a campaign makes, and in which order: all of it follows from the seed."""

import random
from dataclasses import dataclass

LAKE = ("bronze", "silver", "features")
ACTORS = ("engine", *LAKE)
CRASH_POINTS = {
    "engine": ("after-produce", "snapshot-before-rename"),
    "bronze": ("after-delta-commit",),
    "silver": ("after-delta-commit",),
    "features": ("after-delta-commit", "snapshot-before-rename"),
}

KINDS = {
    "kill": 30,
    "kill driver": 12,
    "kill jvm": 12,
    "kill worker": 12,
    "crash point": 16,
    "kill broker": 8,
    "pause": 4,
    "pause broker": 2,
    "half-open": 4,
    "two writers": 4,
    "disk full": 4,
}
"""Kinds of fault and how often each is drawn, of 108."""


@dataclass(frozen=True)
class Fault:
    """One fault: what is done to whom, how long after the last one was over, and for how long."""

    number: int
    kind: str
    target: str
    wait_s: float
    hold_s: float
    place: str = ""
    """The crash point, with its count."""

    @property
    def kills(self) -> int:
        """How many processes end by SIGKILL at least."""
        if self.kind == "crash point":
            return 2
        return int(self.kind.startswith("kill") or self.kind == "two writers")

    def text(self) -> str:
        """For people."""
        return f"{self.number} {self.kind} {self.target}{' at ' + self.place if self.place else ''}"


def plan(seed: int, kills: int) -> list[Fault]:
    """Faults with at least so many SIGKILLs; equal arguments give equal faults."""
    draw = random.Random(seed)
    out: list[Fault] = []
    while sum(fault.kills for fault in out) < kills:
        kind = draw.choices(list(KINDS), list(KINDS.values()))[0]
        target = draw.choice(LAKE if kind in ("kill driver", "kill jvm", "kill worker") else ACTORS)
        if kind in ("kill broker", "pause broker", "half-open"):
            target = "broker"
        place = f"{draw.choice(CRASH_POINTS[target])}:{draw.randint(1, 6)}" if kind == "crash point" else ""
        out.append(Fault(len(out), kind, target, round(draw.uniform(0, 2), 3), round(draw.uniform(1, 6), 3), place))
    return out
