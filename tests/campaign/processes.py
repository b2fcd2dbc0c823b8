"""The product's processes under a campaign: started, damaged, and started again as an orchestrator would."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lakehouse.settings import home

MODULES = {"engine": "decisions.job", "bronze": "bronze.job", "silver": "silver.job", "features": "features.job"}
FULL_BYTES = 1
"""The size at which files end while the disk is full: any write fails, as on a full disk."""


def descendants(pid: int) -> dict[int, str]:
    """Command lines of all processes below one, by pid."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            parents.setdefault(int(stat.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(stat.parent.name))
    out: dict[int, str] = {}
    below = list(parents.get(pid, []))
    while below:
        one = below.pop()
        with suppress(OSError):
            out[one] = Path(f"/proc/{one}/cmdline").read_text().replace("\0", " ")
        below += parents.get(one, [])
    return out


def jvm(pid: int) -> list[int]:
    """The JVM of a driver."""
    return [p for p, line in descendants(pid).items() if "java" in line.split(" ")[0]]


def workers(pid: int) -> list[int]:
    """The Python workers of a driver; the daemon that forks them is not one."""
    daemons = [p for p, line in descendants(pid).items() if "worker_daemon" in line]
    return [p for p in daemons if any(p in descendants(other) for other in daemons)]


def limit_files(pid: int, full: bool) -> None:
    """Let every write of a process and those below it fail, or let them write again."""
    for one in (pid, *descendants(pid)):
        with suppress(ProcessLookupError, PermissionError):
            hard = resource.prlimit(one, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(one, resource.RLIMIT_FSIZE, (FULL_BYTES if full else hard, hard))


@dataclass
class Actor:
    """One of the product's processes, which runs again whenever it has ended."""

    name: str
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    exits: list[str] = field(default_factory=list)
    """How it ended by itself: code and last line of its log."""
    next_env: dict[str, str] = field(default_factory=dict)
    """Added to the environment of its next life only."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    left: list[int] = field(default_factory=list)
    """Process groups whose driver was killed and whose JVM was left to notice."""
    down: bool = False

    def start(self) -> None:
        """Start it."""
        with self.lock:
            env = {**os.environ, **self.env, **self.next_env}
            self.next_env = {}
            with self.log.open("ab") as out:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", MODULES[self.name]],
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    cwd=home(),
                    start_new_session=True,
                )
            self.starts += 1

    @property
    def pid(self) -> int:
        """Its pid, also its process group."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send a signal to it and all below it."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def look(self) -> None:
        """Start it again if it has ended."""
        with self.lock:
            if self.down or self.process is None or self.process.poll() is None:
                return
            code = self.process.returncode
            if code != -signal.SIGKILL:
                self.exits.append(f"{code}: {self.last_line()}")
            self.signal(signal.SIGKILL)  # what is left of its group: a JVM whose driver is gone would follow soon
            self.start()

    def look_leniently(self) -> None:
        """Start it again if it has ended, while what it left behind may still be at work."""
        with self.lock:
            if self.process is not None and self.process.poll() is not None:
                self.left.append(self.pid)
                self.start()

    def last_line(self) -> str:
        """The last line of its log."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""

    def end(self) -> None:
        """End it politely, then by force; it stays down."""
        with self.lock:
            self.down = True
            if self.process is None:
                return
            self.signal(signal.SIGCONT)
            with suppress(ProcessLookupError):
                self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        for group in (self.pid, *self.left):
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        self.process.wait()


class Keeper(threading.Thread):
    """Looks after the actors, several times a second."""

    def __init__(self, actors: Mapping[str, Actor]) -> None:
        super().__init__(daemon=True)
        self._actors = actors
        self.ending = threading.Event()

    def run(self) -> None:
        """Until told to end."""
        while not self.ending.is_set():
            for actor in self._actors.values():
                actor.look()
            time.sleep(0.2)
