"""Writing to topic `events` from the event loop: produce, and know when the broker has it."""

import threading
import time
from concurrent.futures import Future

from confluent_kafka import KafkaError, Message

from lakehouse import broker, topics
from lakehouse.settings import Settings

REPORTS_S = 0.02
"""Who waits for the broker's word waits so long more; nobody does while decisions come in time."""


class LogWriter:
    """An idempotent producer whose delivery reports become futures."""

    def __init__(self, settings: Settings) -> None:
        self._name = topics.topic_name(settings, topics.EVENTS)
        self._producer = broker.producer(settings)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._reports, name="delivery reports", daemon=True)
        self._thread.start()

    def _reports(self) -> None:
        # Not a blocking poll: it would wake this thread, and stop the event loop, once a record.
        while not self._stop.is_set():
            self._producer.poll(0)
            time.sleep(REPORTS_S)

    def put(self, record: bytes, partition: int) -> Future[int]:
        """Send a record; the future is its offset, or an OSError when the broker would not have it."""
        future: Future[int] = Future()

        def delivered(error: KafkaError | None, message: Message) -> None:
            if not future.set_running_or_notify_cancel():
                return
            if error is None:
                future.set_result(message.offset() or 0)
            else:
                future.set_exception(OSError(error.str()))

        try:
            self._producer.produce(self._name, record, partition=partition, on_delivery=delivered)
        except BufferError:
            # The broker has been away for so long that the client holds all that it may.
            future.set_exception(OSError("the client's queue is full"))
        return future

    def close(self, timeout_s: float) -> None:
        """Send what is left and end."""
        self._producer.flush(timeout_s)
        self._stop.set()
        self._thread.join(5)
