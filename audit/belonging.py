"""To which table of silver a position belongs: by who holds it, by the log, and by what silver.balance counted."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from audit.arrival import Arrived
from audit.digests import Ints
from audit.tables import Columns
from audit.witnesses import Witness, distinct, found_in

KINDS: Mapping[str, str] = {
    "payment": "silver.payments",
    "authorisation": "silver.authorisations",
    "label": "silver.labels",
    "control": "silver.control",
    "answer": "silver.answers",
    "outcome": "silver.outcomes",
    "erasure": "silver.erasures",
    "staged": "silver.staged",
}
QUARANTINE, DUPLICATES = "silver.quarantine", "silver.duplicates"
TABLES = (*KINDS.values(), QUARANTINE, DUPLICATES)
COUNTED = ("accepted", "quarantined", "duplicates")
_ASIDE = {QUARANTINE: "quarantined", DUPLICATES: "duplicates"}


def category(table: str) -> str:
    """What silver.balance counts the rows of a table as."""
    return _ASIDE.get(table, "accepted")


def by_category(tables: Mapping[str, Columns]) -> dict[str, Ints]:
    """Distinct positions of each term of the balance, ascending."""
    return {name: distinct(*(tables[t].offset for t in TABLES if category(t) == name)) for name in COUNTED}


class Belonging:
    """The places of a span's positions; `told` are the ranges of silver.balance."""

    def __init__(
        self, tables: Mapping[str, Columns], told: Columns, arrived: Arrived, kind_of: Mapping[int, str]
    ) -> None:
        self._tables, self._arrived, self._kind_of = tables, arrived, kind_of
        counts = by_category(tables)
        low, high = told.ints("start_offset"), told.offset + 1
        self._low, self._high = low, high
        self._wanting = {
            name: told.ints(name) - (np.searchsorted(found, high) - np.searchsorted(found, low))
            for name, found in counts.items()
        }

    def wanting(self, offsets: Ints) -> dict[str, Ints]:
        """By term, how many rows the range around each position lacks (above zero) or has too many of (below)."""
        found = {name: np.zeros(len(offsets), np.int64) for name in COUNTED}
        for row in range(len(self._low)):
            here = (offsets >= self._low[row]) & (offsets < self._high[row])
            for name in COUNTED:
                found[name][here] = self._wanting[name][row]
        return found

    def tables_of(self, offsets: Ints) -> npt.NDArray[np.str_]:
        """By the schema id in the log, the table of each position's kind; quarantine for what has none."""
        ids = self._arrived.schema_ids(offsets)
        names = {number: KINDS[kind] for number, kind in self._kind_of.items()}
        return np.array([names.get(number, QUARANTINE) for number in ids.tolist()], dtype=np.str_)

    def lost_from(self, offsets: Ints, paid: Ints) -> npt.NDArray[np.str_]:
        """The table that most likely held each position that none holds now; `paid` were accepted payments."""
        wanting = self.wanting(offsets)
        accepted = (wanting["accepted"] > 0) | np.isin(offsets, paid) | ~self._is_short(wanting)
        aside = np.where(wanting["quarantined"] > 0, QUARANTINE, DUPLICATES)
        return np.where(accepted, self.tables_of(offsets), aside)

    @staticmethod
    def _is_short(wanting: Mapping[str, Ints]) -> npt.NDArray[np.bool_]:
        return (wanting["quarantined"] > 0) | (wanting["duplicates"] > 0)

    def one_of(self, offset: int, held: list[str], payload: Witness) -> str:
        """The table to which a position that several hold belongs."""
        at = np.array([offset], np.int64)
        wanting = self.wanting(at)
        of_kind = str(self.tables_of(at)[0])
        here, place = found_in(at, payload.offset)

        def plausible(name: str) -> tuple[bool, bool, int]:
            columns = self._tables[name]
            own = columns.digests("payload")[columns.offset == offset]
            same = bool(here[0]) and bool((own == payload.digest[place[0]]).any())
            return same, name in (QUARANTINE, DUPLICATES, of_kind), int(wanting[category(name)][0])

        return max(held, key=plausible)
