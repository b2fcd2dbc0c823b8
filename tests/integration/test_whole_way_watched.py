"""The newest training set goes on by itself: exported, trained on again, watched; only a challenger comes of it."""

import json

import pytest

from decisions.bundle import DIGEST_TAG
from decisions.champion import champion
from gold import export as exporting
from lakehouse import delta
from lakehouse.contracts import gold
from lakehouse.contracts.quality import DRIFT
from lakehouse.exported import ExportRefused
from training import drift, registry, retrain
from training.aliases import Aliases
from training.data import read, read_exported


@pytest.fixture(scope="module")
def env(history):
    """This world, for commands that are run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in history.environment().items():
            if name.startswith("FRAUDLAKE__"):
                patch.setenv(name, value)
        patch.setenv("FRAUDLAKE__TRAINING__SEARCH_TRIALS", "1")
        patch.setenv("FRAUDLAKE__TRAINING__ALERT_BUDGET_PER_1000", "40")
        if champion(history.settings.lake.root) is None:
            # The model came into force behind the history; tests before these took the lake there.
            history.run_lake()
        yield history


@pytest.fixture(scope="module")
def exported(env, tmp_path_factory):
    """(folder, what the command said) of an export of the training set."""
    folder = tmp_path_factory.mktemp("export") / "set"
    return folder, exporting.export(env.settings, folder, None)


def test_gold_holds_the_maturity_of_every_source_s_labels(env):
    rows = delta.rows(env.settings.lake.root, gold.LABEL_MATURITY, ["source", "age_d", "labels", "share"]).to_pylist()
    first = {row["age_d"]: row for row in rows if row["source"] == "any"}
    assert {row["source"] for row in rows if row["labels"]} >= {"any", "chargeback"}
    # The simulator's delays have a median of four days, and 95 % of them lie within seven.
    assert first[2]["share"] < first[4]["share"] < first[7]["share"]
    assert first[7]["share"] > 0.8


def test_payments_are_scored_in_batch_by_the_model_in_force(env):
    root = env.settings.lake.root
    scored = delta.rows(root, gold.SCORES, ["model_digest"]).column("model_digest")
    assert scored.unique().to_pylist() == [env.digest]
    assert len(scored) == delta.count(root, gold.VECTORS)


def test_an_export_holds_the_payments_that_the_lake_holds(env, exported):
    folder, said = exported
    one, other = read(env.settings.lake.root), read_exported(folder)
    assert said["rows"] == len(one) == len(other)
    assert one.transaction_id == other.transaction_id
    assert one.X.tobytes() == other.X.tobytes()
    assert (one.as_of_ms, one.delta_version) == (other.as_of_ms, other.delta_version)


def test_retraining_from_an_export_gives_the_same_bytes_and_only_a_challenger(env, exported, capsys):
    assert champion(env.settings.lake.root) == env.digest
    before = Aliases(env.settings).champion()
    assert retrain.main(["--from-parquet", str(exported[0])]) == 0
    # The model in force was trained from Delta, by the same settings on the same rows.
    assert capsys.readouterr().out.splitlines()[-1] == env.digest
    assert Aliases(env.settings).champion() == before
    client, name = registry.client(env.settings), env.settings.models.name
    assert client.get_model_version_by_alias(name, registry.CHALLENGER).tags[DIGEST_TAG] == env.digest


def test_a_changed_export_is_refused_before_anything_is_trained(env, exported, tmp_path):
    folder = tmp_path / "changed"
    folder.mkdir()
    for path in exported[0].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    part = folder / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(ExportRefused, match="was changed"):
        retrain.retrained(env.settings, False, folder)


def test_the_watch_measures_every_day_since_the_champion_was_fitted_once(env, capsys, tmp_path):
    assert drift.main(["--json", "--metrics", str(tmp_path / "drift.prom")]) in (0, 1)
    alarms = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line]
    rows = delta.rows(env.settings.lake.root, DRIFT, ["window_end", "subject", "measure", "alarm", "value", "high"])
    found = rows.to_pylist()
    assert {row["measure"] for row in found} >= {"psi", "ks", "missing_rate", "importance"}
    assert sum(row["alarm"] for row in found) == len(alarms)
    (moved,) = [row for row in found if row["measure"] == "importance"]
    assert 0 <= moved["value"] <= 1
    # The champion is that model: fitted again on the same rows it rests on the same features.
    assert moved["value"] < 1e-6
    assert not moved["alarm"]
    told = (tmp_path / "drift.prom").read_text()
    assert drift.main(["--metrics", str(tmp_path / "drift.prom")]) == 0
    assert (tmp_path / "drift.prom").read_text() == told
    assert capsys.readouterr().out.splitlines()[-1] == "0 measures of 0 windows, 0 alarms"
