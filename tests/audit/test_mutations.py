"""Fifty mutations of a lake, drawn from the run's seed: each is found, and the layer is named."""

import random
import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from tests.audit.literal import moment
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
    "silver.outcomes": (*_CARRIED, "outcome_id", "result", "transaction_id"),
    "silver.erasures": (*_CARRIED, "erasure_id", "requested_by"),
    "silver.staged": (*_CARRIED, "staged_id", "epoch"),
    "silver.quarantine": (*_CARRIED, "kind", "sealed", "sealing_key", "broker_time"),
    "silver.duplicates": (*_CARRIED, "kind", "first_offset", "content_digest", "broker_time"),
    "silver.balance": ("received", "accepted", "quarantined", "duplicates"),
    "silver.decisions": ("outcome", "card_token", "vector", "merchant_id", "epoch", "latency_us", "decision_id"),
    "bronze.shadow": ("schema_id", "record_bytes", "broker_time", "sealing_key", *_CARRIED),
    "silver.shadow": (*_PAYMENT, "ingested_at", "outcome", "score", "model_digest", "champion_outcome", "scored_at"),
    "features.vectors": (*_PAYMENT, "vector"),
    "gold.features": (*_PAYMENT, *FEATURES),
    "gold.scores": _PAYMENT,
    "gold.decisions": (
        *("effective_outcome", "decided_outcome", "answered_outcome", "challenge_result"),
        *("amount_base_minor", "card_token"),
        *("score_with_rules", "rules_fired", "reason_codes", "lists_hit", "rung"),
        *("propensity", "explored_from", "arm", "arm_probability"),
    ),
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
    if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        return [*(held or []), "x"]
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
        own = [name for name in ("decision_offset", "shadow_offset") if name in self.rows.schema.names]
        names = (*own, "offset")
        out = self.rows
        for name in names:
            values = out.column(name).to_pylist()
            values[one], values[other] = values[other], values[one]
            place = out.schema.get_field_index(name)
            out = out.set_column(place, out.schema.field(place), pa.array(values, pa.int64()))
        self.written(out)


def with_values(rows: pa.Table, offsets: list[int], changes: dict[str, object]) -> pa.Table:
    """The rows, with other values at some offsets in those of the columns that they have."""
    here = [offset in offsets for offset in rows.column("offset").to_pylist()]
    for name in changes.keys() & set(rows.schema.names):
        place = rows.schema.get_field_index(name)
        held = rows.column(name).to_pylist()
        values = [changes[name] if mine else value for value, mine in zip(held, here, strict=True)]
        rows = rows.set_column(place, rows.schema.field(place), pa.array(values, rows.schema.field(place).type))
    return rows


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


def place(lake, name, transaction_id):
    """(offset of a decided payment, its place among the rows of a table of gold)."""
    offsets = sorted(row["offset"] for row in lake.rows[name])
    (found,) = [row["offset"] for row in lake.rows["gold.decisions"] if row["transaction_id"] == transaction_id]
    return found, offsets.index(found)


@pytest.mark.parametrize("column", ["score", "score_xgboost", "score_isolation_forest"])
def test_a_score_other_than_the_engines_is_altered_in_gold(lake, look, tmp_path, column):
    root = shutil.copytree(lake.root, tmp_path / "lake")
    offset, at = place(lake, "gold.scores", "t110")
    Damage(str(root), "gold.scores", random.Random(0)).altered(column, at)
    code, found = look(root)
    assert code == 1
    told = [(f["what"], f["fact"], f["tables"], f["examples"], f["repair"]) for f in found["findings"]]
    command = f"python -m gold.job --from-position {offset} --to-position {offset + 1}"
    assert told == [("altered", "scores", ["gold.scores"], [{"offset": offset}], command)]


def test_how_a_payment_was_explored_and_split_is_what_the_engine_said(lake, look, tmp_path):
    root = shutil.copytree(lake.root, tmp_path / "lake")
    table = DeltaTable(TABLES["gold.decisions"].path(str(root)))
    other = {"propensity": "0.5", "explored_from": "'decline'", "arm": "'challenger'", "arm_probability": "0.1"}
    offsets = sorted(row["offset"] for row in lake.rows["gold.decisions"])[: len(other)]
    for offset, (column, value) in zip(offsets, other.items(), strict=True):
        table.update({column: value}, predicate=f"`offset` = {offset}")
    _, found = look(root)
    assert [(f["what"], f["tables"], f["examples"]) for f in found["findings"]] == [
        ("altered", ["gold.decisions"], [{"offset": offset} for offset in offsets])
    ]


def test_without_the_topic_a_score_that_differs_names_both_tables(lake, look, tmp_path):
    root = shutil.copytree(lake.root, tmp_path / "lake")
    _, at = place(lake, "gold.scores", "t110")
    Damage(str(root), "gold.scores", random.Random(0)).altered("score", at)
    _, found = look(root, "--without-topics")
    assert [(f["fact"], f["tables"]) for f in found["findings"]] == [("scores", ["gold.scores", "silver.decisions"])]


@pytest.mark.parametrize("name", ["t101", "t102", "t104", "t105", "t106", "t1"])
def test_an_end_that_gold_does_not_tell_as_silver_does_is_named_with_its_repair(lake, look, tmp_path, name):
    root = shutil.copytree(lake.root, tmp_path / "lake")
    offset, at = place(lake, "gold.decisions", name)
    Damage(str(root), "gold.decisions", random.Random(0)).altered("challenge_result", at)
    code, found = look(root)
    assert code == 1
    told = {(f["what"], f["fact"], *f["tables"], f["repair"]) for f in found["findings"]}
    command = f"python -m gold.job --from-position {offset} --to-position {offset + 1}"
    assert ("altered", "end of its challenge", "gold.decisions", command) in told
    assert {one[2:] for one in told} == {("gold.decisions", command)}


@pytest.mark.parametrize(("minutes", "clean"), [(1, True), (60, False)])
def test_an_end_that_came_to_silver_while_gold_was_at_work_is_no_finding(lake, look, tmp_path, minutes, clean):
    root = shutil.copytree(lake.root, tmp_path / "lake")
    offset, _ = place(lake, "gold.decisions", "t104")
    gold = Damage(str(root), "gold.decisions", random.Random(0))
    written_ms = max(
        commit["timestamp"]
        for commit in DeltaTable(gold.path).history()
        if "fraudlake_positions" in (commit.get("userMetadata") or "")
    )
    landed = moment(written_ms - minutes * 60_000)
    said = [row["offset"] for row in lake.rows["silver.outcomes"] if row["transaction_id"] == "t104"]
    for name in ("bronze.events", "silver.outcomes"):
        table = Damage(str(root), name, random.Random(0))
        changes = {"ingested_at": landed, "sealing_key": f"bronze|{landed.date()}|g1"}
        table.written(with_values(table.rows, said, changes))
    found = gold.rows.filter(pc.equal(gold.rows.column("offset"), offset)).to_pylist()[0]
    changes = {"challenge_result": None, "effective_outcome": found["decided_outcome"]}
    gold.written(with_values(gold.rows, [offset], changes))
    code, found = look(root)
    told = [(f["what"], f["fact"], f["tables"]) for f in found["findings"]]
    expected = [] if clean else [("altered", "end of its challenge", ["gold.decisions"])]
    assert (code, told) == (0 if clean else 1, expected)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *((name, "coalesce(answered_outcome, decided_outcome)") for name in ("t102", "t105", "t106")),
        # The API had approved it, and the customer only kept silent.
        ("t109", "'decline'"),
    ],
)
def test_an_effective_outcome_that_leaves_out_how_the_challenge_ended_is_altered(lake, look, tmp_path, name, told):
    root = shutil.copytree(lake.root, tmp_path / "lake")
    offset, _ = place(lake, "gold.decisions", name)
    DeltaTable(TABLES["gold.decisions"].path(str(root))).update(
        {"effective_outcome": told}, predicate=f"offset = {offset}"
    )
    _, found = look(root)
    assert [(f["fact"], f["tables"], f["examples"]) for f in found["findings"]] == [
        ("effective outcome", ["gold.decisions"], [{"offset": offset}])
    ]
