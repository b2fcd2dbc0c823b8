"""Records in, feature vectors out: the states of a set of entities and pairs, and the labels in waiting."""

from collections.abc import Sequence

import numpy as np
from numba import njit

from features.catalogue import program
from features.entities import Subject
from features.expressions import evaluate
from features.inputs import Placed
from features.records import PAID
from features.state import Matrix, Spec, State, new_state, no_features, subjects
from features.waiting import WaitingRoom

_NO_STATISTICS = np.zeros(0)


@njit(cache=True)
def _evaluate_own(program, payment, what, row, nothing, result):
    for i in range(len(what)):
        if row[i] >= 0:
            evaluate(program, payment[i], nothing, result[row[i]])


class Flow:
    """The features of some entities and pairs (default: all), and of the payment itself if `own`."""

    def __init__(self, spec: Spec, of: Sequence[Subject] | None = None, own: bool = True) -> None:
        self.spec = spec
        self.states: dict[str, State] = {
            subject.name: new_state(subject, spec) for subject in (subjects() if of is None else of)
        }
        self.waiting = WaitingRoom()
        self.capped = np.zeros(0, np.bool_)
        self._own = program("payment") if own else None

    def take(self, events: Placed, labels: Placed) -> Matrix:
        """The vectors of the payments among `events`, in their order; the states move behind them.

        `capped` then tells which of them named somebody who found no place below the cap of keys.
        """
        paid = events.records.what == PAID
        row = np.where(paid, np.cumsum(paid) - 1, -1)
        events = events._replace(records=events.records._replace(row=row))
        records = self.waiting.merged(events, labels)
        result = no_features(int(paid.sum()))
        capped = np.zeros(len(result), np.bool_)
        if self._own is not None:
            _evaluate_own(self._own, records.payment, records.what, records.row, _NO_STATISTICS, result)
        for state in self.states.values():
            state.advance(records, result, capped)
        self.capped = capped
        return result

    def settle(self, offset: int, clock_ms: int) -> None:
        """Let the waiting labels take effect that a record at `offset` with that clock would see."""
        due = self.waiting.due(offset, clock_ms)
        for state in self.states.values():
            state.advance(due, no_features(0), np.zeros(0, np.bool_))
