"""A topic filled with a stretch of a synthetic world."""

from dataclasses import dataclass

import numpy as np
from confluent_kafka import Producer

from lakehouse import broker, topics
from lakehouse.settings import Settings
from simulator.options import Options
from simulator.world import days, world

END_MS = 1_795_000_000_000
PAYMENTS_PER_DAY = 20_000


@dataclass(frozen=True)
class Filled:
    """What was written."""

    records: int
    payments: int


def options(payments: int, seed: int) -> Options:
    """A world with about so many payments."""
    span = max(2, round(payments / PAYMENTS_PER_DAY))
    return Options(end_ms=END_MS, days=span, payments_per_day=max(100, payments // span), seed=seed)


def send(writer: Producer, name: str, values: list[bytes]) -> None:
    """Hand values over to partition 0."""
    for value in values:
        while True:
            try:
                writer.produce(name, value, partition=0)
                break
            except BufferError:
                writer.poll(0.05)


def fill(settings: Settings, payments: int, seed: int, first: list[bytes] | None = None) -> Filled:
    """Write `first`, then a world of about so many payments, to topic `events`."""
    writer = broker.producer(settings, linger_ms=20, compression="lz4")
    name = topics.topic_name(settings, topics.EVENTS)
    send(writer, name, first or [])
    records = paid = 0
    for day in days(world(options(payments, seed))):
        values = day.records.payload.to_list()
        send(writer, name, values)
        records += len(values)
        paid += int(np.count_nonzero(day.records.index >= 0))
    writer.flush(60)
    return Filled(records + len(first or []), paid)
