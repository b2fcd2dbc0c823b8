"""What the demo reads of the lake and of its own files, without Spark."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from deploy.demo.plan import Plan
from lakehouse import delta
from lakehouse.contracts import gold, silver
from lakehouse.contracts.register import TABLES
from lakehouse.tables import Table


@dataclass(frozen=True)
class Lake:
    """The tables of one lake root."""

    root: str

    def rows(self, table: Table, columns: Sequence[str]) -> pa.Table:
        """Columns of a table; empty when it has not been made."""
        return delta.rows(self.root, table, columns)

    def counts(self) -> dict[str, int]:
        """Rows by table, in the order of the register."""
        return {name: delta.count(self.root, table) for name, table in TABLES.items() if delta.exists(self.root, table)}

    def balance(self) -> dict[str, int]:
        """Received and what became of it, summed over the batches of silver."""
        names = ["received", "accepted", "quarantined", "duplicates"]
        rows = self.rows(silver.BALANCE, names)
        return {name: int(sum(rows.column(name).to_pylist())) for name in names}

    def duplicates_of_history(self) -> int:
        """Records that came twice before the first model was in force; later the API itself may repeat some."""
        control = self.rows(silver.CONTROL, ["scope", "offset"]).to_pylist()
        live = min(row["offset"] for row in control if row["scope"] == "model")
        return sum(offset < live for offset in self.rows(silver.DUPLICATES, ["offset"]).column("offset").to_pylist())

    def quarantine(self) -> dict[str, int]:
        """Refused records by reason; a record with two reasons counts for both."""
        reasons = self.rows(silver.QUARANTINE, ["reasons"]).column("reasons").to_pylist()
        return dict(sorted(Counter(name for names in reasons for name in names).items()))

    def accepted(self) -> set[str]:
        """Transaction ids of accepted payments."""
        return set(self.rows(silver.PAYMENTS, ["transaction_id"]).column("transaction_id").to_pylist())

    def effective(self) -> dict[str, list[str]]:
        """Effective outcomes of every decided transaction; more than one would be wrong."""
        out: dict[str, list[str]] = {}
        rows = self.rows(gold.DECISIONS, ["transaction_id", "effective_outcome", "decided_outcome"])
        for row in rows.to_pylist():
            if row["decided_outcome"] != "rejected":
                out.setdefault(row["transaction_id"], []).append(row["effective_outcome"])
        return out


@dataclass(frozen=True)
class Truth:
    """Which payments were fraud, and by which scenario."""

    transaction_id: list[str]
    is_fraud: npt.NDArray[np.bool_]
    scenario: list[str | None]

    @staticmethod
    def of(plan: Plan) -> "Truth":
        """The truth file of a plan."""
        rows = pq.read_table(plan.truth)
        return Truth(
            rows.column("transaction_id").to_pylist(),
            rows.column("is_fraud").to_numpy(zero_copy_only=False).astype(np.bool_),
            rows.column("scenario").to_pylist(),
        )
