"""What became of every live payment, and how long it took from the instant at which it was due."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LOG, API = "log", "api"

SCHEMA = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("intended_at", pa.float64(), nullable=False),
        pa.field("acknowledged_at", pa.float64()),
        pa.field("decided_at", pa.float64()),
        pa.field("http_status", pa.int32()),
        pa.field("outcome", pa.string()),
        pa.field("degraded", pa.bool_()),
    ]
)


@dataclass
class Outcome:
    """One live payment; times are milliseconds of the wall clock, with fractions."""

    transaction_id: str
    path: str
    intended_at: float
    acknowledged_at: float | None = None
    """When the broker had it; through the API, when the answer was there."""
    decided_at: float | None = None
    """When its decision could be read; through the API, when the answer was there."""
    http_status: int | None = None
    """Through the API; 0 where no answer came."""
    outcome: str | None = None
    degraded: bool | None = None


@dataclass
class Outcomes:
    """The outcomes of a live part by transaction id, in the order of sending."""

    by_id: dict[str, Outcome] = field(default_factory=dict)

    def undecided(self) -> int:
        """Payments on the log that have no decision yet."""
        return sum(o.decided_at is None and o.path == LOG for o in self.by_id.values())

    def write(self, path: Path) -> None:
        """One row a payment: Parquet where the name ends in .parquet, else JSON lines."""
        rows = [asdict(o) for o in self.by_id.values()]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def described(self) -> list[str]:
        """Lines for people: counts and percentiles of (decided - intended) by path."""
        return [self._path(path) for path in (LOG, API) if any(o.path == path for o in self.by_id.values())]

    def _path(self, path: str) -> str:
        mine = [o for o in self.by_id.values() if o.path == path]
        latency = np.array([o.decided_at - o.intended_at for o in mine if o.decided_at is not None])
        degraded = sum(bool(o.degraded) for o in mine)
        counts = f"{path}: {len(mine):,} payments, {len(latency):,} decided, {degraded:,} degraded"
        if path == API:
            counts += f", {sum(o.http_status == 200 for o in mine):,} answered with 200"
        if not len(latency):
            return counts
        p50, p95, p99, most = np.percentile(latency, [50, 95, 99, 100]).tolist()
        return f"{counts}; decided - intended p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f}, max {most:.1f} ms"
