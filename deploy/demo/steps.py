"""Running the parts of the demo as the processes that a user would run, with progress, and nothing left behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
    _children: list[subprocess.Popen[str]] = field(default_factory=list)
    _beside: bool = False

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    def say(self, text: str) -> None:
        """One line of progress."""
        print(f"[{self.elapsed_s:5.0f} s] {text}", flush=True)

    def run(self, title: str, module: str, *arguments: str) -> str:
        """Run `python -m module arguments`; its last line. FraudlakeError with the log's end when it fails."""
        with self.timed(title):
            child = self.begin(module, *arguments)
            lines = self._follow(child)
            self._ended(title, child, lines)
        return lines[-1] if lines else ""

    @contextlib.contextmanager
    def beside(self, title: str, ready: str, module: str, *arguments: str) -> Iterator[None]:
        """The same, with other steps in the block, which begins when a line has `ready`; its end is waited for."""
        with self.timed(title):
            child = self.begin(module, *arguments)
            lines = self._follow(child, lambda line: ready in line)
            if not lines or ready not in lines[-1]:
                self._ended(title, child, lines)
                raise FraudlakeError(f"The step '{title}' ended before it said '{ready}'.", f"See {self.log}.")
            self._beside = True
            yield
            self._beside = False
            self._ended(title, child, self._follow(child))

    def request(self, title: str, child: subprocess.Popen[str], answer: str) -> None:
        """Send a line to a process from `begin` and wait for its answer; FraudlakeError when it ends instead."""
        assert child.stdin is not None
        with self.timed(title):
            with contextlib.suppress(BrokenPipeError):  # it has ended: its output says why
                child.stdin.write("\n")
                child.stdin.flush()
            lines = self._follow(child, lambda line: line == answer)
            if not lines or lines[-1] != answer:
                self._ended(title, child, lines)

    def end(self, child: subprocess.Popen[str]) -> None:
        """Close the input of a process from `begin` and wait for its end."""
        assert child.stdin is not None
        child.stdin.close()
        self._ended("ending", child, self._follow(child))

    def stop(self) -> None:
        """End the steps at hand, children included."""
        for child in self._children:
            _signal(child.pid, signal.SIGTERM)
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(STOP_TIMEOUT_S)
            _signal(child.pid, signal.SIGKILL)
            child.wait()

    @contextlib.contextmanager
    def timed(self, title: str) -> Iterator[None]:
        """A step that is no process: the block."""
        self.say(title)
        started = time.monotonic()
        yield
        self.seconds[title] = round(time.monotonic() - started, 1)

    def begin(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a process; one that works on request is then asked by `request`."""
        with self.log.open("a") as log:
            log.write(f"\n$ python -m {module} {' '.join(arguments)}\n")
        child = subprocess.Popen(
            # What measures at the same time comes first: an operator's tool would start on a machine of its own.
            [*(["nice"] if self._beside else []), sys.executable, "-m", module, *arguments],
            cwd=conf.home(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._children.append(child)
        return child

    def _follow(self, child: subprocess.Popen[str], until: Callable[[str], bool] | None = None) -> list[str]:
        """Its lines, copied to log and screen, up to the one that is `until`, which is only logged, or its end."""
        assert child.stdout is not None
        lines: list[str] = []
        with self.log.open("a") as log:
            for line in child.stdout:
                log.write(line)
                log.flush()
                if _NOISE.match(line):
                    continue
                lines.append(line.rstrip())
                if until is not None and until(lines[-1]):
                    break
                print(f"          {lines[-1][:150]}", flush=True)
        return lines

    def _ended(self, title: str, child: subprocess.Popen[str], lines: list[str]) -> None:
        status = child.wait()
        self._children.remove(child)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        if status:
            end = "\n".join(lines[-12:])
            raise FraudlakeError(
                f"The step '{title}' ended with code {status}:\n{end}\n", f"All of it is in {self.log}."
            )


def _signal(pid: int, number: int) -> None:
    # The child leads its own session: its process group is itself and its children.
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
