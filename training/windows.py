"""What the drift watch looks at, a window of event time at a time, read from gold without Spark."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from decisions.ladder import APPROVE
from decisions.outcome import REJECTED
from features.catalogue import NAMES, feature_set_hash
from lakehouse import delta
from lakehouse.contracts import gold
from lakehouse.moments import DAY_MS
from lakehouse.tables import Table
from training.data import Matrix

Doubles = npt.NDArray[np.float64]


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
    """Payments of a window with a score, and what labels said within the label gap."""

    payments: int
    frauds: int
    expected: float
    """Sum of the scores."""


class Lake:
    """Reads windows of one lake, as one champion scored them."""

    def __init__(self, root: str, model_digest: str) -> None:
        self._root, self._digest = root, model_digest

    def _rows(self, table: Table, columns: list[str], window: Window, more: pc.Expression | None = None) -> pa.Table:
        where = window.holds() if more is None else window.holds() & more
        return delta.rows(self._root, table, columns, where)

    def reached_ms(self) -> int:
        """Midnight, UTC, before the newest vector's payment; 0 before there is one."""
        newest = pc.max(delta.rows(self._root, gold.VECTORS, ["event_time"]).column("event_time")).as_py()
        return int(newest.timestamp() * 1000) // DAY_MS * DAY_MS if newest else 0

    def vectors(self, window: Window) -> Matrix:
        """(payments, features) of the feature set in force here."""
        mine = pc.field("feature_set") == feature_set_hash()
        column = self._rows(gold.VECTORS, ["vector"], window, mine).column("vector")
        flat = pa.chunked_array(column.chunks or [pa.array([], column.type)]).combine_chunks().flatten()
        X: Matrix = flat.to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(-1, len(NAMES))
        return X

    def scores(self, window: Window) -> Doubles:
        """The champion's scores."""
        found = self._rows(gold.SCORES, ["score"], window, pc.field("model_digest") == self._digest)
        scores: Doubles = found.column("score").to_numpy().astype(np.float64)
        return scores

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
        names = [*delta.PLACE, "event_time", "is_fraud", "label_available_at"]
        known = self._rows(gold.TRAINING_SET, names, window)
        scored = self._rows(gold.SCORES, [*delta.PLACE, "score"], window, pc.field("model_digest") == self._digest)
        both = known.join(scored, list(delta.PLACE), join_type="inner") if known.num_rows and scored.num_rows else None
        if both is None:
            return Found(0, 0, 0.0)
        took = pc.subtract(
            both.column("label_available_at").cast(pa.int64()), both.column("event_time").cast(pa.int64())
        )
        in_time = pc.fill_null(pc.less_equal(took, label_gap_d * DAY_MS * 1000), False)
        frauds = pc.sum(pc.and_(both.column("is_fraud"), in_time)).as_py()
        return Found(both.num_rows, int(frauds or 0), float(pc.sum(both.column("score")).as_py() or 0.0))

    def labels_until_ms(self, label_gap_d: int) -> int:
        """Midnight, UTC, before which gold.training_set has every payment's labels of the label gap; 0 without one."""
        held = delta.rows(self._root, gold.TRAINING_SET, ["as_of"], at_most=1).to_pylist()
        if not held:
            return 0
        return (int(held[0]["as_of"].timestamp() * 1000) // DAY_MS - label_gap_d) * DAY_MS
