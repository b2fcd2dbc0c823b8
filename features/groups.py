"""What the history driver computes together: an entity with the pairs that live in its shard, on one task a shard."""

from dataclasses import dataclass

from features.catalogue import FEATURES
from features.entities import ENTITIES, PAIRS, Entity, Pair
from features.statistics import PAYMENT


@dataclass(frozen=True)
class Group:
    """A group is named after the entity whose key shards it."""

    name: str
    subjects: tuple[Entity | Pair, ...]

    @property
    def columns(self) -> list[int]:
        """Columns of the vector that the group fills."""
        names = {subject.name for subject in self.subjects}
        return [column for column, feature in enumerate(FEATURES) if feature.entity in names]


GROUPS = tuple(
    Group(entity.name, (entity, *(pair for pair in PAIRS if pair.first == entity.name))) for entity in ENTITIES
)
OWN_COLUMNS = [column for column, feature in enumerate(FEATURES) if feature.entity == "payment"]
"""Columns of the vector that a payment's own record fills: they need no shard."""

_BESIDE_HISTORY = {
    name.removeprefix("payment.")
    for feature in FEATURES
    if feature.entity != "payment"
    for name in feature.inputs
    if name.startswith("payment.")
}
CARRIED = sorted(PAYMENT.index(name) for name in _BESIDE_HISTORY | {"seconds_late"})
"""Own statistics that groups look at beside their state: few, and all that has to travel to every shard."""
