"""What the drift watch looks at, a window of event time at a time, read from gold without Spark."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from decisions.bundle import Model
from decisions.ladder import APPROVE
from decisions.outcome import REJECTED
from features.catalogue import NAMES, feature_set_hash
from lakehouse import delta
from lakehouse.contracts import gold
from lakehouse.moments import DAY_MS, day_floor
from lakehouse.tables import Table
from training.data import Matrix


@dataclass(frozen=True, order=True)
class Window:
    """Event times [start_ms, end_ms)."""

    start_ms: int
    end_ms: int

    def holds(self) -> pc.Expression:
        """Of rows of a table."""
        start, end = (pa.scalar(ms * 1000, pa.timestamp("us", "UTC")) for ms in (self.start_ms, self.end_ms))
        return (pc.field("event_time") >= start) & (pc.field("event_time") < end)

    @property
    def end(self) -> datetime:
        """The end, as tables hold it."""
        return datetime.fromtimestamp(self.end_ms / 1000, UTC)

    @property
    def start(self) -> datetime:
        """The start, as tables hold it."""
        return datetime.fromtimestamp(self.start_ms / 1000, UTC)


def before(end_ms: int, count: int, window_d: int) -> list[Window]:
    """The last `count` windows before a moment, the oldest first."""
    width = window_d * DAY_MS
    return [Window(end_ms - (n + 1) * width, end_ms - n * width) for n in reversed(range(count))]


def after(start_ms: int, until_ms: int, window_d: int) -> Iterator[Window]:
    """Whole windows from a moment on, up to another."""
    width = window_d * DAY_MS
    for at in range(start_ms, until_ms - width + 1, width):
        yield Window(at, at + width)


@dataclass(frozen=True)
class Decided:
    """Decisions of a window; rejected records are none."""

    decisions: int
    approved: int
    """In the end."""
    alerts: int
    """Not approved by the engine."""


@dataclass(frozen=True)
class Found:
    """Payments of a window, and what labels said within the label gap."""

    payments: int
    frauds: int
    expected: float
    """Sum of the scores."""


class Lake:
    """Reads windows of one lake; scores are those of one champion, whoever acted then."""

    def __init__(self, root: str, model: Model) -> None:
        self._root, self._model = root, model

    def _rows(self, table: Table, columns: list[str], window: Window, more: pc.Expression | None = None) -> pa.Table:
        where = window.holds() if more is None else window.holds() & more
        return delta.rows(self._root, table, columns, where)

    def reached_ms(self, table: Table) -> int:
        """Midnight, UTC, before the newest payment of a table; 0 before there is one."""
        newest = pc.max(delta.rows(self._root, table, ["event_time"]).column("event_time")).as_py()
        return day_floor(int(newest.timestamp() * 1000)) if newest else 0

    def vectors(self, window: Window) -> Matrix:
        """(payments, features) of the feature set in force here."""
        return _matrix(self._rows(gold.VECTORS, ["vector"], window, _of_here()).column("vector"))

    def decided(self, window: Window) -> Decided:
        """What was decided and how it ended."""
        judged = pc.field("decided_outcome") != REJECTED
        rows = self._rows(gold.DECISIONS, ["decided_outcome", "effective_outcome"], window, judged)
        approved, passed = (
            int(pc.sum(pc.equal(rows.column(name), APPROVE)).as_py() or 0)
            for name in ("effective_outcome", "decided_outcome")
        )
        return Decided(rows.num_rows, approved, rows.num_rows - passed)

    def found(self, window: Window, label_gap_d: int) -> Found:
        """Frauds that gold.training_set knew of within the label gap, and how many the scores expected."""
        names = ["event_time", "is_fraud", "label_available_at", "vector"]
        known = self._rows(gold.TRAINING_SET, names, window, _of_here())
        took = pc.subtract(
            known.column("label_available_at").cast(pa.int64()), known.column("event_time").cast(pa.int64())
        )
        in_time = pc.fill_null(pc.less_equal(took, label_gap_d * DAY_MS * 1000), False)
        frauds = pc.sum(pc.and_(known.column("is_fraud"), in_time)).as_py()
        expected = float(self._model.scores(_matrix(known.column("vector"))).ensemble.sum())
        return Found(known.num_rows, int(frauds or 0), expected)

    def labels_until_ms(self, label_gap_d: int) -> int:
        """Midnight, UTC, before which gold.training_set has every payment's labels of the label gap; 0 without one."""
        held = delta.rows(self._root, gold.TRAINING_SET, ["as_of"], at_most=1).to_pylist()
        if not held:
            return 0
        return day_floor(int(held[0]["as_of"].timestamp() * 1000)) - label_gap_d * DAY_MS


def _of_here() -> pc.Expression:
    """Rows of the feature set in force here."""
    return pc.field("feature_set") == feature_set_hash()


def _matrix(vector: pa.ChunkedArray) -> Matrix:
    flat = pa.chunked_array(vector.chunks or [pa.array([], vector.type)]).combine_chunks().flatten()
    X: Matrix = flat.to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(-1, len(NAMES))
    return X
