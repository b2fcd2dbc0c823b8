"""Witnesses of the same facts, compared: who lacks a row, holds one twice, tells another story, or tells it elsewhere.

A witness is a table (or topic) with a digest of the same fact for each position that it holds. Where witnesses differ,
most of them are believed; where that decides nothing, both sides are named.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from audit.digests import Digests, Ints
from audit.tables import Columns

Flags = npt.NDArray[np.bool_]
WHAT = ("lost", "doubled", "altered", "moved", "unknown")


@dataclass(frozen=True)
class Witness:
    """A table's digests of a fact, in the order of the offsets."""

    table: str
    offset: Ints
    digest: Digests

    @property
    def once(self) -> "Witness":
        """The first row of each offset."""
        return self.at(_first(self.offset))

    def at(self, chosen: Flags) -> "Witness":
        """Some of the rows."""
        return Witness(self.table, self.offset[chosen], self.digest[chosen])


@dataclass(frozen=True)
class Wrong:
    """Rows of `table` of which something is wrong: what, in which fact, where, and who says otherwise."""

    what: str
    table: str
    fact: str
    offset: Ints
    against: str
    undecided: bool = False
    """One says this and one says that: either may be the one that was altered."""
    to: Ints | None = None
    """Of what was moved: where it lies now."""
    until: int | None = None
    """Of ranges: the offset behind the last one."""

    def only(self, rows: Flags) -> "Wrong":
        """The same of some of the rows."""
        return replace(self, offset=self.offset[rows], to=None if self.to is None else self.to[rows])


def witness(table: str, columns: Columns, fact: str) -> Witness:
    """A table's digests of a fact."""
    return Witness(table, columns.offset, columns.digests(fact))


def blaming(table: str, wrong: Sequence[Wrong]) -> list[Wrong]:
    """The same where only this table can be wrong."""
    return [replace(one, table=table, undecided=False) for one in wrong]


def _first(offsets: Ints) -> Flags:
    return np.concatenate([[True], offsets[1:] != offsets[:-1]]) if len(offsets) else np.zeros(0, np.bool_)


def distinct(*offsets: Ints) -> Ints:
    """Each offset of some arrays once, ascending."""
    joined = np.sort(np.concatenate(offsets))
    return joined[_first(joined)]


def found_in(offsets: Ints, those: Ints) -> tuple[Flags, Ints]:
    """(which of some offsets are among others, where); the others ascend."""
    if not len(those):
        return np.zeros(len(offsets), np.bool_), np.zeros(len(offsets), np.int64)
    place = np.minimum(np.searchsorted(those, offsets), len(those) - 1)
    return those[place] == offsets, place


def placed(expected: Witness, found: Witness, until: int) -> list[Wrong]:
    """What a table lacks of the rows expected below `until`, holds twice, or holds though nobody expects it.

    `expected` has each offset once. A row that is lacking and lies, the same, where it does not belong was moved there.
    """
    known, at = found_in(found.offset, expected.offset)
    same = np.zeros(len(found.offset), np.bool_)
    same[known] = found.digest[known] == expected.digest[at[known]]
    # Of several rows at one position the one that says what is expected belongs there.
    order = np.lexsort((~same, found.offset))
    surplus = np.zeros(len(found.offset), np.bool_)
    surplus[order] = ~_first(found.offset[order])
    stray = found.at(surplus | ~known)
    unknown = ~known[surplus | ~known]
    lost = expected.at((expected.offset < until) & ~found_in(expected.offset, found.offset)[0])
    wrong = []
    if len(lost.offset) and len(stray.offset):
        _, one, other = np.intersect1d(lost.digest, stray.digest, return_indices=True)
        if len(one):
            wrong.append(Wrong("moved", found.table, "rows", lost.offset[one], expected.table, to=stray.offset[other]))
            lost = lost.at(_without(len(lost.offset), one))
            stray, unknown = stray.at(_without(len(stray.offset), other)), np.delete(unknown, other)
    for what, offsets in (
        ("lost", lost.offset),
        ("doubled", distinct(stray.offset[~unknown])),
        ("unknown", distinct(stray.offset[unknown])),
    ):
        if len(offsets):
            wrong.append(Wrong(what, found.table, "rows", offsets, expected.table))
    return wrong


def _without(number: int, places: Ints) -> Flags:
    kept = np.ones(number, np.bool_)
    kept[places] = False
    return kept


def agreed(fact: str, witnesses: Sequence[Witness]) -> list[Wrong]:
    """Who tells a fact otherwise than the others, at positions that several hold; most upstream first."""
    told = [witness.once for witness in witnesses if len(witness.offset)]
    suspects = [np.zeros(0, np.int64)]
    for i, one in enumerate(told):
        for other in told[i + 1 :]:
            both, at = found_in(one.offset, other.offset)
            suspects.append(one.offset[both][one.digest[both] != other.digest[at[both]]])
    offsets = distinct(*suspects)
    return _judged(fact, told, offsets) if len(offsets) else []


def _judged(fact: str, told: Sequence[Witness], offsets: Ints) -> list[Wrong]:
    here = np.zeros((len(told), len(offsets)), np.bool_)
    digest = np.zeros((len(told), len(offsets)), np.uint64)
    for row, witness in enumerate(told):
        here[row], at = found_in(offsets, witness.offset)
        digest[row] = witness.digest[at]
    agree = np.array([((digest == digest[row]) & here & here[row]).sum(axis=0) for row in range(len(told))])
    right = np.argmax(agree, axis=0)
    believed = digest[right, np.arange(len(offsets))]
    most = agree.max(axis=0)
    wrong = []
    for row, witness in enumerate(told):
        other = here[row] & (digest[row] != believed)
        for teller in np.unique(right[other]).tolist():
            for tied in (False, True):
                rows = np.flatnonzero(other & (right == teller) & ((agree[row] == most) == tied))
                if len(rows):
                    mine = Witness(witness.table, offsets[rows], digest[row][rows])
                    wrong += _otherwise(fact, mine, Witness(told[teller].table, offsets[rows], believed[rows]), tied)
    return wrong


def _otherwise(fact: str, told: Witness, right: Witness, tied: bool) -> list[Wrong]:
    """Altered rows; what belongs at a position and is told at another altered one was moved there."""
    order = np.argsort(told.digest, kind="stable")
    held = told.digest[order]
    place = np.minimum(np.searchsorted(held, right.digest), len(held) - 1)
    moved = held[place] == right.digest
    wrong = []
    if moved.any():
        to = told.offset[order[place[moved]]]
        wrong.append(Wrong("moved", told.table, fact, told.offset[moved], right.table, tied, to))
    if not moved.all():
        wrong.append(Wrong("altered", told.table, fact, told.offset[~moved], right.table, tied))
    return wrong
