"""The watch over a lake: what is new is measured once, a change is an alarm, and too short a reference is said."""

from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from decisions.bundle import Model
from features.catalogue import NAMES, feature_set_hash
from lakehouse import delta
from lakehouse.contracts import gold
from lakehouse.contracts.quality import DRIFT
from lakehouse.files import Writer, added, arrow_schema
from lakehouse.settings import Settings
from lakehouse.tables import Table
from tests.conftest import NewSettings
from tests.decisions import models
from tests.filled import DAY_1, row
from training.boosted import Boosted
from training.data import read
from training.drift import _exported, _lines
from training.fit import refitted
from training.package import model_of
from training.promotion import learnt_until_ms, seen_until_ms
from training.retrain import alarms
from training.watch import DriftRefused, Watch, newest

DAYS, PER_DAY, REFERENCE = 16, 60, 12
START_MS = int(DAY_1.timestamp() * 1000)
DAY_MS = 86_400_000
SPOILT = NAMES.index("amount_minor")


@cache
def champion(seed: int) -> Model:
    """The first champion, 0, and the second, 1."""
    return model_of(models.fitted(seed), {}, "cd"[seed] * 64)


def put(root: str, table: Table, rows: pa.Table) -> None:
    """Append rows without a Python object a value."""
    delta.ensure(root, table)
    told = Writer(table, table.path(root)).written(rows.to_batches())
    reader = delta.opened(root, table)
    files = [*added(file for part in told for file in part.to_pylist())]
    reader.create_write_transaction(files, "append", reader.schema())
    delta.followed(root, table)


@pytest.fixture(scope="module")
def watched(new_settings: NewSettings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Sixteen days; on the last one amounts are in cents of cents, alerts are many and frauds are twice the scores'.

    A payment more on the day after, or it would not be known that the last one is over.
    """
    folder = tmp_path_factory.mktemp("watched")
    settings = new_settings(folder)
    drift = settings.drift.model_copy(update={"reference_windows": REFERENCE, "least_rows": 50})
    settings = settings.model_copy(update={"drift": drift})
    root = str(settings.lake.root)
    random = np.random.default_rng(5)
    n = DAYS * PER_DAY + 1
    X = random.normal(size=(n, len(NAMES))).astype(np.float32)
    X[:, SPOILT] = np.exp(X[:, SPOILT] + 8)
    last = np.arange(n) >= (DAYS - 1) * PER_DAY
    X[last, SPOILT] *= 100
    when = [DAY_1 + timedelta(days=at // PER_DAY, minutes=at % PER_DAY) for at in range(n)]
    score = champion(0).scores(X).ensemble
    fraud = random.random(n) < np.where(last, 0.75, score)
    place = {"topic_id": pa.array(["T"] * n), "partition": pa.array([0] * n, pa.int32()), "offset": pa.array(range(n))}
    ids = pa.array([f"t{at}" for at in range(n)])
    lists = pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32) * len(NAMES)), pa.array(X.reshape(-1)))
    common: dict[str, Any] = {**place, "transaction_id": ids, "event_time": pa.array(when)}
    vectors = {**common, "feature_set": pa.array([feature_set_hash()] * n), "vector": lists}
    put(root, gold.VECTORS, pa.table(vectors).cast(arrow_schema(gold.VECTORS)))
    stopped = (np.arange(n) % 20 == 0) | (last & (np.arange(n) % 3 == 0))
    outcome = np.where(stopped, "review", "approve").tolist()
    told = [{"decided_outcome": one, "effective_outcome": one} for one in outcome]
    decided = [row(gold.DECISIONS, at, event_time=when[at], **told[at]) for at in range(n)]
    delta.append(root, gold.DECISIONS, decided)
    known = [
        row(
            gold.TRAINING_SET,
            at,
            event_time=when[at],
            is_fraud=bool(fraud[at]),
            label_available_at=when[at] + timedelta(days=2) if fraud[at] else None,
            feature_set=feature_set_hash(),
            vector=X[at].tolist(),
            as_of=DAY_1 + timedelta(days=DAYS + settings.training.label_gap_d),
        )
        for at in range(n)
    ]
    delta.append(root, gold.TRAINING_SET, known)
    return settings


def looked(settings: Settings, days: int, reference_end: int = REFERENCE, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a run whose newest data is of so many days; written as the command does."""
    end_ms = START_MS + reference_end * DAY_MS
    watch = Watch(settings, champion(seed), end_ms, end_ms)
    rows = list(watch.rows(START_MS + days * DAY_MS, importances=False))
    if rows:
        delta.append(str(settings.lake.root), DRIFT, rows)
    return rows


def test_a_window_is_measured_once_and_a_change_is_found_in_it(watched: Settings) -> None:
    quiet = looked(watched, DAYS - 1)
    assert {row["window_end"] for row in quiet} == {DAY_1 + timedelta(days=d) for d in range(REFERENCE + 1, DAYS)}
    assert [row for row in quiet if row["alarm"]] == []
    assert {row["measure"] for row in quiet} == {
        *("psi", "ks", "missing_rate"),
        *("approval_rate", "alert_rate", "calibration"),
    }
    assert alarms(str(watched.lake.root), champion(0).digest) == []
    changed = looked(watched, DAYS)
    assert {row["window_end"] for row in changed} == {DAY_1 + timedelta(days=DAYS)}
    found = {(row["subject"], row["measure"]) for row in changed if row["alarm"]}
    assert found == {
        ("amount_minor", "psi"),
        ("amount_minor", "ks"),
        ("decisions", "approval_rate"),
        ("decisions", "alert_rate"),
        ("labels", "calibration"),
    }
    assert set(alarms(str(watched.lake.root), champion(0).digest)) == {" ".join(one) for one in found}
    assert alarms(str(watched.lake.root), "another") == []
    assert looked(watched, DAYS) == []


def test_a_second_champion_is_measured_by_its_own_scores_of_what_was_before_it(watched: Settings) -> None:
    rows = looked(watched, DAYS, seed=1)
    of_model = {(row["subject"], row["measure"]) for row in rows}
    assert {("score", "psi"), ("score", "ks"), ("labels", "calibration")} <= of_model
    assert {row["model_digest"] for row in rows} == {champion(1).digest}
    found = newest(str(watched.lake.root), champion(1).digest)
    assert {row["window_end"] for row in found} == {DAY_1 + timedelta(days=DAYS)}
    assert looked(watched, DAYS, seed=1) == []


def test_decisions_that_come_later_are_measured_when_they_come(
    new_settings: NewSettings, watched: Settings, tmp_path: Path
) -> None:
    settings = new_settings(tmp_path).model_copy(update={"drift": watched.drift})
    root, before = str(settings.lake.root), str(watched.lake.root)
    put(root, gold.VECTORS, delta.rows(before, gold.VECTORS, list(gold.VECTORS.column_names)))
    decided = delta.rows(before, gold.DECISIONS, list(gold.DECISIONS.column_names)).to_pylist()
    late = DAY_1 + timedelta(days=DAYS - 1, hours=1)
    delta.append(root, gold.DECISIONS, [one for one in decided if one["event_time"] < late])
    first = looked(settings, DAYS)
    assert {row["window_end"] for row in first if row["measure"] == "psi"} >= {DAY_1 + timedelta(days=DAYS)}
    assert max(row["window_end"] for row in first if row["measure"] == "alert_rate") == DAY_1 + timedelta(days=DAYS - 1)
    delta.append(root, gold.DECISIONS, [one for one in decided if one["event_time"] >= late])
    second = looked(settings, DAYS)
    assert {row["measure"] for row in second} == {"approval_rate", "alert_rate"}
    assert {row["window_end"] for row in second} == {DAY_1 + timedelta(days=DAYS)}


def overfitted(settings: Settings, days: int) -> Model:
    """A champion that knows the payments of the first days by heart."""
    data = read(str(settings.lake.root))
    rows = data.between(START_MS, START_MS + days * DAY_MS)
    booster = refitted(data.X, data.is_fraud, rows, {"max_depth": 6, "learning_rate": 0.5}, 60, 0)
    fitted = replace(models.fitted(0), supervised=Boosted(booster, {"max_depth": 6}, 60), share=1.0)
    split = {"fitted_until_ms": START_MS + days * DAY_MS, "test_end_ms": START_MS + REFERENCE * DAY_MS}
    model = model_of(fitted, {}, f"{days:064x}")
    return replace(model, manifest={**model.manifest, "split": split})


@pytest.mark.parametrize(("learnt_d", "start_d"), [(4, 4), (5, 0), (REFERENCE, 0)])
def test_scores_are_compared_with_days_that_the_champion_did_not_learn_from_where_there_are_enough(
    watched: Settings, learnt_d: int, start_d: int
) -> None:
    model = overfitted(watched, learnt_d)
    assert seen_until_ms(model) == START_MS + REFERENCE * DAY_MS
    watch = Watch(watched, model, seen_until_ms(model), learnt_until_ms(model))
    rows = list(watch.rows(START_MS + (DAYS - 1) * DAY_MS, importances=False))
    of_scores = {"score", "labels"}
    starts = {(row["subject"] in of_scores, row["reference_start"]) for row in rows}
    assert starts == {(True, DAY_1 + timedelta(days=start_d)), (False, DAY_1)}
    assert {row["reference_end"] for row in rows} == {DAY_1 + timedelta(days=REFERENCE)}
    # Nothing has changed; but its scores of days that it knows by heart are not what they are of others.
    alarmed = {row["subject"] for row in rows if row["alarm"]}
    assert learnt_d != 4 or alarmed == set()
    assert learnt_d != REFERENCE or "score" in alarmed


def test_too_short_a_reference_is_refused(watched: Settings) -> None:
    with pytest.raises(
        DriftRefused, match=r"Only 5 of the 12 windows before 2026-01-06 have 50 vectors or more; 8 are"
    ):
        looked(watched, DAYS + 1, reference_end=5)


def test_what_is_said_and_exported(tmp_path: Path) -> None:
    common = {"window_end": DAY_1, "subject": "score"}
    rows = [
        {**common, "measure": "psi", "value": 0.5, "low": None, "high": 0.1, "alarm": True},
        {**common, "measure": "missing_rate", "value": 0.2, "low": 0.1, "high": 0.3, "alarm": False},
    ]
    first, last = _lines(rows)
    assert first.split() == ["2026-01-01", "score", "psi", "0.5,", "expected", "below", "0.1"]
    assert last == "2 measures of 1 windows, 1 alarms"
    _exported(tmp_path / "metrics" / "drift.prom", rows)
    text = (tmp_path / "metrics" / "drift.prom").read_text()
    assert "fraudlake_drift_alarms 1.0" in text
    assert 'fraudlake_drift{measure="psi",subject="score"} 0.5' in text
