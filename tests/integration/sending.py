"""Payments at a steady pace, for tests that need a product under load."""

import threading
import time

import numpy as np
from conftest import send

from lakehouse import broker as log_broker
from lakehouse import topics
from lakehouse.codec import Batch, slices
from lakehouse.registry import registry, schema_ids
from lakehouse.texts import Texts

PER_S = 220
MOST = 200_000


def payments(history, number, name):
    """New payments of the world's customers, `PER_S` a second from now on; their ids are the name and a number."""
    schema = registry().latest("payment")
    texts = Texts.of(history.sent)
    end = texts.start + texts.length
    rows = np.flatnonzero(schema_ids(texts.buffer, texts.start, end) == schema.id)
    decoded = schema.codec.decode(texts.buffer, texts.start[rows] + len(schema.prefix), end[rows])
    ids = decoded.batch.texts("transaction_id").to_list()
    usable = [i for i, known in enumerate(ids) if decoded.fault[i] == 0 and known.decode() in history.truth]
    batch = decoded.batch.take(np.resize(np.array(usable), number))
    times = int(time.time() * 1000) + np.arange(number) * 1000 // PER_S
    names = Texts.of([f"{name}-{i:06d}" for i in range(number)])
    columns = {**batch.columns, "transaction_id": names, "event_time": times, "received_at": times}
    return slices(*schema.codec.encode(Batch(number, columns, batch.valid), schema.prefix))


class Sender(threading.Thread):
    """Writes payments at a steady pace until it is told to stop."""

    def __init__(self, history, name):
        super().__init__(daemon=True)
        self.first = send(history.settings, [])
        self.enough = threading.Event()
        self.sent, self.seconds = 0, 0.0
        self._settings = history.settings
        self._payloads = payments(history, MOST, name)

    def run(self):
        """Send what is due, every few milliseconds."""
        name = topics.topic_name(self._settings, topics.EVENTS)
        writer = log_broker.producer(self._settings, linger_ms=5)
        began = time.monotonic()
        while not self.enough.is_set() and self.sent < MOST:
            self.seconds = time.monotonic() - began
            while self.sent < self.seconds * PER_S:
                writer.produce(name, self._payloads[self.sent], partition=0)
                self.sent += 1
            writer.poll(0)
            time.sleep(0.01)
        assert writer.flush(30) == 0
