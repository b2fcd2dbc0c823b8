"""What the history driver computes together: an entity with the pairs that live in its shard, on one task a shard."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from features.catalogue import FEATURES
from features.entities import CLUSTER, ENTITIES, PAIRS, WHO, Cluster, Entity, Subject
from features.records import AUTHORISED, Records
from features.statistics import PAYMENT


@dataclass(frozen=True)
class Group:
    """Subjects whose keys fall into the same shard."""

    name: str
    subjects: tuple[Subject, ...]
    keyed_by: str
    """Whose key, in Records.who, a record must have to concern the group."""

    @property
    def rings(self) -> bool:
        """Whether it is the rings of customers: they can meet any other, and have one shard."""
        return CLUSTER in self.subjects

    @property
    def named(self) -> tuple[str, ...]:
        """Whom of a payment its subjects count, join or pair with."""
        return tuple(name for subject in self.subjects for name in _named(subject))

    def concerns(self, records: Records) -> npt.NDArray[np.bool_]:
        """Which records it looks at; rings know no authorisations."""
        has_key: npt.NDArray[np.bool_] = records.who[:, WHO.index(self.keyed_by)] != 0
        return has_key & (records.what != AUTHORISED) if self.rings else has_key

    def shards(self, wanted: int) -> int:
        """How many shards it is cut into."""
        return 1 if self.rings else wanted

    @cached_property
    def columns(self) -> list[int]:
        """Columns of the vector that the group fills."""
        names = {subject.name for subject in self.subjects}
        return [column for column, feature in enumerate(FEATURES) if feature.entity in names]

    @cached_property
    def carried(self) -> list[int]:
        """The payment's own statistics that it looks at beside its state: few, and all that has to travel."""
        names = {subject.name for subject in self.subjects}
        inputs = {name for feature in FEATURES if feature.entity in names for name in feature.inputs}
        own = {name.removeprefix("payment.") for name in inputs if name.startswith("payment.")}
        return sorted(PAYMENT.index(name) for name in own | (set() if self.rings else {"seconds_late"}))


def _named(subject: Subject) -> tuple[str, ...]:
    if isinstance(subject, Cluster):
        return tuple(subject.limits)
    return subject.counterparts if isinstance(subject, Entity) else (subject.second,)


GROUPS = (
    # Its one shard takes longest, so it begins first.
    Group(CLUSTER.name, (CLUSTER,), CLUSTER.member),
    *(Group(e.name, (e, *(pair for pair in PAIRS if pair.first == e.name)), e.name) for e in ENTITIES),
)
OWN_COLUMNS = [column for column, feature in enumerate(FEATURES) if feature.entity == "payment"]
"""Columns of the vector that a payment's own record fills: they need no shard."""
