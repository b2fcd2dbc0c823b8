import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from simulated import Log

from lakehouse.errors import SettingsError
from lakehouse.texts import Texts
from simulator.truth import truth_of, truth_rows, write_manifest, write_truth

PART = truth_rows(Texts.of(["t-1", "t-2", "t-3"]), np.array([0, 2, 0]), np.array([-1, 2_000_000_007, -1]))


def test_genuine_payments_have_neither_scenario_nor_episode(tmp_path: Path) -> None:
    write_truth(tmp_path / "deep" / "truth.parquet", [PART])
    assert pq.read_table(tmp_path / "deep" / "truth.parquet").to_pylist() == [
        {"transaction_id": "t-1", "is_fraud": False, "scenario": None, "episode": None},
        {"transaction_id": "t-2", "is_fraud": True, "scenario": "card_testing", "episode": 2_000_000_007},
        {"transaction_id": "t-3", "is_fraud": False, "scenario": None, "episode": None},
    ]


def test_the_live_part_adds_to_the_file_of_the_history_and_adding_twice_changes_nothing(tmp_path: Path) -> None:
    live = truth_rows(Texts.of(["t-4"]), np.array([8]), np.array([8]))
    path = tmp_path / "truth.parquet"
    write_truth(path, [PART])
    write_truth(path, [live], add=True)
    write_truth(path, [live], add=True)
    rows = pq.read_table(path)
    assert rows.column("transaction_id").to_pylist() == ["t-1", "t-2", "t-3", "t-4"]
    assert rows.column("scenario").to_pylist() == [None, "card_testing", None, "bust_out"]


def test_the_truth_names_every_valid_payment_once(small: Log) -> None:
    rows = truth_of(small.records, small.world.ids)
    assert set(rows.column("transaction_id").to_pylist()) == {name.decode() for name in small.row_of}
    assert rows.num_rows == len(small.truth)
    assert sum(rows.column("is_fraud").to_pylist()) == small.fraud.sum()


def test_the_manifest_keeps_the_history_when_the_live_part_is_added(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_manifest(path, "history", {"valid_payments": 3})
    write_manifest(path, "live", {"valid_payments": 1})
    assert json.loads(path.read_text()) == {"history": {"valid_payments": 3}, "live": {"valid_payments": 1}}
    write_manifest(path, "history", {"valid_payments": 4})
    assert json.loads(path.read_text()) == {"history": {"valid_payments": 4}}


def test_a_file_that_is_no_manifest_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary")
    with pytest.raises(SettingsError, match=r"notes\.txt is not a manifest"):
        write_manifest(path, "live", {})
    assert path.read_text() == "dear diary"
