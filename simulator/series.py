"""Several payments in a row: their times and which row belongs to which series."""

from dataclasses import dataclass

import numpy as np

from simulator.options import MINUTE_MS
from simulator.randomness import Doubles, Ints


@dataclass(frozen=True)
class Series:
    """Rows of all series, one after the other."""

    of: Ints
    """Which series each row belongs to."""
    rank: Ints
    """0 for the first row of a series."""
    last: Ints
    """Rows of its series that come after it."""

    def __len__(self) -> int:
        return len(self.of)

    def times(self, start_ms: Ints, gap_min: Doubles) -> Ints:
        """Instants: each series begins at its start; before row i pass gap_min[i] minutes, before the first none."""
        gaps = np.where(self.rank == 0, 0, (gap_min * MINUTE_MS)).astype(np.int64)
        total = np.cumsum(gaps)
        before = total[self.rank == 0]
        at_ms: Ints = start_ms[self.of] + total - before[self.of]
        return at_ms

    def growth(self, factor: Doubles) -> Doubles:
        """Products of the factors of a series up to each row, 1 at its first."""
        logs = np.cumsum(np.where(self.rank == 0, 0.0, np.log(factor)))
        grown: Doubles = np.exp(logs - logs[self.rank == 0][self.of])
        return grown


def series(size: Ints) -> Series:
    """Series of these sizes, at least one row each."""
    of = np.repeat(np.arange(len(size)), size)
    first = np.concatenate([[0], np.cumsum(size)[:-1]]) if len(size) else np.zeros(0, np.int64)
    rank = np.arange(len(of)) - first[of]
    return Series(of, rank, size[of] - 1 - rank)
