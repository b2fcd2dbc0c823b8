"""A world's log, decoded from its bytes as a reader of the topic would see it, beside the truth about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lakehouse.codec import Batch
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.texts import Texts
from simulator.options import Options
from simulator.records import KINDS, Records, concat
from simulator.world import World, days, world

END_MS = 1_772_366_400_000
"""2026-03-01T12:00:00Z."""


def decoded(kind: str, payload: Texts) -> Batch:
    """The columns of encoded records of one kind; fails when one cannot be decoded."""
    found = (
        registry()
        .latest(kind)
        .codec.decode(payload.buffer, payload.start + PREFIX_BYTES, payload.start + payload.length)
    )
    assert not found.fault.any()
    return found.batch


def words(texts: Texts) -> npt.NDArray[Any]:
    """A text column as a numpy array of bytes."""
    return np.array(texts.to_list())


@dataclass(frozen=True)
class Log:
    """A world, its records in the order of the log, and the valid ones by kind."""

    world: World
    records: Records

    @property
    def options(self) -> Options:
        return self.world.options

    def valid(self, kind: str) -> Records:
        """The records of a kind that are meant to be accepted, in order."""
        return self.records.take((self.records.kind == KINDS.index(kind)) & (self.records.fault == 0))

    @cached_property
    def truth(self) -> Records:
        """The valid payments' records: scenario, episode and look-alike of each."""
        return self.valid("payment")

    @cached_property
    def fraud(self) -> npt.NDArray[np.bool_]:
        return self.truth.scenario > 0

    @cached_property
    def payments(self) -> Batch:
        return decoded("payment", self.truth.payload)

    @cached_property
    def authorisations(self) -> Batch:
        return decoded("authorisation", self.valid("authorisation").payload)

    @cached_property
    def labels(self) -> Batch:
        return decoded("label", self.valid("label").payload)

    @cached_property
    def row_of(self) -> dict[bytes, int]:
        """Row of each valid payment by transaction id."""
        return {name: row for row, name in enumerate(self.payments.texts("transaction_id").to_list())}


def log_of(options: Options) -> Log:
    made = world(options)
    return Log(made, concat([day.records for day in days(made)]))


def pieces(options: Options) -> Iterator[bytes]:
    """The bytes of a world's log, record by record."""
    for day in days(world(options)):
        yield from day.records.payload.to_list()
