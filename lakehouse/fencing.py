"""Which records of topic `decisions` count: those of the engine in office, each source record once.

An engine's first record is its start; that record's offset is its epoch, and every decision carries the epoch of the
engine that made it. A decision counts when no later engine had started before it was written, and when its source
offset was not decided before. Every reader of the topic uses this module. Where a start record is no longer kept, the
epoch that a decision carries is proof of it.
"""

from dataclasses import dataclass

import numpy as np

from lakehouse.texts import Flags, Ints


@dataclass
class Fence:
    """The filter of a reader that sees the topic record by record, from an offset at which `epoch` was in office."""

    epoch: int = -1
    decided: int = -1
    """Highest source offset decided so far; decisions of one engine come in the order of the log."""

    def start(self, offset: int) -> None:
        """An engine's start record, at its own offset."""
        self.epoch = max(self.epoch, offset)

    def counts(self, epoch: int, source_offset: int) -> bool:
        """Whether a decision counts; call it once per decision, in the topic's order."""
        if epoch != self.epoch or source_offset <= self.decided:
            return False
        self.decided = source_offset
        return True


def in_office(offset: Ints, epoch: Ints, starts: Ints) -> Flags:
    """For decisions at `offset` of the topic: whether the engine of `epoch` was the latest started one."""
    latest = np.searchsorted(starts, offset) - 1
    return (latest >= 0) & (starts[np.maximum(latest, 0)] == epoch) if len(starts) else np.zeros(len(offset), np.bool_)
