"""A training set holds what was known at its moment, one row a payment, and can be made again to the row."""

import json
import shutil
from datetime import timedelta

import numpy as np
import pyarrow.compute as pc
import pytest

from features.catalogue import NAMES, feature_set_hash
from gold import as_of
from gold.training_set import Recipe, write
from lakehouse import delta, storage, trail
from lakehouse import settings as conf
from lakehouse.contracts import gold, silver
from lakehouse.contracts.lake import RUNS
from lakehouse.storage import Span
from tests.filled import DAY_1, row
from training.data import read

SETTINGS = conf.load("test")


def moment(day):
    """Midnight of a day of January, counted from 1; fractions are hours."""
    return DAY_1 + timedelta(days=day - 1)


def ms(day):
    return int(moment(day).timestamp() * 1000)


def payment(offset, day):
    name, when = f"t{offset}", moment(day)
    common = {"transaction_id": name, "event_time": when}
    return (
        row(silver.PAYMENTS, offset, **common, engine_clock=when, amount_base_minor=100 + offset),
        row(gold.VECTORS, offset, **common, feature_set=feature_set_hash(), vector=[float(offset)] * len(NAMES)),
    )


def label(offset, of, available, arrived=None, is_fraud=True, reverses=None, source="chargeback", confidence=0.9):
    return row(
        silver.LABELS,
        offset,
        label_id=f"l{offset}",
        transaction_id=f"t{of}",
        label_available_at=moment(available),
        engine_clock=moment(available if arrived is None else arrived),
        is_fraud=is_fraud,
        reverses=reverses,
        source=source,
        confidence=confidence,
    )


def decision(offset, **given):
    return row(
        silver.DECISIONS,
        offset,
        **{"transaction_id": f"t{offset}", "event_time": moment(1 + offset), "decision_offset": offset, **given},
    )


def append(spark, root, table, rows, start):
    storage.ensure(root, table)
    frame = spark.createDataFrame(rows, table.ddl)
    storage.append_once(frame, root, table, [Span("T", 0, start, max(r["offset"] for r in rows) + 1)])


PAYMENTS = [payment(offset, 1 + offset) for offset in range(12)]
"""One a day: t0 on day 1, t11 on day 12."""
LABELS = [
    label(20, of=0, available=3),
    label(21, of=1, available=9, arrived=10),
    label(22, of=2, available=11),
    label(23, of=3, available=4, arrived=11),  # written with a time that had passed: known when it arrived
    label(24, of=4, available=6),
    label(25, of=4, available=8, is_fraud=False, reverses="l24"),
    label(26, of=0, available=5),  # a second label of a payment
    label(27, of=5, available=7, is_fraud=False),
]


@pytest.fixture(scope="module")
def root(spark, tmp_path_factory):
    """A lake with twelve payments and what became known of them."""
    root = str(tmp_path_factory.mktemp("as-of") / "lake")
    payments, vectors = zip(*PAYMENTS, strict=True)
    append(spark, root, silver.PAYMENTS, payments, 0)
    append(spark, root, gold.VECTORS, vectors, 0)
    append(spark, root, silver.LABELS, LABELS, 20)
    storage.ensure(root, gold.TRAINING_SET)
    return root


COLUMNS = ("offset", "transaction_id", "is_fraud", "label_available_at", "is_mature", "as_of", "vector")


def rows(root):
    found = delta.rows(root, gold.TRAINING_SET, COLUMNS).sort_by("offset").to_pylist()
    return [{**r, "vector": r["vector"][:1]} for r in found]


def frauds(root):
    return {r["transaction_id"]: r["label_available_at"] for r in rows(root) if r["is_fraud"]}


@pytest.mark.parametrize(
    ("day", "known"),
    [
        (2.5, {}),
        (3, {"t0": 3}),
        (7.5, {"t0": 3, "t4": 6}),  # the reversal of t4's label is not known yet
        (9.5, {"t0": 3}),  # it is; t1's label has its time, and has not arrived
        (11.5, {"t0": 3, "t1": 10, "t2": 11, "t3": 11}),
    ],
)
def test_a_label_is_known_from_its_time_on_and_never_before_it_arrived(spark, root, day, known):
    write(spark, root, Recipe.now(root, ms(day), SETTINGS))
    assert frauds(root) == {name: moment(at) for name, at in known.items()}


def test_there_is_one_row_a_payment_that_had_arrived_with_its_vector_as_of_then(spark, root):
    write(spark, root, Recipe.now(root, ms(10.5), SETTINGS))
    found = rows(root)
    assert [r["transaction_id"] for r in found] == [f"t{n}" for n in range(10)]
    assert [r["vector"] for r in found] == [[float(n)] for n in range(10)]
    assert {r["as_of"] for r in found} == {moment(10.5)}
    # Mature: at least seven days old, so t0, t1 and t2 of days 1 to 3.
    assert [r["transaction_id"] for r in found if r["is_mature"]] == ["t0", "t1", "t2"]
    data = read(root)
    assert (len(data), data.as_of_ms, int(data.is_fraud.sum())) == (10, ms(10.5), 2)


def test_the_same_recipe_gives_the_same_rows_after_more_came_into_every_table(spark, root, tmp_path):
    root = shutil.copytree(root, tmp_path / "lake").as_posix()
    recipe = Recipe.now(root, ms(11.5), SETTINGS)
    write(spark, root, recipe)
    before, version = rows(root), storage.version(root, gold.TRAINING_SET)
    more, more_vectors = payment(30, 5)
    append(spark, root, silver.PAYMENTS, [more], 12)
    append(spark, root, gold.VECTORS, [more_vectors], 12)
    append(spark, root, silver.LABELS, [label(40, of=6, available=9)], 28)
    write(spark, root, Recipe.now(root, ms(11.5), SETTINGS))
    assert len(rows(root)) == len(before) + 1
    assert "t6" in frauds(root)
    again = Recipe.of(root, version)
    assert again == recipe
    write(spark, root, again)
    assert rows(root) == before


def test_features_can_be_those_that_the_engine_logged(spark, root, tmp_path):
    root = shutil.copytree(root, tmp_path / "lake").as_posix()
    vectors = {0: np.full(len(NAMES), 0.5, np.float32), 2: np.full(len(NAMES), np.nan, np.float32)}
    mine = feature_set_hash()
    logged = [
        decision(0, feature_set=mine, vector=vectors[0].tobytes()),
        decision(2, feature_set=mine, vector=vectors[2].tobytes()),
        decision(3, feature_set="another", vector=b"1234"),
        decision(4, vector=None),
    ]
    storage.ensure(root, silver.DECISIONS)
    frame = spark.createDataFrame(logged, silver.DECISIONS.ddl)
    storage.append_once(frame, root, silver.DECISIONS, [Span("x", 0, 0, 5)])
    recipe = Recipe.now(root, ms(11.5), SETTINGS, "logged")
    write(spark, root, recipe)
    found = rows(root)
    assert [(r["transaction_id"], r["is_fraud"]) for r in found] == [("t0", True), ("t2", True)]
    assert found[0]["vector"] == [0.5]
    assert np.isnan(found[1]["vector"][0])
    assert Recipe.of(root, storage.version(root, gold.TRAINING_SET)) == recipe
    assert set(recipe.versions) == {"silver.decisions", "silver.payments", "silver.labels"}


@pytest.fixture
def command(root, spark, monkeypatch, capsys):
    """Runs `python -m gold.as_of` over the lake; (exit code, printed, complaints)."""
    monkeypatch.setenv("FRAUDLAKE__LAKE__ROOT", root)

    def run(*arguments):
        code = as_of.main(arguments)
        out, err = capsys.readouterr()
        return code, out.splitlines()[-1] if code == 0 else "", err

    return run


def test_the_command_makes_one_and_makes_it_again(command, root):
    code, printed, _ = command("--as-of", "2026-01-11T12:00:00Z")
    first, held = json.loads(printed), rows(root)
    assert code == 0
    assert (first["rows"], first["as_of_ms"]) == (len(held), ms(11.5))
    assert set(first["versions"]) == {"features.vectors", "silver.payments", "silver.labels"}
    assert command("--as-of", "2026-01-02T00:00:00Z")[0] == 0
    assert len(rows(root)) == 2
    code, printed, _ = command("--again", str(first["version"]))
    assert {**json.loads(printed), "version": first["version"]} == first
    assert rows(root) == held


def test_the_command_is_in_the_trail_and_in_the_table_of_runs(command, root):
    command("--as-of", "2026-01-11T12:00:00Z")
    began, ended = list(trail.entries(trail.place_of(conf.load())))[-2:]
    assert (began.action, began.subject, began.details["as_of_ms"]) == ("as_of.began", "gold.as_of", ms(11.5))
    assert (ended.action, ended.details["outcome"]) == ("as_of.ended", "done")
    columns = ["run_id", "rows_out", "versions_read", "versions_written"]
    (run,) = delta.rows(root, RUNS, columns, pc.field("run_id") == began.details["run_id"]).to_pylist()
    version = storage.version(root, gold.TRAINING_SET)
    assert run["rows_out"] == len(rows(root))
    assert run["versions_written"] == [f"gold.training_set@{version}"]
    sources = {f"{name}@{at}" for name, at in Recipe.of(root, version).versions.items()}
    assert sources <= set(run["versions_read"])


def test_a_moment_that_silver_has_not_reached_is_refused(command, root):
    held = rows(root)
    code, _, complaint = command("--as-of", "2026-01-12T00:00:00.001Z")
    assert code == 1
    assert "silver.payments reaches to 2026-01-12T00:00:00.000+00:00" in complaint
    assert rows(root) == held


def test_a_version_that_records_no_sources_is_refused(command):
    code, _, complaint = command("--again", "0")
    assert code == 1
    assert (
        "Version 0 of gold.training_set records no sources, or those of an earlier rule for labels. "
        "Name a moment instead" in complaint
    )


def test_a_moment_needs_a_time_zone(command, capsys):
    with pytest.raises(SystemExit):
        command("--as-of", "2026-01-11T12:00:00")
    assert "2026-01-31T12:00:00Z" in capsys.readouterr().err
