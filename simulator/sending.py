"""Records into topic `events`, every one acknowledged by the broker or an error."""

import time
from collections.abc import Callable

import numpy as np
from confluent_kafka import KafkaError, Message

from lakehouse import broker, topics
from lakehouse.errors import BrokerUnavailable
from lakehouse.settings import Settings
from lakehouse.texts import Ints, Texts

CHUNK = 10_000
"""Records handed over at a time: large enough to cost little, small enough for a smooth count."""
WAITING_MAX = 200_000
"""Records that may wait for their acknowledgement; the producer's own queue holds 500,000."""
STALLED_S = 130.0
"""The producer gives a record up after 120 s (lakehouse.broker); silence for longer means something else."""

Report = Callable[[int], None]


def partitions_of(customer: Texts, partitions: int) -> Ints:
    """The partition of each customer: a fixed hash, so that a customer stays in one."""
    return (customer.hash64().view(np.uint64) % np.uint64(partitions)).astype(np.int64)


class Sender:
    """A writer of topic `events`; keeps the order of the calls in each partition."""

    def __init__(self, settings: Settings, report: Report | None = None) -> None:
        topics.ensure(settings)
        identity = topics.identify(settings, topics.EVENTS)
        self.partitions = identity.partitions
        self.sent = self.acknowledged = 0
        self._topic = identity.name
        self._report = report
        self._first_error = ""
        self._producer = broker.producer(settings, linger_ms=20, compression="lz4")

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self._first_error = self._first_error or error.str()

    def send(self, payload: list[bytes], partition: Ints | None = None) -> None:
        """Hand records over, in order; waits while too many are on their way."""
        if partition is None or self.partitions == 1:
            self._send_to(0, payload)
            return
        for number in range(self.partitions):
            self._send_to(number, [payload[i] for i in np.flatnonzero(partition == number).tolist()])

    def _send_to(self, partition: int, payload: list[bytes]) -> None:
        for first in range(0, len(payload), CHUNK):
            chunk = payload[first : first + CHUNK]
            self._wait_until_below(WAITING_MAX)
            queued = self._producer.produce_batch(
                self._topic, [{"value": record} for record in chunk], partition=partition, on_delivery=self._delivered
            )
            self.sent += len(chunk)
            if queued != len(chunk):
                raise BrokerUnavailable(f"Only {queued} of {len(chunk)} records could be queued.", "Start again.")
            self._producer.poll(0)
            if self._report:
                self._report(self.acknowledged)

    def _wait_until_below(self, waiting: int) -> None:
        acknowledged, since = self.acknowledged, time.monotonic()
        while len(self._producer) > waiting and not self._first_error:
            self._producer.poll(0.05)
            if self._report:
                self._report(self.acknowledged)
            if self.acknowledged != acknowledged:
                acknowledged, since = self.acknowledged, time.monotonic()
            elif time.monotonic() - since > STALLED_S:
                break
        if self._first_error:
            raise BrokerUnavailable(
                f"Topic {self._topic} did not take every record: {self._first_error}.",
                "Start again with a fresh topic.",
            )

    def close(self) -> int:
        """Wait for the last acknowledgement; how many records were sent. BrokerUnavailable when one is missing."""
        self._wait_until_below(0)
        if self.acknowledged != self.sent:
            raise BrokerUnavailable(
                f"{self.sent - self.acknowledged:,} of {self.sent:,} records were not acknowledged.",
                "Start again with a fresh topic.",
            )
        return self.sent
