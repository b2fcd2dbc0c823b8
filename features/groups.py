"""What the history driver computes together: an entity with the pairs that live in its shard, on one task a shard."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.catalogue import FEATURES
from features.entities import CLUSTER, ENTITIES, PAIRS, WHO, Subject
from features.records import AUTHORISED, Records
from features.statistics import PAYMENT


@dataclass(frozen=True)
class Group:
    """Subjects whose keys fall into the same shard."""

    name: str
    subjects: tuple[Subject, ...]
    keyed_by: str
    """Whose key, in Records.who, a record must have to concern the group."""

    def concerns(self, records: Records) -> npt.NDArray[np.bool_]:
        """Which records it looks at; rings know no authorisations."""
        has_key: npt.NDArray[np.bool_] = records.who[:, WHO.index(self.keyed_by)] != 0
        return has_key & (records.what != AUTHORISED) if CLUSTER in self.subjects else has_key

    def shards(self, wanted: int) -> int:
        """How many shards it is cut into: rings of customers can meet any other, and have one."""
        return 1 if CLUSTER in self.subjects else wanted

    @property
    def columns(self) -> list[int]:
        """Columns of the vector that the group fills."""
        names = {subject.name for subject in self.subjects}
        return [column for column, feature in enumerate(FEATURES) if feature.entity in names]


GROUPS = (
    # Its one shard takes longest, so it begins first.
    Group(CLUSTER.name, (CLUSTER,), CLUSTER.member),
    *(Group(e.name, (e, *(pair for pair in PAIRS if pair.first == e.name)), e.name) for e in ENTITIES),
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
