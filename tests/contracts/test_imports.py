"""What may be imported where; the static part is import-linter's, in pyproject.toml."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["decisions.job", "serving.app", "serving.job"])
@pytest.mark.parametrize(
    "heavy",
    [
        *("pyspark", "delta", "mlflow", "sklearn", "xgboost", "great_expectations", "pandas", "psycopg", "cassandra"),
        *("onnx", "onnxruntime"),
    ],
)
def test_engine_and_api_load_nothing_that_serving_does_not_need(module, heavy):
    code = f"import sys, {module}; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("room", ["lakehouse.settings", "expectations.admission", "features.flow", "gold.scores"])
def test_importing_does_nothing(room):
    code = f"import threading, {room}; assert threading.active_count() == 1"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
