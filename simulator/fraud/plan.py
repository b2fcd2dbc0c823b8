"""All fraud of a world, in order of time: the eight scenarios over their schedules."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from simulator import scene as scenes
from simulator.fraud.balance import Balance
from simulator.fraud.bustout import bust_out
from simulator.fraud.collusion import merchant_collusion
from simulator.fraud.probing import amount_probing
from simulator.fraud.schedule import Schedule, schedule
from simulator.fraud.synthetic import rings, synthetic_identity
from simulator.fraud.takeover import account_takeover
from simulator.fraud.testing import card_testing
from simulator.fraud.travel import impossible_travel
from simulator.fraud.velocity import velocity_attack
from simulator.intents import SCENARIOS, Intents, concat
from simulator.options import Options
from simulator.randomness import generator
from simulator.scene import Scene

Scenario = Callable[[Balance, np.random.Generator, Schedule], Intents]

MAKERS: dict[str, Scenario] = {
    # Who busts out pays no more afterwards, so nobody can steal from him; collusion likes small shops, and the others
    # make up for it (fraud/balance.py).
    "bust_out": bust_out,
    "merchant_collusion": merchant_collusion,
    "account_takeover": account_takeover,
    "card_testing": card_testing,
    "velocity_attack": velocity_attack,
    "impossible_travel": impossible_travel,
    "amount_probing": amount_probing,
    "synthetic_identity": synthetic_identity,
}

EPISODES_PER_SCENARIO = 10**9


@dataclass(frozen=True)
class Plan:
    """A scene and what thieves will do in it."""

    scene: Scene
    intents: Intents
    """In order of time; with them the genuine payments that a scenario needs."""
    genuine_per_day: float

    def between(self, start_ms: int, end_ms: int) -> Intents:
        """What is meant to be paid in [start, end)."""
        low, high = np.searchsorted(self.intents.at_ms, [start_ms, end_ms])
        return self.intents.take(np.arange(low, high))


def plan(options: Options) -> Plan:
    """The scene of a world and its fraud."""
    schedules = {name: schedule(options, name) for name in SCENARIOS[1:]}
    invented = rings(options, schedules["synthetic_identity"])
    scene = scenes.build(options, invented.ring)
    balance = Balance.of(scene)
    parts = []
    for name, make in MAKERS.items():
        if len(schedules[name]) == 0:
            continue
        number = SCENARIOS.index(name)
        made = make(balance, generator(options.seed, f"fraud {name}"), schedules[name])
        episode = made.episode + number * EPISODES_PER_SCENARIO
        parts.append(replace(made, scenario=np.full(len(made), number), episode=episode))
        if name == "bust_out":
            first = np.flatnonzero(np.diff(made.episode, prepend=-1))
            last_ms = np.maximum.reduceat(made.at_ms, first)
            scene = replace(scene, population=scene.population.closing(made.customer[first], last_ms + 1))
            balance = replace(balance, scene=scene)
    everything = concat(parts)
    within = (everything.at_ms >= options.start_ms) & (everything.at_ms < options.day_ms(options.span_days))
    everything = everything.take(within)
    everything = everything.take(np.argsort(everything.at_ms, kind="stable"))
    return Plan(scene, everything, float((~everything.is_fraud).sum()) / options.span_days)
