"""The MLflow tracking server and model registry on sqlite, on loopback."""

import http.client
import sys
from pathlib import Path

from deploy.local.process import Service, require_free
from lakehouse.settings import Settings

NAME = "mlflow"
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # Seven more processes, for evaluations that nobody here asks the server for.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


def answers(settings: Settings) -> bool:
    """Whether the server's health page says OK."""
    connection = http.client.HTTPConnection("127.0.0.1", settings.services.mlflow_port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def start(settings: Settings, folder: Path) -> bool:
    """Start the server unless it runs, without waiting for it; whether it was started."""
    service = Service(NAME, folder)
    if service.pid() is not None and answers(settings):
        return False
    service.stop()
    require_free(settings.services.mlflow_port, "services.mlflow_port")
    data = folder / "mlflow"
    data.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", f"sqlite:///{data}/mlflow.db"),
        *("--artifacts-destination", str(data / "artifacts")),
        *("--host", "127.0.0.1", "--port", str(settings.services.mlflow_port), "--workers", "1"),
    ]
    service.start(command, _ENVIRONMENT, folder)
    return True
