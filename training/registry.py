"""The MLflow registry: runs, versions and aliases; the bytes themselves lie in the model store."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from decisions.bundle import CHAMPION, DIGEST_TAG
from lakehouse.errors import RegistryUnavailable
from lakehouse.settings import Settings

CHALLENGER = "challenger"
EXPERIMENT = "fraud"

logging.getLogger("mlflow").setLevel(logging.WARNING)


def client(settings: Settings) -> MlflowClient:
    """A client of the registry; RegistryUnavailable when it does not answer."""
    found = MlflowClient(settings.models.registry_uri, settings.models.registry_uri)
    try:
        found.search_experiments(max_results=1)
    except MlflowException as error:
        raise RegistryUnavailable(
            f"The MLflow server at {settings.models.registry_uri} does not answer ({type(error).__name__}).",
            "`make up` starts the local one, `make status` shows it.",
        ) from None
    return found


def recorded(
    settings: Settings,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    artifacts: Path,
    digest: str,
    report: Path | None = None,
) -> tuple[str, int]:
    """(run id, model version): one run with everything logged, registered as the next version of the model.

    The new version becomes `challenger`; the very first one also `champion`.
    """
    registry = client(settings)
    name = settings.models.name
    experiment = registry.get_experiment_by_name(EXPERIMENT)
    experiment_id = registry.create_experiment(EXPERIMENT) if experiment is None else experiment.experiment_id
    run = registry.create_run(experiment_id, tags=dict(tags))
    run_id = run.info.run_id
    for key, value in parameters.items():
        registry.log_param(run_id, key, value)
    for key, number in metrics.items():
        registry.log_metric(run_id, key, number)
    registry.log_artifacts(run_id, str(artifacts), "bundle")
    if report is not None:
        registry.log_artifacts(run_id, str(report), "report")
    registry.set_terminated(run_id)
    if not registry.search_registered_models(f"name = '{name}'"):
        registry.create_registered_model(name)
    source = f"{run.info.artifact_uri}/bundle"
    version = registry.create_model_version(name, source, run_id, tags={DIGEST_TAG: digest})
    number = int(version.version)
    registry.set_registered_model_alias(name, CHALLENGER, str(number))
    if number == 1:
        registry.set_registered_model_alias(name, CHAMPION, str(number))
    return run_id, number
