"""Recorded payments through the engine's own driver: decoded, admitted, tokenised and described, as one data set.

No broker and no model: the driver is what every decision passes before its model, and labels reach it on the log.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.engine import reference
from benchmarks.filling import END_MS, LABEL_DELAY_MS
from decisions.driver import Driver
from decisions.intake import Message
from features import store
from features.catalogue import NAMES
from features.state import Matrix
from features.store import Place
from lakehouse import keys
from lakehouse.moments import DAY_MS
from lakehouse.settings import Settings
from simulator.replay import Recording, log_of, recorded
from training.data import Dataset

BATCH = 2_000
SAY_EVERY_D = 20


class Replayed(NamedTuple):
    """A recording and what the engine knew at each of its payments; rows of both are the same payments."""

    recording: Recording
    data: Dataset


def _vectors(settings: Settings, log: Iterator[Sequence[bytes]]) -> Iterator[Matrix]:
    """The vectors of accepted payments, piece after piece of the log."""
    driver = Driver(store.new(settings, Place("", 0, 0)), keys.source(settings).keyring())
    offset = 0
    for values in log:
        found = []
        for begin in range(0, len(values), BATCH):
            part = [Message(offset + i, END_MS, value) for i, value in enumerate(values[begin : begin + BATCH])]
            offset += len(part)
            found += [segment.vectors for segment in driver.take(part) if len(segment.vectors)]
        yield np.concatenate(found) if found else np.empty((0, len(NAMES)), np.float32)


def _codes(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return found


def replayed(settings: Settings, folder: Path, warm_up_d: int) -> Replayed:
    """The recording in a folder, without its first `warm_up_d` days: there, windows are not yet full.

    Every fraud is labelled LABEL_DELAY_MS after its payment, on the log; `data.is_fraud` holds all of them.
    """
    whole = recorded(folder, None, END_MS)
    kept = whole.at_ms >= whole.at_ms[0] // DAY_MS * DAY_MS + warm_up_d * DAY_MS
    X = np.empty((int(kept.sum()), len(NAMES)), np.float32)
    first = len(kept) - len(X)
    log = (piece.payload.to_list() for piece in log_of(whole, LABEL_DELAY_MS))
    done = 0
    for number, vectors in enumerate(_vectors(settings, _with_reference(settings, log))):
        wanted = vectors[max(0, first - done) :]
        at = max(0, done - first)
        X[at : at + len(wanted)] = wanted
        done += len(vectors)
        if number % SAY_EVERY_D == 0 and number:
            print(f"{done:,} of {len(whole):,} payments replayed", flush=True)
    assert done == len(whole), (done, len(whole))
    recording = Recording(
        **{name: value[kept] if isinstance(value, np.ndarray) else value for name, value in whole.__dict__.items()}
    )
    available = np.where(recording.is_fraud, recording.at_ms + LABEL_DELAY_MS, 2**62)
    data = Dataset(
        pa.array(recording.number.astype(str)),
        X,
        recording.at_ms,
        recording.is_fraud,
        available,
        _codes(recording.customer),
        recording.amount_minor,
        recording.end_ms,
        0,
    )
    return Replayed(recording, data)


def _with_reference(settings: Settings, log: Iterator[Sequence[bytes]]) -> Iterator[Sequence[bytes]]:
    yield reference(settings)
    yield from log
