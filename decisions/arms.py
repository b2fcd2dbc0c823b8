"""Whose payments a challenger decides while a traffic split is on: a keyed hash of the customer says it.

A number between 0 and 1 follows from the customer and the challenger under a key that nobody outside holds, so nobody
can choose an arm, a customer stays in theirs for as long as the test lasts, a share that is raised keeps those that it
had, and the next challenger gets other customers. Spellings of the same customer are one customer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from decisions.exploration import draws
from decisions.forests import Doubles
from expectations.split import Split
from lakehouse.crypto import Mac, canonical
from lakehouse.keys import Keyring
from lakehouse.texts import Flags, Texts

CHAMPION, CHALLENGER = "champion", "challenger"


def key_of(keyring: Keyring) -> Mac:
    """The key of the arms; its version is 1 for ever, so that another token key moves nobody to another arm."""
    return Mac(keyring.derive("split", 1))


class Arms(NamedTuple):
    """Some payments while a split is on; a row a payment."""

    split: Split
    challenged: Flags
    """Whose customer is in the challenger's arm."""

    @staticmethod
    def of(split: Split, key: Mac, customers: Sequence[bytes]) -> "Arms":
        """The arms of the payments of these customers."""
        mac = key.after(split.digest.encode())
        return Arms(split, draws(mac, [canonical("customer", one) for one in customers]) < split.share)

    @property
    def names(self) -> list[str]:
        """As decisions name them."""
        return [CHALLENGER if other else CHAMPION for other in self.challenged.tolist()]

    @property
    def probability(self) -> Doubles:
        """With which a customer comes into the arm that each is in."""
        return np.where(self.challenged, self.split.share, 1 - self.split.share)

    def digests(self, champion: str) -> Texts:
        """Of every payment the digest of the model that decides it."""
        both = np.frombuffer((champion + self.split.digest).encode(), np.uint8)
        start = np.where(self.challenged, len(champion), 0).astype(np.int64)
        length = np.where(self.challenged, len(self.split.digest), len(champion)).astype(np.int64)
        return Texts(both, start, length)
