"""Runs of jobs: each begins and ends in the audit trail, and leaves a row in lake.runs."""

import signal
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType

from lakehouse import lineage, trail
from lakehouse import settings as conf
from lakehouse.contracts.lake import RUNS
from lakehouse.lineage import Lineage
from lakehouse.log import logger
from lakehouse.settings import Settings
from lakehouse.version import VERSION

PATIENCE_S = 30.0
"""How long a run waits for its row at the end: a lake that does not answer must not keep it."""
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


@dataclass
class Run:
    """One run of a job."""

    run_id: str
    job: str
    started_at: datetime
    interval: tuple[int, int] | None
    exit_code: int = 0
    """Of a run that ends without an error; a job that only looks may say here that it found something."""
    error: str | None = None

    @property
    def outcome(self) -> str:
        """done, failed or stopped."""
        return "stopped" if self.exit_code in STOPPED else "failed" if self.exit_code else "done"

    def ended_by(self, error: BaseException) -> None:
        """Note what ended it; its text may be of a record and is not kept."""
        self.error = type(error).__name__
        if isinstance(error, KeyboardInterrupt):
            self.exit_code = STOPPED[0]
        elif isinstance(error, SystemExit):
            self.exit_code = error.code if isinstance(error.code, int) else int(error.code is not None)
        else:
            self.exit_code = 1


@contextmanager
def recorded(
    settings: Settings,
    job: str,
    kind: str = "job",
    interval: tuple[int, int] | None = None,
    **details: str | int | None,
) -> Iterator[Run]:
    """A run: `<kind>.began` and `<kind>.ended` in the audit trail, a row in lake.runs at the end.

    Without its entry in the trail it does not begin. The row is a convenience: failing to write it is only logged.
    """
    given = {name: value for name, value in details.items() if value is not None}
    if interval is not None:
        given |= {"from_position": interval[0], "to_position": interval[1]}
    run = Run(str(uuid.uuid4()), job, datetime.now(UTC), interval)
    trail.record(settings, f"{kind}.began", job, {"run_id": run.run_id, "env": settings.env, **given})
    with _ended_by_term(), lineage.noted() as touched:
        try:
            yield run
        except BaseException as error:
            run.ended_by(error)
            raise
        finally:
            _end(settings, kind, run, touched)


def _end(settings: Settings, kind: str, run: Run, touched: Lineage) -> None:
    ended_at = datetime.now(UTC)
    told: trail.Details = {"run_id": run.run_id, "outcome": run.outcome, "exit_code": run.exit_code, "error": run.error}
    trail.record(settings, f"{kind}.ended", run.job, told)
    row = {
        **told,
        "job": run.job,
        "started_at": run.started_at,
        "ended_at": ended_at,
        "from_position": run.interval[0] if run.interval else None,
        "to_position": run.interval[1] if run.interval else None,
        "rows_in": touched.rows_in,
        "rows_out": touched.rows_out,
        "versions_read": lineage.spelled(touched.versions_read),
        "versions_written": lineage.spelled(touched.versions_written),
        "code_version": VERSION,
        "host": socket.gethostname(),
    }
    _written(conf.lake_root(settings), row)


def _written(root: str, row: Mapping[str, object]) -> None:
    """Write the row; what goes wrong is logged."""
    failed: list[str] = []

    def work() -> None:
        try:
            from lakehouse import delta  # engine and API start without it

            delta.append(root, RUNS, [row])
        except BaseException as error:  # whatever it is, the run itself is over and stays as it ended
            failed.append(type(error).__name__)

    writer = threading.Thread(target=work, name="lake.runs", daemon=True)
    writer.start()
    writer.join(PATIENCE_S)
    if writer.is_alive():
        failed.append(f"no answer in {PATIENCE_S:.0f} s")
    if failed:
        logger("runs").warning("the run is not in the table of runs", table=RUNS.name, job=row["job"], reason=failed[0])


@contextmanager
def _ended_by_term() -> Iterator[None]:
    """SIGTERM ends the block as an exception does, so that its end is recorded; then it ends the process as ever."""
    received = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal received
        received = True
        raise SystemExit(128 + number)

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if received:
            signal.raise_signal(signal.SIGTERM)
