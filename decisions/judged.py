"""Records of one kind with what admission said about each of them."""

import numpy as np

from decisions.intake import Intake, Part
from expectations.admission import ACCEPTED, QUARANTINED, Verdicts
from lakehouse.codec import Batch
from lakehouse.texts import Ints


class Judged:
    """The verdicts over the records of one part, in its rows; undecodable records have none."""

    def __init__(self, part: Part, intake: Intake, verdicts: Verdicts) -> None:
        place = intake.place[part.rows]
        known = np.flatnonzero(place >= 0)
        at = place[known]
        n = len(part.rows)
        self.part = part
        self.offset = intake.offset[part.rows]
        self.status = np.full(n, -1, np.int64)
        self.clock_ms, self.amount = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.category_risk, self.country_risk = np.full(n, np.nan), np.full(n, np.nan)
        self.status[known] = verdicts.status[at]
        self.clock_ms[known] = verdicts.engine_clock[at]
        self.amount[known] = verdicts.amount_base_minor[at]
        self.category_risk[known] = verdicts.category_risk[at]
        self.country_risk[known] = verdicts.country_risk[at]
        self.accepted: Ints = np.flatnonzero(self.status == ACCEPTED)
        self.decided: Ints = np.flatnonzero((self.status == ACCEPTED) | (self.status == QUARANTINED))
        """Rows that a decision is made on: accepted ones, and those that admission rejects."""
        self._place, self._verdicts = place, verdicts

    @property
    def batch(self) -> Batch:
        """The decoded columns of all records."""
        return self.part.decoded.batch

    def reasons(self) -> list[list[str]]:
        """Per decided record, the names of the rules that refused it."""
        return [
            self._verdicts.reason(int(self._place[row]), self.part.broken[row])
            if self.status[row] == QUARANTINED
            else []
            for row in self.decided.tolist()
        ]
