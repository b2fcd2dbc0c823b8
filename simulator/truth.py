"""What only the simulator knows: which payments were fraud, and how many records of each kind it has sent.

Both go to files that the product never reads: not on the topic, not in the lake.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.errors import SettingsError
from lakehouse.texts import Ints, Texts
from simulator.faults import FAULTS, fates
from simulator.ids import Ids
from simulator.intents import LOOKALIKES, SCENARIOS
from simulator.options import Options
from simulator.records import KINDS, Records

SCHEMA = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("is_fraud", pa.bool_(), nullable=False),
        pa.field("scenario", pa.string()),
        pa.field("episode", pa.int64()),
    ]
)


def truth_rows(transaction_id: Texts, scenario: Ints, episode: Ints, names: tuple[str, ...] = SCENARIOS) -> pa.Table:
    """One row a payment; `scenario` is an index into `names`, 0 for genuine ones: they have no name and no episode."""
    fraud = scenario > 0
    name = pa.array(names).take(pa.array(scenario, mask=~fraud))
    columns = [transaction_id.to_arrow(), pa.array(fraud), name, pa.array(episode, mask=~fraud)]
    return pa.table(columns, schema=SCHEMA)


def truth_of(records: Records, ids: Ids) -> pa.Table:
    """The truth about the valid payments among the records."""
    valid = records.take(records.index >= 0)
    return truth_rows(ids.texts("transaction", valid.index), valid.scenario, valid.episode)


def write_truth(path: Path, parts: list[pa.Table], add: bool = False) -> None:
    """The truth file; with `add`, what it already holds about other payments stays."""
    rows = pa.concat_tables(parts) if parts else SCHEMA.empty_table()
    if add and path.exists():
        held = pq.read_table(path, schema=SCHEMA)
        other = pc.invert(pc.is_in(held.column("transaction_id"), rows.column("transaction_id").combine_chunks()))
        rows = pa.concat_tables([held.filter(other), rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, compression="zstd")


def iso(at_ms: int) -> str:
    """A time of the world as RFC 3339 text."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Tally:
    """Counts over records that were sent."""

    records: Counter[str] = field(default_factory=Counter)
    frauds: Counter[str] = field(default_factory=Counter)
    lookalikes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    valid_payments: int = 0
    first_ms: int = 2**62
    last_ms: int = -(2**62)

    def add(self, records: Records) -> None:
        """Count a piece of the log."""
        if len(records) == 0:
            return
        for name, names, column in (
            ("records", KINDS, records.kind),
            ("frauds", SCENARIOS, records.scenario),
            ("lookalikes", LOOKALIKES, records.lookalike),
            ("faults", FAULTS, records.fault),
        ):
            counts = np.bincount(column, minlength=len(names)).tolist()
            getattr(self, name).update({n: c for n, c in zip(names, counts, strict=True) if n and c})
        self.valid_payments += int((records.index >= 0).sum())
        self.first_ms = min(self.first_ms, int(records.received_ms.min()))
        self.last_ms = max(self.last_ms, int(records.received_ms.max()))

    def summary(self, seconds: float) -> str:
        """One line for people."""
        sent = sum(self.records.values())
        frauds = ", ".join(f"{name} {count:,}" for name, count in sorted(self.frauds.items())) or "none"
        return (
            f"{sent:,} records in {seconds:.1f} s ({sent / max(seconds, 1e-9):,.0f}/s): "
            f"{self.records['payment']:,} payments, {self.records['authorisation']:,} authorisations, "
            f"{self.records['label']:,} labels; frauds: {sum(self.frauds.values()):,} ({frauds})"
        )

    def described(self) -> dict[str, Any]:
        """The counts as JSON."""
        nothing = not self.records
        return {
            "records": dict(self.records),
            "valid_payments": self.valid_payments,
            "frauds": dict(sorted(self.frauds.items())),
            "lookalikes": dict(sorted(self.lookalikes.items())),
            "first_received_at": None if nothing else iso(self.first_ms),
            "last_received_at": None if nothing else iso(self.last_ms),
            "faults": dict(sorted(self.faults.items())),
            "expected": fates(self.faults),
        }


def described_options(options: Options) -> dict[str, Any]:
    """The options of a world, and the times that follow, as JSON."""
    return {
        **asdict(options),
        "pace": options.pace,
        "history_starts_at": iso(options.start_ms),
        "history_ends_at": iso(options.live_from_ms),
        "ends_at": iso(options.end_ms),
    }


def write_manifest(path: Path, part: str, content: Mapping[str, Any]) -> None:
    """Put one part (history, live or replay) into the manifest; the others stay."""
    held: dict[str, Any] = {}
    if path.exists() and part == "live":
        try:
            held = json.loads(path.read_text())
        except json.JSONDecodeError:
            raise SettingsError(f"{path} is not a manifest.", "Name another file.") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**held, part: content}, indent=1) + "\n")
