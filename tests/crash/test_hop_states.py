"""Silver, features and gold, killed between two commits or set back, and run again: nothing is lost or doubled.

These hops have no checkpoint: what is to be done follows from the tables' own commits.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from features import snapshot
from features.history import History
from gold.named import NAMED
from lakehouse import storage
from lakehouse.contracts import bronze, gold, quality, silver
from lakehouse.storage import Span
from tests.crash.conftest import JUDGED, Lake, Recorded, positions
from tests.crash.table import noted, outcome

OURS = "by source position"
Make = Callable[[Lake], None]


def _both(*steps: Make) -> Make:
    def make(lake: Lake) -> None:
        for step in steps:
            step(lake)

    return make


def _set_back_all_but(*kept: object) -> Make:
    def make(lake: Lake) -> None:
        lake.set_back(*(t for t in (*JUDGED, quality.SCORES, silver.BALANCE) if t not in kept and t.name in lake.first))

    return make


def _folder_gone(lake: Lake) -> None:
    shutil.rmtree(lake.root / "_high_water")
    shutil.rmtree(lake.root / "silver")
    shutil.rmtree(lake.path(quality.SCORES))


SILVER: dict[str, Make] = {
    "killed before the first table's commit": _set_back_all_but(),
    "killed between the commits of two tables": _set_back_all_but(silver.PAYMENTS),
    "killed before the balance": _set_back_all_but(*JUDGED, quality.SCORES),
    "killed between two tables, source compacted since": _both(
        _set_back_all_but(silver.QUARANTINE), lambda lake: lake.compact(bronze.EVENTS)
    ),
    "balance restored to an older version": lambda lake: lake.restore(silver.BALANCE),
    "all of silver gone": _folder_gone,
}
SET_BACK: dict[str, Make] = {
    "payments restored to an older version": lambda lake: lake.restore(silver.PAYMENTS),
    "payments' newest commit lost": lambda lake: lake.set_back(silver.PAYMENTS),
    "quarantine's newest commit lost": lambda lake: lake.set_back(silver.QUARANTINE),
}


@pytest.mark.parametrize("state", [*SILVER, *SET_BACK])
def test_silver_holds_every_position_once(recorded_world: Recorded, tmp_path: Path, state: str) -> None:
    lake = recorded_world.copy(tmp_path)
    {**SILVER, **SET_BACK}[state](lake)
    error = lake.run("silver")
    assert error == ("BalanceBroken" if state in SET_BACK else "")
    held = [offset for table in JUDGED for offset in positions(str(lake.root), table)]
    assert noted("silver", state, OURS, outcome(held, range(recorded_world.records), error, bool(error))).safe


DECISIONS: dict[str, Make] = {
    "newest commit lost": lambda lake: lake.set_back(silver.DECISIONS),
    "restored to an older version": lambda lake: lake.restore(silver.DECISIONS),
    "newest commit lost, source compacted": _both(
        lambda lake: lake.set_back(silver.DECISIONS), lambda lake: lake.compact(bronze.DECISIONS)
    ),
}


@pytest.mark.parametrize("state", DECISIONS)
def test_silver_takes_every_decision_over_once(recorded_world: Recorded, tmp_path: Path, state: str) -> None:
    lake = recorded_world.copy(tmp_path)
    expected = positions(str(lake.root), silver.DECISIONS)
    DECISIONS[state](lake)
    assert len(positions(str(lake.root), silver.DECISIONS)) < len(expected)
    error = lake.run("silver")
    found = outcome(positions(str(lake.root), silver.DECISIONS), expected, error)
    assert noted("silver.decisions", state, OURS, found).safe
    assert not error


def _newest(lake: Lake) -> Path:
    return snapshot.newest([lake.snapshots])[0]


def _half_of_newest(lake: Lake) -> None:
    path = _newest(lake)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _left_over(lake: Lake) -> None:
    (lake.snapshots / "working").mkdir()
    (lake.snapshots / "working" / "card-0000.state").write_bytes(b"FRAUDLK2")
    (lake.snapshots / "00000000000000000007.99.new").write_bytes(b"FRAUDLK2")


def _no_snapshot(lake: Lake) -> None:
    for path in snapshot.newest([lake.snapshots]):
        path.unlink()


FEATURES: dict[str, Make] = {
    "vectors' newest commit lost": lambda lake: lake.set_back(gold.VECTORS),
    "vectors restored to an older version": lambda lake: lake.restore(gold.VECTORS),
    "killed between vectors and snapshot": lambda lake: _newest(lake).unlink(),
    "newest snapshot torn": _half_of_newest,
    "newest snapshot torn, vectors set back, source compacted": _both(
        _half_of_newest, lambda lake: lake.set_back(gold.VECTORS), lambda lake: lake.compact(silver.PAYMENTS)
    ),
    "all snapshots gone, files of a killed run left": _both(_no_snapshot, _left_over),
    "killed before the vectors' commit, files of that run left": _both(
        lambda lake: lake.set_back(gold.VECTORS), lambda lake: _newest(lake).unlink(), _left_over
    ),
}


def _vectors(lake: Lake) -> dict[int, str]:
    rows = DeltaTable(str(lake.path(gold.VECTORS))).to_pyarrow_table(columns=["offset", "vector"])
    return {row["offset"]: repr(row["vector"]) for row in rows.to_pylist()}


def _state(path: Path) -> dict[str, bytes]:
    found = snapshot.read(path)
    return {name: array.tobytes() for name, array in found.arrays.items()}


@pytest.mark.parametrize("state", FEATURES)
def test_every_payment_has_its_vector_once_and_the_snapshot_is_the_same(
    recorded_world: Recorded, tmp_path: Path, state: str
) -> None:
    lake = recorded_world.copy(tmp_path)
    before, name = _vectors(lake), _newest(lake).name
    content = _state(_newest(lake))
    FEATURES[state](lake)
    error = lake.run("features")
    held = positions(str(lake.root), gold.VECTORS)
    assert noted("features", state, OURS, outcome(held, positions(str(lake.root), silver.PAYMENTS), error)).safe
    assert not error
    assert _vectors(lake) == before
    assert _newest(lake).name == name
    assert _state(_newest(lake)) == content


def test_who_finds_the_vectors_written_by_somebody_else_leaves_no_snapshot(
    recorded_world: Recorded, tmp_path: Path
) -> None:
    lake = recorded_world.copy(tmp_path)
    ((key, end),) = storage.written_ends(str(lake.root), gold.VECTORS).items()
    names = [path.name for path in snapshot.newest([lake.snapshots])]
    _newest(lake).unlink()
    History(lake.context).take(Span(key.split("/")[0], 0, int(names[1].split(".")[0]), end))
    assert [path.name for path in snapshot.newest([lake.snapshots])] == names[1:]


GOLD: dict[str, Make] = {
    "newest commit lost": lambda lake: lake.set_back(NAMED),
    "restored to an older version": lambda lake: lake.restore(NAMED),
    "newest commit lost, source compacted": _both(
        lambda lake: lake.set_back(NAMED), lambda lake: lake.compact(gold.VECTORS)
    ),
}


@pytest.mark.parametrize("state", GOLD)
def test_every_vector_has_its_named_features_once(recorded_world: Recorded, tmp_path: Path, state: str) -> None:
    lake = recorded_world.copy(tmp_path)
    GOLD[state](lake)
    error = lake.run("gold")
    expected = positions(str(lake.root), gold.VECTORS)
    assert noted("gold.features", state, OURS, outcome(positions(str(lake.root), NAMED), expected, error)).safe
    assert not error
