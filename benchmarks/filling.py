"""A topic filled with a stretch of a synthetic world."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from confluent_kafka import Producer

from lakehouse import broker, topics
from lakehouse.settings import Settings
from simulator.options import DAY_MS, Options
from simulator.records import Records
from simulator.replay import log_of, recorded
from simulator.world import days, world

END_MS = 1_795_000_000_000
LABEL_DELAY_MS = 7 * DAY_MS
"""The recording's own: the handbook's."""
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


def fill(
    settings: Settings, payments: int, seed: int, first: list[bytes] | None = None, data: Path | None = None
) -> Filled:
    """Write `first`, then about so many payments of a world, or of the recording in `data`, to topic `events`."""
    writer = broker.producer(settings, linger_ms=20, compression="lz4")
    name = topics.topic_name(settings, topics.EVENTS)
    send(writer, name, first or [])
    written = paid = 0
    for records in _world(payments, seed) if data is None else _recording(payments, data):
        values = records.payload.to_list()
        send(writer, name, values)
        written += len(values)
        paid += int(np.count_nonzero(records.index >= 0))
    writer.flush(60)
    return Filled(written + len(first or []), paid)


def _world(payments: int, seed: int) -> Iterator[Records]:
    return (day.records for day in days(world(options(payments, seed))))


def _recording(payments: int, data: Path) -> Iterator[Records]:
    whole = recorded(data, None, END_MS)
    span = (whole.at_ms[-1] - whole.at_ms[0]) / DAY_MS
    return log_of(recorded(data, max(1, round(payments / len(whole) * span)), END_MS), LABEL_DELAY_MS)
