"""Writing to topic `events` from the event loop: produce, and know when the broker has it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from lakehouse import broker, topics
from lakehouse.log import logger
from lakehouse.settings import Settings

REPORTS_S = 0.02
"""Who waits for the broker's word waits so long more; nobody does while decisions come in time."""
BROKEN = (KafkaException, SystemError, RuntimeError)
"""What a client raises that will take nothing more: a fatal error, or an error within its callbacks."""


@dataclass
class _Client:
    """A producer, and the records that it was given and has not told of; who takes one of them out ends its future."""

    producer: Producer
    waiting: set[Future[int]] = field(default_factory=set)

    def ended(self, future: Future[int], offset: int | OSError) -> None:
        """End a future, once."""
        try:
            self.waiting.remove(future)
        except KeyError:
            return
        if not future.set_running_or_notify_cancel():
            return
        if isinstance(offset, OSError):
            future.set_exception(offset)
        else:
            future.set_result(offset)


class LogWriter:
    """An idempotent producer whose delivery reports become futures; another one after an error that ends it."""

    def __init__(self, settings: Settings, made: Callable[[Settings], Producer] = broker.producer) -> None:
        self._settings, self._made = settings, made
        self._name = topics.topic_name(settings, topics.EVENTS)
        self._client = _Client(made(settings))
        self._broken: list[_Client] = []
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._reports, name="delivery reports", daemon=True)
        self._thread.start()

    def _reports(self) -> None:
        # Not a blocking poll: it would wake this thread, and stop the event loop, once a record.
        while not self._stop.is_set():
            client = self._client
            try:
                client.producer.poll(0)
            except BROKEN as error:
                self._again(client, error)
            # Here, as a client that goes waits for its threads, and nobody waits for this one.
            self._broken.clear()
            time.sleep(REPORTS_S)

    def put(self, record: bytes, partition: int) -> Future[int]:
        """Send a record; the future is its offset, or an OSError when the broker would not have it."""
        future: Future[int] = Future()
        client = self._client
        client.waiting.add(future)

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                client.ended(future, message.offset() or 0)
                return
            client.ended(future, OSError(error.str()))
            if error.fatal():
                self._again(client, KafkaException(error))

        try:
            client.producer.produce(self._name, record, partition=partition, on_delivery=delivered)
        except BufferError:
            # The broker has been away for so long that the client holds all that it may.
            client.ended(future, OSError("the client's queue is full"))
        except BROKEN as error:
            self._again(client, error)
        if client is not self._client:
            client.ended(future, OSError("the client failed"))
        return future

    def _again(self, client: _Client, error: Exception) -> None:
        """Another client in place of a broken one; whoever waits for the broken one's word is told that none comes."""
        with self._mutex:
            if client is not self._client:
                return
            self._client = _Client(self._made(self._settings))
        logger("api").error("the client of the log failed; another takes its place", reason=str(error))
        for future in list(client.waiting):
            client.ended(future, OSError("the client failed"))
        self._broken.append(client)

    def close(self, timeout_s: float) -> None:
        """Send what is left and end."""
        with suppress(*BROKEN):
            self._client.producer.flush(timeout_s)
        self._stop.set()
        self._thread.join(5)
