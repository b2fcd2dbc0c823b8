"""Splits by time: whole days of training, a gap as long as labels need, then test days; never random."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lakehouse.moments import DAY_MS
from training.data import DataRefused, Dataset

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """Rows of a data set. `known`: what was known to be fraud when the test began; nothing later may be learnt."""

    fit: Rows
    validation: Rows
    test: Rows
    known: Flags
    train_start_ms: int
    validation_start_ms: int
    train_end_ms: int
    test_start_ms: int
    test_end_ms: int

    @property
    def train(self) -> Rows:
        """Rows of fitting and validation together."""
        return np.concatenate([self.fit, self.validation])


def by_time(data: Dataset, test_end_ms: int, test_d: int, label_gap_d: int, validation_d: int) -> Split:
    """Training days, gap, test days, the last of which ends at `test_end_ms`; DataRefused when a part is empty.

    Validation is the last days of training. Labels count when they were available at the first test day. Cards that
    were known to be compromised before the test are left out of it: they would have been blocked.
    """
    test_start = test_end_ms - test_d * DAY_MS
    train_end = test_start - label_gap_d * DAY_MS
    validation_start = train_end - validation_d * DAY_MS
    start = int(data.event_ms[0])
    known = data.fraud_known_at(test_start)
    fit, validation = data.between(start, validation_start), data.between(validation_start, train_end)
    test = data.between(test_start, test_end_ms)
    test = test[~np.isin(data.card[test], np.unique(data.card[known]))]
    for name, rows in (("fitting", fit), ("validation", validation)):
        if not known[rows].any():
            raise DataRefused(
                f"The {name} part of the split has {len(rows)} payments and no known fraud.",
                "More history, or fewer days in training.validation_d, training.test_d and training.label_gap_d.",
            )
    if len(test) == 0:
        raise DataRefused("The test part of the split has no payments.", "Fewer days in training.test_d.")
    return Split(fit, validation, test, known, start, validation_start, train_end, test_start, test_end_ms)
