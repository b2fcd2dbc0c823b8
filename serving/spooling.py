"""Between requests, spool and log: payments go to the spool while the log is away, and to the log once it is back.

Two threads. One writes what is there with one fsync for all who wait. The other drains: payment and answer in the order
in which they came, each at least once; the engine removes what comes twice.
"""

import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from lakehouse.broker import End
from lakehouse.errors import FraudlakeError
from lakehouse.log import logger
from serving.following import PARTITION
from serving.log_writer import LogWriter
from serving.spool import Spool, Spooled

AT_ONCE = 256
"""Payments that share one fsync, and that are drained together."""
AGAIN_S = 0.5
"""How often a log that is away is asked whether it is back; it may take as long to answer."""

TAKEN = Counter("fraudlake_spool_taken", "Payments that the spool took")
DRAINED = Counter("fraudlake_spool_drained", "Payments written from the spool to the log")
REFUSED = Counter("fraudlake_spool_refused", "Payments that the spool did not take: it is full or cannot be written")
RECORDS = Gauge("fraudlake_spool_records", "Payments in the spool")
BYTES = Gauge("fraudlake_spool_bytes", "Bytes of the spool on the disk")
AGE = Gauge("fraudlake_spool_age_seconds", "Since the oldest payment in the spool came")
TORN = Gauge("fraudlake_spool_torn_bytes", "Bytes at the ends of spool files that are no whole record: after a crash")
DAMAGED = Gauge("fraudlake_spool_damaged_bytes", "Bytes of the spool that are damaged, and that no crash explains")


@dataclass(frozen=True)
class Waiting:
    """A payment and its answer, and who waits until they are on the disk."""

    payment: bytes
    answer: bytes
    done: Future[None]


class Spooling:
    """The threads of a spool. `away`: the log did not take a record in time, and nobody has seen it since."""

    def __init__(self, spool: Spool, writer: LogWriter, end: End, timeout_s: float) -> None:
        self.spool, self._writer, self._end, self._timeout_s = spool, writer, end, timeout_s
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._away = False
        names = {"spool": self._write, "drain": self._drain}
        self._threads = [threading.Thread(target=work, name=name, daemon=True) for name, work in names.items()]
        for gauge, name in (
            (RECORDS, "records"),
            (BYTES, "size_bytes"),
            (AGE, "age_s"),
            (TORN, "torn_bytes"),
            (DAMAGED, "damaged_bytes"),
        ):
            gauge.set_function(lambda name=name: float(getattr(spool, name)))  # type: ignore[misc]

    def start(self) -> None:
        """Begin; what an earlier process left is drained first."""
        for thread in self._threads:
            thread.start()
        self._wake.set()

    def stop(self) -> None:
        """Write what waits and end; what is not drained stays for the next start."""
        self._stop.set()
        self._wake.set()
        self._queue.put(None)
        for thread in self._threads:
            thread.join(self._timeout_s)
        self.spool.close()

    @property
    def away(self) -> bool:
        """Whether payments go to the spool at once."""
        return self._away

    def lost(self) -> None:
        """The log did not take a record in time."""
        if not self._away:
            logger("api").warning("the log does not take records; payments go to the spool")
        self._away = True
        self._wake.set()

    def put(self, payment: bytes, answer: bytes) -> Future[None]:
        """Spool a payment with its answer; StoreUnavailable when it cannot be."""
        waiting = Waiting(payment, answer, Future())
        self._queue.put(waiting)
        return waiting.done

    def _write(self) -> None:
        while True:
            some = [self._queue.get()]
            while len(some) < AT_ONCE and not self._queue.empty():
                some.append(self._queue.get())
            self._put([one for one in some if one is not None])
            if None in some:
                return

    def _put(self, some: list[Waiting]) -> None:
        if not some:
            return
        try:
            self.spool.put([(one.payment, one.answer) for one in some])
        except Exception as error:  # whoever waits must hear of it, whatever it is
            REFUSED.inc(len(some))
            for one in some:
                if one.done.set_running_or_notify_cancel():
                    one.done.set_exception(error)
            return
        TAKEN.inc(len(some))
        self._wake.set()
        for one in some:
            if one.done.set_running_or_notify_cancel():
                one.done.set_result(None)

    def _drain(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while not self._stop.is_set() and not self._drained():
                self._stop.wait(AGAIN_S)
            if self._stop.is_set():
                return

    def _drained(self) -> bool:
        """Drain as far as the log takes it; whether nothing is left and the log is there."""
        try:
            if self._end.offset(AGAIN_S) is None:
                return False
            while some := self.spool.head(AT_ONCE):
                if self._stop.is_set() or not self._on_the_log(some):
                    return False
                self.spool.drained(some[-1].after)
                DRAINED.inc(len(some))
        except Exception as error:  # this thread alone drains: whatever it is, it is tried again
            known = isinstance(error, FraudlakeError)
            why = str(error) if known else f"{type(error).__name__}: {error}"
            logger("api").error("the spool is not drained", reason=why)
            return False
        if self._away:
            logger("api").info("the log takes records again; the spool is empty")
        self._away = False
        return True

    def _on_the_log(self, some: list[Spooled]) -> bool:
        """Write payments and answers; whether the broker has all of them."""
        sent = [self._writer.put(record, PARTITION) for one in some for record in (one.payment, one.answer)]
        deadline = time.monotonic() + self._timeout_s
        try:
            for one in sent:
                one.result(max(0.0, deadline - time.monotonic()))
        except (TimeoutError, OSError):
            return False
        # The broker is there: what comes now need not wait until everything is drained.
        self._away = False
        return True
