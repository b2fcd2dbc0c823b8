"""Which declined payments are let through so that their outcome is seen: a keyed hash decides, no random generator.

A number between 0 and 1 follows from the payment's id under a key that nobody outside holds, so nobody can foresee who
is let through, every replay finds the same ones, and a share that is raised keeps those that it had.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from decisions.accepted import Accepted
from decisions.forests import Doubles
from decisions.ladder import APPROVE, DECLINE, WHOLE
from decisions.verdicts import Verdicts
from expectations.rules.thresholds import Exploration
from lakehouse.crypto import Mac
from lakehouse.keys import Keyring
from lakehouse.texts import Flags

_DRAW_BITS = 53
"""As many as a double holds exactly."""


def key_of(keyring: Keyring) -> Mac:
    """The key of the draws; its version is 1 for ever, as that of digests, so that a rotation changes no decision."""
    return Mac(keyring.derive("exploration", 1))


def draws(key: Mac, transaction_ids: Sequence[bytes]) -> Doubles:
    """Of every payment its number in [0, 1): the first 53 bits of the keyed digest of its id."""
    first = np.frombuffer(b"".join(digest[:8] for digest in key.digests(transaction_ids)), ">u8")
    return (first >> np.uint64(64 - _DRAW_BITS)).astype(np.float64) / 2.0**_DRAW_BITS


def let_through(key: Mac, transaction_ids: Sequence[bytes], propensity: Doubles) -> Flags:
    """Who is let through, each with its own probability."""
    return draws(key, transaction_ids) < propensity


def explored(found: Verdicts, payments: Accepted, exploration: Exploration | None, key: Mac) -> Verdicts:
    """The verdicts with some declines approved instead.

    Never one on a block list, above the amount limit, or below the ladder's highest rung: broken parts explore nothing.
    """
    if exploration is None or found.ruling is None:
        return found
    candidate = np.array([outcome == DECLINE for outcome in found.outcome], np.bool_)
    candidate &= (payments.amount_base_minor <= exploration.up_to_minor) & (found.rung == WHOLE) & ~payments.capped
    for row, named in found.ruling.lists.items():
        if any(name.startswith("block:") for name in named):
            candidate[found.ruled[row]] = False
    rows = np.flatnonzero(candidate)
    propensity = np.where(candidate, exploration.share, 0.0)
    through = rows
    if len(rows):
        ids = payments.batch.texts("transaction_id").take(rows).to_list()
        through = rows[let_through(key, ids, propensity[rows])]
    outcome = list(found.outcome)
    for row in through.tolist():
        outcome[row] = APPROVE
    explored_from = {row: found.outcome[row] for row in through.tolist()}
    return replace(found, outcome=outcome, propensity=propensity, explored_from=explored_from)
