"""Writing to topic `events` from the event loop: produce, and know when the broker has it."""

import asyncio
import threading

from confluent_kafka import KafkaError, Message

from lakehouse import broker, topics
from lakehouse.settings import Settings

POLL_S = 0.05


class LogWriter:
    """An idempotent producer whose delivery reports become futures."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._name = topics.topic_name(settings, topics.EVENTS)
        self._producer = broker.producer(settings)
        self._loop = loop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="delivery reports", daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(POLL_S)

    def put(self, record: bytes, partition: int) -> asyncio.Future[int]:
        """Send a record; the future is its offset, or an error when the broker would not have it."""
        future: asyncio.Future[int] = self._loop.create_future()

        def delivered(error: KafkaError | None, message: Message) -> None:
            self._loop.call_soon_threadsafe(_settle, future, error, message.offset())

        self._producer.produce(self._name, record, partition=partition, on_delivery=delivered)
        return future

    def close(self, timeout_s: float) -> None:
        """Send what is left and end."""
        self._producer.flush(timeout_s)
        self._stop.set()
        self._thread.join(5)


def _settle(future: asyncio.Future[int], error: KafkaError | None, offset: int) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(offset)
    else:
        future.set_exception(OSError(error.str()))
