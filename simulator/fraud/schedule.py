"""When fraud happens: for each scenario its episodes, spread evenly from the first day to the last."""

from dataclasses import dataclass

import numpy as np

from simulator import places, rhythm
from simulator.intents import SCENARIOS
from simulator.options import DAY_MS, Options
from simulator.randomness import Flags, Ints, drawn, generator

LEAD_DAYS = 5
"""Episodes that began so long before the world did still run on its first day; none is longer."""


@dataclass(frozen=True)
class Pattern:
    """How much of all fraud a scenario is, and how many payments an episode has (both ends included)."""

    share: float
    low: int
    high: int


PATTERNS = {
    # Shares are chosen so that each pattern has about a hundred payments in the default world and none hides another;
    # sizes after what the card schemes describe: tests come in dozens, a counterfeit card is used a few times.
    "account_takeover": Pattern(0.14, 3, 6),
    "card_testing": Pattern(0.14, 7, 13),
    "velocity_attack": Pattern(0.13, 6, 11),
    "impossible_travel": Pattern(0.11, 2, 4),
    "amount_probing": Pattern(0.12, 6, 9),
    "merchant_collusion": Pattern(0.13, 8, 13),
    "synthetic_identity": Pattern(0.12, 7, 12),
    "bust_out": Pattern(0.11, 7, 11),
}
assert tuple(PATTERNS) == SCENARIOS[1:]


@dataclass(frozen=True)
class Schedule:
    """Episodes of one scenario in order of time."""

    scenario: int
    start_ms: Ints
    size: Ints
    """Fraudulent payments."""

    def __len__(self) -> int:
        return len(self.start_ms)

    def take(self, chosen: Flags) -> "Schedule":
        """The chosen episodes."""
        return Schedule(self.scenario, self.start_ms[chosen], self.size[chosen])


def schedule(options: Options, scenario: str) -> Schedule:
    """The episodes of a scenario: one at a random instant of each of equal stretches of time."""
    number, pattern = SCENARIOS.index(scenario), PATTERNS[scenario]
    per_day = options.payments_per_day * options.fraud_rate * pattern.share
    if per_day == 0:
        return Schedule(number, np.zeros(0, np.int64), np.zeros(0, np.int64))
    rng = generator(options.seed, f"schedule {scenario}")
    stretch_days = (pattern.low + pattern.high) / 2 / per_day
    n = int((LEAD_DAYS + options.span_days) / stretch_days) + 1
    after = (np.arange(n) + rng.random(n)) * stretch_days - LEAD_DAYS
    day_ms = options.start_ms + np.floor(after).astype(np.int64) * DAY_MS
    # Thieves keep the hours of honest people, among whom they are less conspicuous.
    offset = places.offset_min(options.live_from_ms)[places.cities(rng.random(n))]
    profile = drawn(np.cumsum(rhythm.PROFILE_WEIGHTS), rng.random(n))
    start = np.sort(rhythm.moments(day_ms, offset, profile, rng.random(n)))
    return Schedule(number, start, rng.integers(pattern.low, pattern.high + 1, n))
