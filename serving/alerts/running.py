"""Everything that keeps an outbox going: who fills it, who delivers, who writes how challenges ended."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lakehouse.errors import FraudlakeError
from lakehouse.log import logger
from lakehouse.settings import Settings
from serving.alerts.database import opened
from serving.alerts.drift import DriftAlarms
from serving.alerts.filling import FAILURES, AlertWriter, AnswerWriter
from serving.alerts.outbox import Outbox
from serving.alerts.results import Results
from serving.alerts.verifications import Verifications
from serving.alerts.worker import Worker
from serving.filling import Filling

POLL_S = 0.5
"""How often the outbox is looked at."""


def again_and_again(step: Callable[[], bool], what: str, stop: threading.Event) -> None:
    """Do a step until asked to stop, at once where it says that there is more; what goes wrong is logged once."""
    failing = False
    while not stop.is_set():
        more = False
        try:
            more = step()
            if failing:
                logger("alerts").info(f"{what} go on")
            failing = False
        except Exception as error:
            FAILURES.labels(what).inc()
            if not failing:
                why = str(error) if isinstance(error, FraudlakeError) else type(error).__name__
                logger("alerts").warning(f"{what} wait", reason=why)
            failing = True
        if not more:
            stop.wait(POLL_S)


@contextmanager
def running(settings: Settings) -> Iterator[Outbox]:
    """An outbox that is filled and emptied, in threads, until the end of the block."""
    database = opened(settings)
    outbox = Outbox(database)
    writers: list[Filling] = [AlertWriter(settings, outbox)]
    if settings.alerts.verification.channel:
        writers.append(AnswerWriter(settings, outbox))
    worker = Worker(settings, outbox)
    results = Results(settings, Verifications(database, settings.alerts.verification.tries))
    stop = threading.Event()
    steps = [(worker.step, "deliveries"), (results.step, "ends of challenges")]
    if DriftAlarms.wanted(settings):
        steps.append((DriftAlarms(settings, outbox).step, "drift alarms"))
    threads = [
        threading.Thread(target=again_and_again, args=(step, what, stop), name=what, daemon=True)
        for step, what in steps
    ]
    for writer in writers:
        writer.start()
    for thread in threads:
        thread.start()
    try:
        yield outbox
    finally:
        stop.set()
        for writer in writers:
            writer.stop()
        for thread in threads:
            thread.join(5)
        if not any(thread.is_alive() for thread in threads):
            # A connection that is closed while somebody uses it ends the process.
            database.close()
