"""Who and what exists in a world before anybody pays."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulator import contacts, devices, merchants, places, population
from simulator.contacts import Contacts
from simulator.devices import Devices
from simulator.merchants import Directory, Merchants
from simulator.options import Options
from simulator.population import Population, Ring
from simulator.randomness import Doubles, Ints, drawn


@dataclass(frozen=True)
class Scene:
    """The people, shops, devices and addresses of a world."""

    options: Options
    merchants: Merchants
    population: Population
    contacts: Contacts
    devices: Devices

    @cached_property
    def _by_rate(self) -> Doubles:
        return np.cumsum(self.population.rate)

    @cached_property
    def residents(self) -> Directory:
        """Customers by home city; who pays often is drawn often."""
        people = self.population
        return Directory.of(np.arange(len(people)), people.city, len(places.NAMES), people.rate)

    def customers(self, u: Doubles) -> Ints:
        """A customer for each u in [0, 1); who pays often is drawn often."""
        return drawn(self._by_rate, u)


def build(options: Options, ring: Ring) -> Scene:
    """The scene of a world in which these rings of invented people live among the others."""
    people = population.slots(options)
    shops = merchants.build(options, people)
    residents = population.build(options, shops, ring)
    return Scene(options, shops, residents, contacts.build(options, residents), devices.build(options, residents))
