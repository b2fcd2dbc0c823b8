"""Doing a fault to the running product, and waiting until it goes on."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from deploy.local.apart import free_ports
from lakehouse import broker, storage, topics
from lakehouse.contracts import bronze, gold, silver
from lakehouse.errors import FraudlakeError
from lakehouse.settings import Settings
from tests.campaign.plan import ACTORS, Fault
from tests.campaign.processes import Actor, jvm, limit_files, workers
from tests.campaign.world import World

CRASH_S = 60.0
"""So long a process may take to reach its crash point; one that has nothing to do is killed instead."""
WORKER_S = 5.0
_TABLES = {"bronze": bronze.EVENTS, "silver": silver.BALANCE, "features": gold.VECTORS}


@dataclass
class Done:
    """What a fault came to."""

    fault: Fault
    at_s: float
    killed: int = 0
    note: str = ""
    recovered_s: dict[str, float | None] = field(default_factory=dict)
    """Seconds from the end of the fault to the first new commit, by process; None when there was none in time."""


def progress(settings: Settings, name: str, starts: int) -> int:
    """How far a process got: records it committed. An engine's start is no commit."""
    if name == "engine":
        _, end = broker.watermarks(settings, topics.topic_name(settings, topics.DECISIONS), 0)
        return end - starts
    return sum(storage.written_ends(settings.lake.root, _TABLES[name]).values())


class Faults:
    """Does faults to a world's processes."""

    def __init__(self, world: World, actors: Mapping[str, Actor], patience_s: float) -> None:
        self._world, self._actors, self._patience_s = world, actors, patience_s
        self._began = time.monotonic()

    def do(self, fault: Fault) -> Done:
        """Do one, and wait until everybody whom it hit commits again."""
        time.sleep(fault.wait_s)
        done = Done(fault, round(time.monotonic() - self._began, 3))
        action: Callable[[Fault, Done], None] = {
            "kill": self._kill,
            "kill driver": self._kill_driver,
            "kill jvm": self._kill_jvm,
            "kill worker": self._kill_worker,
            "crash point": self._crash_point,
            "kill broker": self._kill_broker,
            "pause": self._pause,
            "pause broker": self._pause_broker,
            "half-open": self._half_open,
            "two writers": self._two_writers,
            "disk full": self._disk_full,
        }[fault.kind]
        action(fault, done)
        self._recover(("engine", "bronze") if fault.target == "broker" else (fault.target,), done)
        return done

    def _recover(self, names: tuple[str, ...], done: Done) -> None:
        began = time.monotonic()
        before: dict[str, int] = {}
        while len(done.recovered_s) < len(names):
            late = time.monotonic() - began > self._patience_s
            for name in names:
                if name in done.recovered_s:
                    continue
                # Starts are read before the topic: one that comes in between makes the number smaller, never larger.
                with suppress(FraudlakeError, OSError):
                    now = progress(self._world.settings, name, self._actors[name].starts + self._visitors)
                    if now > before.setdefault(name, now):
                        done.recovered_s[name] = round(time.monotonic() - began, 3)
                if late:
                    done.recovered_s.setdefault(name, None)
            time.sleep(0.1)

    _visitors = 0
    """Engines that were started as second writers: their starts are on the topic too."""

    def _kill(self, fault: Fault, done: Done) -> None:
        self._actors[fault.target].signal(signal.SIGKILL)
        done.killed = 1

    def _kill_driver(self, fault: Fault, done: Done) -> None:
        """The Python driver alone: its JVM may still be committing while the next driver starts."""
        actor = self._actors[fault.target]
        with actor.lock:
            os.kill(actor.pid, signal.SIGKILL)
            assert actor.process is not None
            actor.process.wait()
            actor.look_leniently()
        done.killed = 1

    def _kill_some(self, fault: Fault, done: Done, found: list[int], what: str) -> None:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                done.killed += 1
        if not done.killed:
            done.note = f"no {what} at that moment: the whole process was killed"
            self._kill(fault, done)

    def _kill_jvm(self, fault: Fault, done: Done) -> None:
        self._kill_some(fault, done, jvm(self._actors[fault.target].pid), "JVM")

    def _kill_worker(self, fault: Fault, done: Done) -> None:
        deadline = time.monotonic() + WORKER_S
        found: list[int] = []
        while not found and time.monotonic() < deadline:
            found = workers(self._actors[fault.target].pid)[:1]
            time.sleep(0.02)
        self._kill_some(fault, done, found, "worker")

    def _crash_point(self, fault: Fault, done: Done) -> None:
        actor = self._actors[fault.target]
        with actor.lock:
            actor.next_env = {"FRAUDLAKE_CRASH_AT": fault.place}
            starts = actor.starts
            actor.signal(signal.SIGKILL)
        deadline = time.monotonic() + CRASH_S
        while actor.starts < starts + 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        if actor.starts < starts + 2:
            done.note = f"{fault.place} was not reached in {CRASH_S:.0f} s: killed where it was"
            actor.signal(signal.SIGKILL)
        done.killed = 2

    def _kill_broker(self, fault: Fault, done: Done) -> None:
        pid = self._world.kafka.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        done.killed = 1
        while self._world.kafka.pid() is not None:
            time.sleep(0.02)
        self._world.start_broker()

    def _pause(self, fault: Fault, done: Done) -> None:
        actor = self._actors[fault.target]
        with actor.lock:
            pid = actor.pid
            os.killpg(pid, signal.SIGSTOP)
        time.sleep(fault.hold_s)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGCONT)

    def _pause_broker(self, fault: Fault, done: Done) -> None:
        pid = self._world.kafka.pid()
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        time.sleep(fault.hold_s)
        os.kill(pid, signal.SIGCONT)

    def _half_open(self, fault: Fault, done: Done) -> None:
        done.note = f"{self._world.proxy.half_open()} connections"
        time.sleep(fault.hold_s)
        self._world.proxy.drop()

    def _two_writers(self, fault: Fault, done: Done) -> None:
        first = self._actors[fault.target]
        (port,) = free_ports(1)
        second = Actor(
            fault.target, first.log.with_suffix(".second.log"), {"FRAUDLAKE__ENGINE__METRICS_PORT": str(port)}
        )
        if fault.target == "engine":
            self._visitors += 1
        second.start()
        assert second.process is not None
        threading.Event().wait(10 + fault.hold_s)
        if second.process.poll() is not None:
            done.note = f"the second one ended with {second.process.returncode}: {second.last_line()}"
        second.signal(signal.SIGKILL)
        second.process.wait()
        done.killed = 1

    def _disk_full(self, fault: Fault, done: Done) -> None:
        """No file of the process can grow (RLIMIT_FSIZE), as on a full disk; then there is room again."""
        actor = self._actors[fault.target]
        with actor.lock:
            pid = actor.pid
            limit_files(pid, True)
        time.sleep(fault.hold_s)
        with suppress(ProcessLookupError):
            limit_files(pid, False)


def ready(world: World, actors: Mapping[str, Actor], timeout_s: float) -> None:
    """Return when every process has committed; AssertionError with its log when one does not."""
    deadline = time.monotonic() + timeout_s
    for name in ACTORS:
        while progress(world.settings, name, actors[name].starts) <= 0:
            assert time.monotonic() < deadline, f"{name} does not commit:\n{actors[name].last_line()}"
            time.sleep(0.2)
