"""Fifty mutations of a lake, drawn from the run's seed: each is found, and the layer is named."""

import random
import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from tests.audit.little_lake import FEATURES, TABLES

MUTATIONS = 50
_CARRIED = ("payload_digest", "ingested_at")
_PAYMENT = ("transaction_id", "event_time")
WITNESSED = {
    "bronze.events": ("schema_id", "record_bytes", "broker_time", "sealing_key", *_CARRIED),
    "bronze.decisions": ("schema_id", "record_bytes", "broker_time", "sealing_key", "payload_digest"),
    "silver.payments": (*_CARRIED, *_PAYMENT, "amount_minor", "amount_base_minor", "channel", "merchant_id"),
    "silver.authorisations": (*_CARRIED, *_PAYMENT, "result", "received_at"),
    "silver.labels": (*_CARRIED, "label_id", "is_fraud", "label_available_at", "amount_minor"),
    "silver.control": (*_CARRIED, "control_id", "payload", "author_signature"),
    "silver.answers": (*_CARRIED, "answer_id", "outcome", "transaction_id"),
    "silver.outcomes": (*_CARRIED, "outcome_id", "result"),
    "silver.erasures": (*_CARRIED, "erasure_id", "requested_by"),
    "silver.staged": (*_CARRIED, "staged_id", "epoch"),
    "silver.quarantine": (*_CARRIED, "kind", "sealed", "sealing_key", "broker_time"),
    "silver.duplicates": (*_CARRIED, "kind", "first_offset", "content_digest", "broker_time"),
    "silver.balance": ("received", "accepted", "quarantined", "duplicates"),
    "silver.decisions": ("outcome", "card_token", "vector", "merchant_id", "epoch", "latency_us", "decision_id"),
    "features.vectors": (*_PAYMENT, "vector"),
    "gold.features": (*_PAYMENT, *FEATURES),
    "gold.scores": _PAYMENT,
    "gold.decisions": ("effective_outcome", "decided_outcome", "answered_outcome", "amount_base_minor", "card_token"),
}
"""Columns that somebody else tells too; audit/README.md says which are nobody's."""
KINDS = ("drop", "double", "alter", "swap")
CASES = [(table, kind) for table in WITNESSED for kind in KINDS]


def changed(value: pa.Scalar) -> object:
    """Another value of the same type."""
    kind, held = value.type, value.as_py()
    if pa.types.is_boolean(kind):
        return not held
    if pa.types.is_timestamp(kind):
        return held.replace(year=held.year - 1)
    if pa.types.is_binary(kind):
        return bytes([(held or b"\0")[0] ^ 1]) + (held or b"")[1:]
    if pa.types.is_string(kind):
        return f"{held}x"
    if pa.types.is_list(kind):
        return [held[0] + 1, *held[1:]]
    return (held or 0) + 1


class Damage:
    """A copy of the lake, and what is done to one of its tables."""

    def __init__(self, root: str, name: str, draw: random.Random) -> None:
        self.path, self.draw, self.name = TABLES[name].path(root), draw, name
        rows = DeltaTable(self.path).to_pyarrow_table()
        self.rows = rows.take(pc.sort_indices(rows, sort_keys=[("offset", "ascending")]))

    def row(self) -> int:
        """Any row."""
        return self.draw.randrange(self.rows.num_rows)

    def written(self, rows: pa.Table) -> None:
        """Replace the table's rows, in one commit."""
        write_deltalake(self.path, rows, mode="overwrite")

    def drop(self) -> None:
        """A row less."""
        at = self.row()
        self.written(pa.concat_tables([self.rows.slice(0, at), self.rows.slice(at + 1)]))

    def double(self) -> None:
        """A row twice."""
        self.written(pa.concat_tables([self.rows, self.rows.slice(self.row(), 1)]))

    def alter(self) -> None:
        """Another value in one column of one row."""
        column, at = self.draw.choice(WITNESSED[self.name]), self.row()
        self.altered(column, at)

    def altered(self, column: str, at: int) -> None:
        """Another value of a column in a row."""
        held = self.rows.column(column)
        values = held.to_pylist()
        values[at] = changed(held[at])
        place = self.rows.schema.get_field_index(column)
        self.written(self.rows.set_column(place, self.rows.schema.field(place), pa.array(values, held.type)))

    def swap(self) -> None:
        """Two rows change places."""
        one, other = self.draw.sample(range(self.rows.num_rows), 2)
        names = ("decision_offset", "offset") if "decision_offset" in self.rows.schema.names else ("offset",)
        out = self.rows
        for name in names:
            values = out.column(name).to_pylist()
            values[one], values[other] = values[other], values[one]
            place = out.schema.get_field_index(name)
            out = out.set_column(place, out.schema.field(place), pa.array(values, pa.int64()))
        self.written(out)


@pytest.mark.parametrize("number", range(MUTATIONS))
def test_a_mutation_is_found_and_its_layer_named(lake, look, seed, tmp_path, number):
    table, kind = random.Random(f"{seed} audit").sample(CASES, MUTATIONS)[number]
    root = tmp_path / "lake"
    shutil.copytree(lake.root, root)
    damage = Damage(str(root), table, random.Random(f"{seed} audit {number}"))
    getattr(damage, kind)()
    code, found = look(root)
    told = [(f["what"], f["fact"], f["tables"], f["examples"]) for f in found["findings"]]
    what = f"{kind} in {table}, seed {seed} ({number}): {told}"
    assert code == 1, what
    assert told, what
    assert all(table in tables for _, _, tables, _ in told), what
    assert all(finding["repair"] for finding in found["findings"]), what
