"""How far a long piece of work is: a bar where somebody watches, a line every few seconds where nobody does."""

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

EVERY_S = 5.0


class Watch:
    """Progress on standard error; call it with what is done so far."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._total = 0.0
        self._said = time.monotonic()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if sys.stderr.isatty():
            columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, transient=True)

    def __enter__(self) -> "Watch":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def of(self, total: float) -> "Watch":
        """The same for about so much work."""
        self._total = total
        if self._bar:
            self._task = self._bar.add_task(self._what, total=total)
        return self

    def __call__(self, done: int) -> None:
        """So much is done."""
        if self._bar:
            self._bar.update(self._task, completed=done)
        elif time.monotonic() - self._said >= EVERY_S:
            self._said = time.monotonic()
            sys.stderr.write(f"{self._what}: {done:,} of about {self._total:,.0f}\n")
            sys.stderr.flush()
