"""Running the parts of the demo as the processes that a user would run, with progress, and nothing left behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from lakehouse import settings as conf
from lakehouse.errors import FraudlakeError

_NOISE = re.compile(r"^\s*$|^WARNING: |^Setting default log level|^To adjust logging level")
"""What the JVM says at every start."""
STOP_TIMEOUT_S = 20


@dataclass
class Steps:
    """Steps of one run; each is a process of its own, whose output goes to the log and, in short, to the screen."""

    log: Path
    began: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    _child: subprocess.Popen[str] | None = None

    def say(self, text: str) -> None:
        """One line of progress."""
        print(f"[{time.monotonic() - self.began:5.0f} s] {text}", flush=True)

    def run(self, title: str, module: str, *arguments: str) -> str:
        """Run `python -m module arguments`; its last line. FraudlakeError with the log's end when it fails."""
        self.say(title)
        started = time.monotonic()
        command = [sys.executable, "-m", module, *arguments]
        lines: list[str] = []
        with self.log.open("a") as log:
            log.write(f"\n$ python -m {module} {' '.join(arguments)}\n")
            self._child = subprocess.Popen(
                command,
                cwd=conf.home(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            assert self._child.stdout is not None
            for line in self._child.stdout:
                log.write(line)
                log.flush()
                if not _NOISE.match(line):
                    lines.append(line.rstrip())
                    print(f"          {line.rstrip()[:150]}", flush=True)
            status = self._child.wait()
        self._child = None
        self.seconds[title] = round(time.monotonic() - started, 1)
        if status:
            end = "\n".join(lines[-12:])
            raise FraudlakeError(
                f"The step '{title}' ended with code {status}:\n{end}\n", f"All of it is in {self.log}."
            )
        return lines[-1] if lines else ""

    def stop(self) -> None:
        """End the step at hand, children included."""
        child = self._child
        if child is None:
            return
        _signal(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(STOP_TIMEOUT_S)
        _signal(child.pid, signal.SIGKILL)
        child.wait()


def _signal(pid: int, number: int) -> None:
    # The child leads its own session: its process group is itself and its children.
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
