"""What the kernel reads of the log: payments, authorisations and labels as plain columns, in log order."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.entities import WHO
from features.statistics import PAYMENT

PAID, AUTHORISED, LABELLED = range(3)
REMOTE, SMALL, FOREIGN, DECLINED, FRAUD = (1 << bit for bit in range(5))

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


class Records(NamedTuple):
    """One row a record. Labels stand where they take effect, not where they were written."""

    what: npt.NDArray[np.int8]
    event_ms: Ints
    """When the customer paid or the issuer answered; of labels, when they take effect."""
    amount: Ints
    """Base currency, minor units."""
    place: Doubles
    """(n, 3) unit vectors, NaN where unknown."""
    who: Ints
    """(n, len(WHO)) 64-bit hashes, zero for none."""
    flags: npt.NDArray[np.uint8]
    label_id: Ints
    reverses: Ints
    """Hash of the label that this one takes back, zero for none."""
    payment: Doubles
    """(n, len(PAYMENT)): the payment's own statistics; zero rows for other records."""
    row: Ints
    """Of payments, the row of the result; else -1."""

    def take(self, index: npt.NDArray[np.integer]) -> "Records":
        """The records at `index`, in that order."""
        return Records(*(column[index] for column in self))


def empty(n: int) -> Records:
    """N records with nothing in them."""
    return Records(
        np.zeros(n, np.int8),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
        np.full((n, 3), np.nan),
        np.zeros((n, len(WHO)), np.int64),
        np.zeros(n, np.uint8),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
        np.zeros((n, len(PAYMENT))),
        np.full(n, -1, np.int64),
    )


def concatenated(parts: list[Records]) -> Records:
    """One after the other."""
    return Records(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
