"""The training set as matrices, read from Delta without Spark."""

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.catalogue import NAMES, feature_set_hash
from lakehouse import delta, exported
from lakehouse.contracts.gold import TRAINING_SET
from lakehouse.errors import Terminal
from lakehouse.spans import Span

Matrix = npt.NDArray[np.float32]
_NEVER = 2**62


def known_medians(X: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The median of every column's known values; zero for a feature that nobody has."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found: npt.NDArray[Any] = np.nan_to_num(np.nanmedian(X, axis=0))
        return found


class DataRefused(Terminal):
    """The training set cannot be trained on."""


@dataclass(frozen=True)
class Dataset:
    """Payments in time order, one row each."""

    transaction_id: pa.Array
    X: Matrix
    event_ms: npt.NDArray[np.int64]
    is_fraud: npt.NDArray[np.bool_]
    """What is known at the training set's as_of."""
    available_ms: npt.NDArray[np.int64]
    """When the fraud label could be known; far in the future without one."""
    card: npt.NDArray[np.int64]
    """Card numbers as codes of this data set, for sampling by card."""
    amount_base_minor: npt.NDArray[np.int64]
    as_of_ms: int
    delta_version: int

    def __len__(self) -> int:
        return len(self.X)

    def fraud_known_at(self, moment_ms: int) -> npt.NDArray[np.bool_]:
        """Which payments were known to be fraud at a moment."""
        return self.is_fraud & (self.available_ms <= moment_ms)

    def between(self, start_ms: int, end_ms: int) -> npt.NDArray[np.int64]:
        """Rows with start <= event time < end."""
        return np.flatnonzero((self.event_ms >= start_ms) & (self.event_ms < end_ms))


def _millis(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    millis: npt.NDArray[np.int64] = (pc.fill_null(column.cast(pa.int64()), _NEVER * 1).to_numpy()) // 1000
    return millis


_COLUMNS = (
    *("transaction_id", "event_time", "card_token", "amount_base_minor", "is_fraud", "label_available_at"),
    *("as_of", "feature_set", "vector"),
)


def read(root: str) -> Dataset:
    """gold.training_set of a lake root; DataRefused when there is none, or of another feature set."""
    if not delta.exists(root, TRAINING_SET):
        raise DataRefused(f"There is no {TRAINING_SET.name} under {root}.", "Run: python -m gold.job --available-now")
    table = delta.opened(root, TRAINING_SET)
    return _dataset(delta.dataset(table).to_table(columns=[*delta.PLACE, *_COLUMNS]), table.version())


def read_exported(folder: Path) -> Dataset:
    """An export of gold.training_set (gold/export.py): the same payments in the same order as from the lake."""
    found = exported.read(folder, TRAINING_SET)
    return _dataset(found.rows, int(found.about["version"]))


def _dataset(rows: pa.Table, version: int) -> Dataset:
    # Ties by place: however files were written, the same rows give the same model.
    rows = rows.sort_by([(name, "ascending") for name in ("event_time", *delta.PLACE)])
    if rows.num_rows == 0:
        raise DataRefused(f"{TRAINING_SET.name} is empty.", "Land and admit payments first.")
    sets = rows.column("feature_set").unique().to_pylist()
    if sets != [feature_set_hash()]:
        raise DataRefused(
            "The training set was computed with another feature set.", "Run features.job and gold.job again."
        )
    vector = rows.column("vector").combine_chunks()
    X = (
        vector.flatten()
        .to_numpy(zero_copy_only=False)
        .astype(np.float32, copy=False)
        .reshape(rows.num_rows, len(NAMES))
    )
    return Dataset(
        rows.column("transaction_id").combine_chunks(),
        X,
        _millis(rows.column("event_time")),
        rows.column("is_fraud").to_numpy(),
        _millis(rows.column("label_available_at")),
        rows.column("card_token").combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64),
        rows.column("amount_base_minor").to_numpy(),
        int(_millis(rows.column("as_of"))[0]),
        version,
    )


def spans(root: str) -> list[Span]:
    """The offsets up to the last payment of gold.training_set, by partition; none before it is made."""
    names = ["topic_id", "partition", "offset"]
    if not delta.exists(root, TRAINING_SET):
        return []
    ends = delta.rows(root, TRAINING_SET, names).group_by(names[:2]).aggregate([("offset", "max")]).to_pylist()
    return [Span(r["topic_id"], r["partition"], 0, r["offset_max"] + 1) for r in ends]


def text_of(moment_ms: int) -> str:
    """A moment for people, UTC."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat(timespec="minutes")
