"""Which declined payments are let through so that their outcome is seen: a keyed hash decides, no random generator.

A number between 0 and 1 follows from the payment's id under a key that nobody outside holds, so nobody can foresee who
is let through, every replay finds the same ones, and a share that is raised keeps those that it had.
"""

from collections.abc import Sequence

import numpy as np

from decisions.forests import Doubles
from lakehouse.crypto import Mac
from lakehouse.texts import Flags

PURPOSE = "exploration"
"""Of the derived key."""
_DRAW_BITS = 53
"""As many as a double holds exactly."""


def draws(key: Mac, transaction_ids: Sequence[bytes]) -> Doubles:
    """Of every payment its number in [0, 1): the first 53 bits of the keyed digest of its id."""
    first = np.frombuffer(b"".join(digest[:8] for digest in key.digests(transaction_ids)), ">u8")
    return (first >> np.uint64(64 - _DRAW_BITS)).astype(np.float64) / 2.0**_DRAW_BITS


def let_through(key: Mac, transaction_ids: Sequence[bytes], propensity: Doubles) -> Flags:
    """Who is let through, each with its own probability."""
    return draws(key, transaction_ids) < propensity
