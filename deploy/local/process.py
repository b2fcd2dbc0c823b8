"""Processes that we start, find again and end; never one that somebody else started.

A pid file holds the pid and the kernel's start time of that process, so a recycled pid is not mistaken for ours.
Children that outlived their process are known by its group and by an environment variable that only we set.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lakehouse.errors import FraudlakeError, PortBusy

STOP_TIMEOUT_S = 20
FREE_TIMEOUT_S = 3
MARK = "FRAUDLAKE_SERVICE"
"""Environment variable with the pid file of the service that a process belongs to; children inherit it."""


@dataclass(frozen=True)
class Service:
    """A process under a name; its pid file and log lie in `folder`, and it ends by a signal."""

    name: str
    folder: Path
    ends_by: signal.Signals = signal.SIGTERM

    @property
    def _pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    @property
    def log_file(self) -> Path:
        """Where its output goes."""
        return self.folder / f"{self.name}.log"

    def pid(self) -> int | None:
        """The pid when our process runs, else None."""
        pid, started = self._noted() or (0, 0)
        return pid if pid and start_time(pid) == started else None

    def _noted(self) -> tuple[int, int] | None:
        """What the pid file holds: pid and start time; None where there is none, or a torn one."""
        try:
            pid, started = (int(part) for part in self._pid_file.read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        return pid, started

    def _left(self) -> int | None:
        """The process group of children that outlived our process; None when there are none."""
        pid, _ = self._noted() or (0, 0)
        mark = f"{MARK}={self._pid_file}".encode()
        return pid if pid and any(mark in _environment(member) for member in _members(pid)) else None

    def start(self, command: Sequence[str], env: Mapping[str, str], cwd: Path) -> int:
        """Start it detached from the terminal; its pid."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, **env, MARK: str(self._pid_file)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # It may outlive us and is ended by its pid file: this handle has nothing left to report when it is collected.
        process.returncode = 0
        started = start_time(process.pid)
        self._pid_file.write_text(f"{process.pid} {started}")
        return process.pid

    def wait_ready(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Return once `ready`; an error with the log's last lines when it dies or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self.pid() is None:
                raise FraudlakeError(
                    f"{self.name} ended at its start.", f"Its log, {self.log_file}, ends:\n{self.tail()}"
                )
            if time.monotonic() > deadline:
                self.stop()
                raise FraudlakeError(
                    f"{self.name} was not ready after {timeout_s:.0f} s.",
                    f"Its log, {self.log_file}, ends:\n{self.tail()}",
                )
            time.sleep(0.1)

    def stop(self) -> bool:
        """End it and its children, those too that outlived it, politely, then by force; whether there was anything."""
        runs = self._left if self.pid() is None else self.pid
        pid = runs()
        if pid is not None:
            _signal(pid, self.ends_by)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while runs() is not None and time.monotonic() < deadline:
                _reap(pid)
                time.sleep(0.05)
            _signal(pid, signal.SIGKILL)
            _reap(pid)
        self._pid_file.unlink(missing_ok=True)
        return pid is not None

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        if not self.log_file.exists():
            return ""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])


def start_time(pid: int) -> int | None:
    """The kernel's start time of a process in clock ticks since boot; None when it does not run."""
    fields = _status(pid)
    return None if fields is None else int(fields[19])


def _status(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (proc(5)); None when the process does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rsplit(")", 1)[1].split()
    return None if fields[0] in ("Z", "X") else fields


def _members(group: int) -> Iterator[int]:
    """The running processes of a process group."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _status(int(entry.name))) is not None and int(fields[2]) == group:
            yield int(entry.name)


def _environment(pid: int) -> list[bytes]:
    """What a process was started with; nothing of one that ended or is somebody else's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _signal(pid: int, number: int) -> None:
    # Each service leads its own session, so its process group is itself and its children, nobody else.
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def port_answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody listens."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def require_free(port: int, setting: str) -> None:
    """PortBusy when the port is taken, and stays taken: what was just ended may hold it for a moment."""
    deadline = time.monotonic() + FREE_TIMEOUT_S
    while port_answers(port):
        if time.monotonic() < deadline:
            time.sleep(0.1)
            continue
        raise PortBusy(
            f"Port {port} ({setting}) is held by a process that is not ours.",
            f"End that process, or set FRAUDLAKE__{setting.upper().replace('.', '__')} to a free port.",
        )
