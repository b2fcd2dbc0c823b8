"""Training as a job: from an exported training set to a registered bundle with its report, and what it refuses."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from decisions.bundle import NETWORK
from decisions.shelf import Shelf
from features.catalogue import NAMES, feature_set_hash
from lakehouse import delta, exported
from lakehouse.contracts.gold import TRAINING_SET
from lakehouse.errors import BundleRefused
from lakehouse.files import arrow_schema
from tests.decisions import models
from tests.filled import DAY_1
from training import onnx_export, registry
from training.aliases import Aliases
from training.data import DataRefused
from training.job import train

DAYS, PER_DAY = 36, 80
AMOUNT = NAMES.index("amount_minor")


def training_set(**changed):
    """80 payments a day for 36 days; one in twenty of them is fraud, known two days later, and large."""
    random = np.random.default_rng(4)
    n = DAYS * PER_DAY
    fraud = changed.get("fraud", np.arange(n) % 20 == 0)
    X = random.normal(size=(n, len(NAMES))).astype(np.float32)
    X[:, AMOUNT] = np.rint(np.exp(7 + 0.5 * X[:, AMOUNT] + 2 * (np.arange(n) % 20 == 0)))
    for name, value in changed.get("features", {}).items():
        X[:, NAMES.index(name)] = value
    at = [DAY_1 + timedelta(days=i // PER_DAY, minutes=i % PER_DAY) for i in range(n)]
    ids = changed.get("ids", [f"t{i}" for i in range(n)])
    as_of = DAY_1 + timedelta(days=DAYS)
    return pa.table(
        {
            "topic_id": ["T"] * n,
            "partition": [0] * n,
            "offset": range(n),
            "transaction_id": ids,
            "event_time": at,
            "card_token": [f"v1:{i}" for i in range(n)],
            "customer_token": [f"v1:{i}" for i in range(n)],
            "amount_base_minor": X[:, AMOUNT].astype(np.int64),
            "is_fraud": fraud,
            "label_available_at": [t + timedelta(days=2) if f else None for t, f in zip(at, fraud, strict=True)],
            "label_source": [None] * n,
            "label_confidence": [None] * n,
            "is_mature": [True] * n,
            "as_of": [as_of] * n,
            "feature_set": [feature_set_hash()] * n,
            "vector": pa.ListArray.from_arrays(
                pa.array(np.arange(n + 1, dtype=np.int32) * len(NAMES)), pa.array(X.reshape(-1))
            ),
        }
    ).cast(arrow_schema(TRAINING_SET))


def written(folder, rows):
    exported.write(folder, TRAINING_SET, rows, delta.PLACE, {"version": 0})
    return folder


@pytest.fixture
def small(settings, mlflow_server, tmp_path):
    """Settings with one trial, and a name of its own in the registry."""
    training = settings.training.model_copy(update={"search_trials": 1, "validation_d": 5, "test_d": 5})
    models = settings.models.model_copy(update={"name": f"fraud-{tmp_path.name}"})
    return settings.model_copy(update={"training": training, "models": models})


def test_a_run_is_registered_with_its_report_and_again_gives_the_same_bytes(small, tmp_path):
    folder, truth = written(tmp_path / "set", training_set()), tmp_path / "truth.parquet"
    ids = [f"t{i}" for i in range(DAYS * PER_DAY)]
    patterns = [[None, "bust_out", "card_testing"][(i % 20 == 0) + (i % 40 == 0)] for i in range(len(ids))]
    pq.write_table(pa.table({"transaction_id": ids, "scenario": patterns}), truth)
    digest = train(small, None, None, folder=folder, truth=truth)
    client = registry.client(small)
    version = client.get_model_version_by_alias(small.models.name, registry.CHAMPION)
    found = {one.path for one in client.list_artifacts(version.run_id, "report")}
    assert found == {
        *("report/evaluation.json", "report/importance.json", "report/input_example.json", "report/model_card.md"),
        *("report/report.html", "report/signature.json"),
    }
    metrics = client.get_run(version.run_id).data.metrics
    assert metrics["ensemble.average_precision"] > metrics["amount_only.average_precision"] > 0.1
    assert {"ensemble.net_minor", "ensemble.net_minor_low", "tree.auc", "logistic.f1_at_budget"} <= set(metrics)
    assert {"rules_only.net_minor", "rules_only.average_precision", "rules_as_decided.net_minor"} <= set(metrics)
    assert {name for name in metrics if name.startswith("pattern.")} == {
        *("pattern.bust_out.recall_at_budget", "pattern.card_testing.recall_at_budget")
    }
    path = client.download_artifacts(version.run_id, "report/report.html", str(tmp_path))
    assert "<td>card_testing</td>" in Path(path).read_text()
    card = client.download_artifacts(version.run_id, "report/model_card.md", str(tmp_path))
    assert digest in Path(card).read_text()
    # The truth is told to the report, and never to the model.
    assert train(small, None, None, folder=folder) == digest


def test_a_neural_challenger_goes_the_whole_way_and_again_to_the_same_bytes(small, tmp_path):
    folder = written(tmp_path / "set", training_set())
    digest = train(small, None, None, folder=folder, kind="neural")
    assert train(small, None, None, folder=folder, kind="neural") == digest
    client = registry.client(small)
    champion, challenger = (
        client.get_model_version_by_alias(small.models.name, alias)
        for alias in (registry.CHAMPION, registry.CHALLENGER)
    )
    assert (champion.version, challenger.version) == ("1", "2")
    run = client.get_run(challenger.run_id).data
    assert run.params["kind"] == "neural"
    assert run.metrics["neural.average_precision"] > run.metrics["rules_only.average_precision"]
    path = client.download_artifacts(challenger.run_id, "report/importance.json", str(tmp_path))
    assert next(iter(json.loads(Path(path).read_text()))) == "amount_minor"
    model = Shelf.of(small).loaded(digest)
    assert model.manifest["weights"] == {"neural": 0.7, "isolation_forest": 0.3}
    X = models.vectors(5, 300)[0]
    assert onnx_export.exported(small, digest, tmp_path / "model.onnx") <= 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert np.abs(session.run(["score"], {"vectors": X})[0] - model.scores(X).ensemble).max() <= 1e-5
    models.altered(small, digest, NETWORK)
    with pytest.raises(BundleRefused, match=r"network\.onnx was altered"):
        Shelf.of(small).loaded(digest)


REFUSALS = {
    "no_labels": ({"fraud": np.zeros(DAYS * PER_DAY, np.bool_)}, "payments and no fraud label"),
    "one_class_only": ({"fraud": np.ones(DAYS * PER_DAY, np.bool_)}, "All 2,880 payments .* labelled as fraud"),
    "a_constant_feature": ({"features": {"amount_minor": 5.0}}, "amount_minor is 5 in every payment"),
    "a_missing_feature": ({"features": {"card_life_tx_count": np.nan}}, "card_life_tx_count is missing in every"),
    "a_payment_in_training_and_test": (
        {"ids": [f"t{i % (DAYS * PER_DAY // 2)}" for i in range(DAYS * PER_DAY)]},
        "share .* payments, first t",
    ),
}


@pytest.mark.parametrize(("changed", "told"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_trained_on_is_refused_and_the_serving_model_stays(small, tmp_path, changed, told):
    folder = written(tmp_path / "set", training_set(**changed))
    before = Aliases(small).champion()
    with pytest.raises(DataRefused, match=told) as refused:
        train(small, None, None, folder=folder)
    assert refused.value.do
    assert Aliases(small).champion() == before
    assert not small.models.store.exists()


def test_a_training_set_as_of_the_future_is_refused(small, tmp_path):
    folder = written(tmp_path / "set", training_set())
    now_ms = int((DAY_1 + timedelta(days=DAYS - 1)).timestamp() * 1000)
    with pytest.raises(DataRefused, match="which is after now"):
        train(small, None, None, folder=folder, now_ms=now_ms)
