"""What the history driver computes together: an entity with the pairs that live in its shard, on one task a shard."""

from dataclasses import dataclass

from features.catalogue import FEATURES
from features.entities import ENTITIES, PAIRS, Entity, Pair


@dataclass(frozen=True)
class Group:
    """A group is named after the entity whose key shards it; the card's also computes the payment's own features."""

    name: str
    subjects: tuple[Entity | Pair, ...]
    own: bool

    @property
    def columns(self) -> list[int]:
        """Columns of the vector that the group fills."""
        names = {subject.name for subject in self.subjects} | ({"payment"} if self.own else set())
        return [column for column, feature in enumerate(FEATURES) if feature.entity in names]


GROUPS = tuple(
    Group(entity.name, (entity, *(pair for pair in PAIRS if pair.first == entity.name)), entity.name == "card")
    for entity in ENTITIES
)
