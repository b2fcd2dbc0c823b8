"""The engine as a process: topic `events` in, topic `decisions` out, state in memory, snapshots on disk.

With `--standby` it follows the log in step and writes nothing, until a payment has waited `engine.takeover_after_s` for
its decision: then it takes office. Whoever was in office before notices when it wakes, and ends.
"""

import argparse
import signal
import sys
import threading
import time
from collections import Counter as Counted
from collections import deque
from collections.abc import Sequence
from types import FrameType

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from decisions.beside import Beside
from decisions.engine import Engine
from decisions.intake import Message
from decisions.keeping import ENGINE_EXTRA, Keeper, newest_good, place_on_decisions
from decisions.office import Office
from decisions.outcome import REJECTED
from decisions.record import Body
from decisions.shadow import Shadow
from decisions.staging import Stager
from features.store import check_tokens
from lakehouse import broker, jobs, topics
from lakehouse import settings as conf
from lakehouse.agreement import agreed
from lakehouse.errors import BrokerUnavailable, RangeMissing, SnapshotRefused
from lakehouse.key_age import checked, warn_of_age
from lakehouse.latency import prepare_for_latency
from lakehouse.log import configure, logger
from lakehouse.runs import recorded
from lakehouse.settings import Settings

PARTITION = 0
_REJECTED = REJECTED.encode()
WAIT_S = 0.5
WAIT_BESIDE_S = 0.01
"""How long a record is waited for, and how long while reasons are on their way."""
CLOSING_S = 2.0
"""How long an engine that ends waits for records of its challenger."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
"""How long a broker that is away is left alone, at first and at most."""
LOOK_S = 0.1
"""How soon an engine that waits for its broker hears that it shall stop."""

RECORDS = Counter("fraudlake_engine_records", "Records taken from topic events")
DECISIONS = Counter("fraudlake_engine_decisions", "Decisions written to topic decisions")
BY_RUNG = Counter("fraudlake_engine_decisions_by_rung", "Decisions on accepted payments, by rung", ["rung"])
BATCH = Histogram(
    "fraudlake_engine_batch_records", "Records decided together", buckets=(1, 3, 10, 30, 100, 300, 1000, 3000)
)
SECONDS = Histogram("fraudlake_engine_batch_seconds", "From reading a batch to handing its decisions over")
POSITION = Gauge("fraudlake_engine_next_offset", "Next offset of topic events")
CAPPED = Gauge("fraudlake_engine_capped_payments", "Payments with somebody who found no place below the cap of keys")
IN_OFFICE = Gauge("fraudlake_engine_in_office", "1 in office, 0 standing by or without a broker")
PAUSE = Gauge("fraudlake_engine_snapshot_pause_seconds", "How long the last snapshot stopped the engine")


class Process:
    """One engine process over one partition."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = logger("engine")
        identity = topics.identify(settings, topics.EVENTS)
        self._decisions = topics.identify(settings, topics.DECISIONS)
        warn_of_age(settings)
        low, high = broker.watermarks(settings, identity.name, PARTITION)
        state = newest_good(settings, identity.topic_id, low)
        if not low <= state.place.next_offset <= high:
            raise RangeMissing(
                f"The state stands at offset {state.place.next_offset}; topic {identity.name} holds {low} to {high}.",
                "Make a snapshot at a later position: python -m features.job --available-now",
            )
        self.engine = Engine.of(settings, state)
        self._stager = Stager(settings, self.engine)
        self.shadow = Shadow(settings, PARTITION, self.engine.shelf, self.engine.stages)
        self.shadow.prepare(state.admission.in_force.shadow_digest)
        self.office = Office(settings, PARTITION)
        self.beside = Beside(settings.engine.reasons_waiting)
        self._keeper = Keeper(settings, state.place.next_offset)
        self._fence, self._since = place_on_decisions(state.extra, self._decisions)
        self._waiting: deque[tuple[float, Body]] = deque()
        self._reader = broker.consumer(settings, identity.name, PARTITION, state.place.next_offset, low_latency=True)
        self._stopping = False

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """Ask the loop to end after the batch at hand."""
        self._stopping = True

    def close(self) -> None:
        """Stop reading, explaining and shadowing."""
        self._reader.close()
        self.beside.stop()
        self.shadow.flush(CLOSING_S)

    def stand_by(self) -> bool:
        """Follow the log in step without a word; whether a payment waited too long, else it was asked to stop."""
        self._log.info("standing by", next_offset=self.engine.state.place.next_offset)
        IN_OFFICE.set(0)
        longest_s = self._settings.engine.takeover_after_s
        while not self._stopping:
            messages = self._messages()
            now = time.monotonic()
            self._waiting.extend((now, body) for body in self.engine.decide(messages))
            self._look_beside(None)
            self._since = self.office.watched(self._fence, self._since)
            while self._waiting and self._waiting[0][1].offset[-1] <= self._fence.decided:
                self._waiting.popleft()
            POSITION.set(self.engine.state.place.next_offset)
            if self._waiting and now - self._waiting[0][0] > longest_s:
                first = int(self._waiting[0][1].offset[0])
                self._log.warning("nobody decides; taking office", offset=first, waited_s=round(longest_s, 3))
                return True
        self.close()
        return False

    def take_office(self) -> None:
        """Write the start record, learn what was decided before, and give the decisions that nobody else gave."""
        place = self.engine.state.place
        first = int(self._waiting[0][1].offset[0]) if self._waiting else place.next_offset
        self.office.take(place.topic_id, first, self._fence, self._since)
        IN_OFFICE.set(1)
        self._emit([body for _, body in self._waiting], time.monotonic())
        self._waiting.clear()
        self._log.info("in office", epoch=self.office.epoch, next_offset=place.next_offset, partition=place.partition)

    def run(self) -> None:
        """Take office and decide until asked to stop; then write a last snapshot."""
        self.take_office()
        try:
            while not self._stopping:
                self.once()
        finally:
            self.close()
        self._remember_place()
        self._keeper.save_now(self.engine.state)
        self._log.info("out of office", next_offset=self.engine.state.place.next_offset)

    def _emit(self, bodies: Sequence[Body], began: float) -> None:
        """Write decisions, ask for the reasons of those that did not approve, and let the challenger score them."""
        DECISIONS.inc(self.office.emit(bodies, began))
        self.engine.stages.done("encode")
        for body in bodies:
            self.beside.take(body, self.office.decided_before)
            for rung, decisions in _rungs(body, self.office.decided_before).items():
                BY_RUNG.labels(rung).inc(decisions)
        self.shadow.take(bodies)

    def _messages(self) -> list[Message]:
        """What is there, waiting a little for the first record."""
        wait_s = WAIT_BESIDE_S if self.beside.busy else WAIT_S
        found = broker.take(self._reader, self._settings.engine.batch_records, wait_s)
        return [Message(m.offset(), m.timestamp()[1], m.value() or b"") for m in found]

    def once(self) -> None:
        """Decide what is there, waiting a little for the first record; then a snapshot if it is time."""
        stages = self.engine.stages
        stages.begin()
        messages = self._messages()
        if messages:
            began = time.monotonic()
            stages.done("consume")
            bodies = self.engine.decide(messages)
            stages.begin()
            self._emit(bodies, began)
            RECORDS.inc(len(messages))
            BATCH.observe(len(messages))
            SECONDS.observe(time.monotonic() - began)
            POSITION.set(self.engine.state.place.next_offset)
            CAPPED.set(self.engine.capped)
        self._stop_at_another_key()
        self._look_beside(self.office.epoch)
        self.office.tell(self.beside.finished())
        if not self._stager.busy and self._keeper.due(self.engine.state.place.next_offset):
            self._remember_place()
            PAUSE.set(self._keeper.save(self.engine.state))
            checked(self._settings)

    def _stop_at_another_key(self) -> None:
        """SnapshotRefused once the log has another token key; our place is on disk by then."""
        try:
            check_tokens(self.engine.state)
        except SnapshotRefused:
            self._remember_place()
            self._keeper.save_now(self.engine.state)
            raise

    def _look_beside(self, epoch: int | None) -> None:
        """Say what fell to a lower rung or was refused, and why, and begin what is to be done beside."""
        while self.engine.faults:
            self._log.warning("decisions fall to a lower rung of the ladder", reason=self.engine.faults.pop(0))
        while self.engine.refused:
            self._log.warning("a control event did not take force", reason=self.engine.refused.pop(0))
        self._stager.look(epoch)

    def _remember_place(self) -> None:
        """Note for the snapshot where topic `decisions` stands; only an engine that is still in office may."""
        self.office.writer.flush()
        self.office.stay()
        self.shadow.flush()
        state, office = self.engine.state, self.office
        decided = max(office.decided_before, state.place.next_offset - 1)
        state.extra[ENGINE_EXTRA] = {
            "topic_id": self._decisions.topic_id,
            "epoch": office.epoch,
            "decided": decided,
            "since": office.writer.next_place,
        }


def _rungs(body: Body, after: int) -> Counted[str]:
    """How many payments of a body were judged on each rung: of source offsets above `after`, not rejected."""
    rows = zip(body.offset.tolist(), body.texts("outcome"), body.texts("rung"), strict=True)
    return Counted(rung.decode() for offset, outcome, rung in rows if offset > after and outcome != _REJECTED)


def main(argv: Sequence[str]) -> int:
    """Run the engine until it is asked to stop (SIGTERM or Ctrl-C)."""
    parser = argparse.ArgumentParser(prog="python -m decisions.job", description=__doc__)
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--standby", action="store_true", help="follow the log; take office when nobody decides")
    arguments = parser.parse_args(argv)

    def work() -> None:
        settings = conf.load(arguments.env)
        configure(settings, "engine")
        agreed(settings, or_cached=True)
        with recorded(settings, "decisions.job"):
            process = Process(settings)
            prepare_for_latency()
            start_http_server(settings.engine.metrics_port, addr="127.0.0.1")
            _run(settings, process, arguments.standby)

    return jobs.guarded(work)


def _run(settings: Settings, process: Process, standby: bool) -> None:
    """Run, and begin again from snapshot and log when the broker was away for too long, unless asked to stop."""
    asked = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        # Whichever process there is now; the word also counts for the one that would follow it.
        asked.set()
        process.stop(number, frame)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    while True:
        try:
            if not standby or process.stand_by():
                process.run()
            return
        except BrokerUnavailable as error:
            IN_OFFICE.set(0)
            logger("engine").warning("broker away; the engine begins again unless asked to stop", reason=error.what)
        found = _again(settings, asked)
        if found is None:
            return
        process = found
        if asked.is_set():
            process.close()
            return


def _again(settings: Settings, asked: threading.Event) -> Process | None:
    """Another process once the broker is there; None when asked to stop before."""
    wait_s = FIRST_WAIT_S
    while True:
        until = time.monotonic() + wait_s
        while not asked.is_set() and time.monotonic() < until:
            # Not the event's own wait: its lock could be held here when the handler, in this thread, wants it.
            time.sleep(LOOK_S)
        if asked.is_set():
            return None
        try:
            return Process(settings)
        except BrokerUnavailable:
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
