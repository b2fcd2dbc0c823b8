"""Reasons computed beside the engine: a thread of its own explains what was not approved, and the engine never waits.

The engine hands over what it has decided and later takes finished records along to topic `decisions`. Compiled code
explains without the interpreter, a few payments at a time, so the engine gets it back within a fraction of a
millisecond. When more than `engine.reasons_waiting` payments wait, further ones are passed over and counted: their
reasons are computed on request, `python -m decisions.reasons`.
"""

import threading
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from prometheus_client import Counter

from decisions.bundle import Model
from decisions.explained import contributions, reasons
from decisions.record import Body, Subject, reasons_record
from lakehouse.log import logger
from lakehouse.moments import now_ms

AT_ONCE = 8
"""Payments explained together: some milliseconds of compiled code, a fraction of one of the interpreter."""

EXPLAINED = Counter("fraudlake_engine_reasons", "Decisions whose reasons were computed beside the engine")
PASSED_OVER = Counter("fraudlake_engine_reasons_passed_over", "Decisions whose reasons wait for somebody to ask")

Record = tuple[bytes, bytes]
"""(record, key)."""


class _Wanted(NamedTuple):
    subject: Subject
    model: Model


class Beside:
    """A bounded queue and the thread that works it off."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._wanted: deque[_Wanted] = deque()
        self._finished: deque[Record] = deque()
        self._work = threading.Condition()
        self._working = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="reasons", daemon=True)

    @property
    def busy(self) -> bool:
        """Whether reasons are on their way."""
        return bool(self._wanted or self._working or self._finished)

    def take(self, body: Body, after: int = -1) -> None:
        """Ask for the reasons of the decisions of a body that did not approve, source offsets above `after`."""
        if self._stopping:
            return
        rows = body.adverse[body.offset[body.adverse] > after]
        if not len(rows):
            return
        room = max(0, self._most - len(self._wanted))
        PASSED_OVER.inc(len(rows[room:]))
        wanted = [
            _Wanted(body.subject(row), model)
            for row in rows[:room].tolist()
            if (model := body.scored_by(row)) is not None
        ]
        with self._work:
            self._wanted.extend(wanted)
            if not self._thread.is_alive():
                self._thread.start()
            self._work.notify()

    def finished(self) -> list[Record]:
        """Records that were finished since the last call."""
        return [self._finished.popleft() for _ in range(len(self._finished))]

    def stop(self) -> None:
        """End the thread after what it is at; what waits is passed over."""
        with self._work:
            self._stopping = True
            PASSED_OVER.inc(len(self._wanted))
            self._wanted.clear()
            self._work.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _next(self) -> list[_Wanted]:
        """Payments of one model; none when it is time to end."""
        with self._work:
            self._working = False
            self._work.wait_for(lambda: self._wanted or self._stopping)
            if self._stopping:
                return []
            self._working = True
            some = [self._wanted.popleft()]
            while self._wanted and len(some) < AT_ONCE and self._wanted[0].model is some[0].model:
                some.append(self._wanted.popleft())
            return some

    def _run(self) -> None:
        log = logger("engine")
        while some := self._next():
            try:
                self._finished.extend(explained([one.subject for one in some], some[0].model))
                EXPLAINED.inc(len(some))
            except Exception as error:  # whatever it is, decisions go on
                PASSED_OVER.inc(len(some))
                log.error("reasons were not computed, deciding goes on", reason=f"{type(error).__name__}: {error}")


def explained(subjects: Sequence[Subject], model: Model) -> list[Record]:
    """The records of the reasons of payments that one model scored."""
    X = np.frombuffer(b"".join(one.vector for one in subjects), np.float32).reshape(len(subjects), -1)
    found = contributions(model, X)
    return [
        (reasons_record(subject, model.digest, found.expected_score, reason, now_ms()), subject.transaction_id.encode())
        for subject, reason in zip(subjects, reasons(found), strict=True)
    ]
