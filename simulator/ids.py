"""The ids of a world: keyed hashes of running indices, so that number, length, prefix and order say nothing."""

from dataclasses import dataclass

import numpy as np

from lakehouse.texts import Texts
from simulator.devices import Devices
from simulator.options import DAY_MS
from simulator.randomness import Ints, Words, key_of, mixed, unit
from simulator.spelling import ID_PREFIXES, card_numbers, hexed, network_addresses

CARD_GENERATIONS = 64


@dataclass(frozen=True)
class Ids:
    """Numbers -> ids. Indices of transactions and labels are (day << 32 | row)."""

    seed: int
    start_ms: int

    def words(self, kind: str, index: Ints) -> Words:
        """The 64 bits that an id spells."""
        return mixed(index, key_of(self.seed, kind))

    def texts(self, kind: str, index: Ints) -> Texts:
        """The ids of a kind: transaction, customer, merchant, terminal, device or label."""
        return hexed(self.words(kind, index), ID_PREFIXES[kind])

    def card_index(self, customer: Ints, card: Ints, at_ms: Ints) -> tuple[Ints, Ints]:
        """(number of the card that a customer holds at that time, when it was issued)."""
        slot = customer * 2 + card
        key = key_of(self.seed, "card periods")
        # Cards are valid for two to four years and replaced at the end; some are lost before.
        every = ((300 + 1_100 * unit(slot, key)) * DAY_MS).astype(np.int64)
        phase = (unit(slot, key ^ 1) * every).astype(np.int64)
        generation = (at_ms - self.start_ms + phase) // every
        issued = self.start_ms - phase + generation * every
        return slot * CARD_GENERATIONS + generation % CARD_GENERATIONS, issued

    def cards(self, index: Ints) -> Texts:
        """Card numbers, in test ranges."""
        return card_numbers(index, key_of(self.seed, "card"))

    def networks(self, index: Ints, devices: Devices) -> Texts:
        """IP addresses."""
        v6 = devices.is_v6(index).astype(np.uint8)
        return network_addresses(np.maximum(index, 0), v6, key_of(self.seed, "network"))
