"""A place apart: settings for a run that shares no folder, port, topic or key with any other."""

import random
import socket
from pathlib import Path


def free_ports(number: int) -> list[int]:
    """Ports nobody listens on, below the range from which the kernel takes the local ports of connections."""
    held: list[socket.socket] = []
    try:
        while len(held) < number:
            probe = socket.socket()
            held.append(probe)
            try:
                probe.bind(("127.0.0.1", random.SystemRandom().randrange(20_000, 32_000)))
            except OSError:
                held.pop().close()
        return [probe.getsockname()[1] for probe in held]
    finally:
        for probe in held:
            probe.close()


def variables(folder: Path) -> dict[str, str]:
    """Environment variables that put everything below `folder` and every listener on a free port."""
    broker, controller, mlflow, metrics, api, redis, postgres, cassandra, storage, alerts = free_ports(10)
    return {
        "FRAUDLAKE_ENV": "test",
        "FRAUDLAKE__STATE_DIR": str(folder),
        "FRAUDLAKE__SCHEMAS__CACHE_FOLDER": str(folder / "schemas"),
        "FRAUDLAKE__KEYS__FOLDER": str(folder / "keys"),
        "FRAUDLAKE__LAKE__ROOT": str(folder / "lake"),
        "FRAUDLAKE__TRAIL__FOLDER": str(folder / "trail"),
        "FRAUDLAKE__TRAIL__HEADS_FOLDER": str(folder / "trail_heads"),
        "FRAUDLAKE__SPARK__SCRATCH_FOLDER": str(folder / "spark"),
        "FRAUDLAKE__SILVER__WORKING_FOLDER": str(folder / "working"),
        "FRAUDLAKE__FEATURES__SNAPSHOT_FOLDER": str(folder / "snapshots"),
        "FRAUDLAKE__QUALITY__DOCS_FOLDER": str(folder / "data_docs"),
        "FRAUDLAKE__MODELS__STORE": str(folder / "models"),
        "FRAUDLAKE__MODELS__REGISTRY_URI": f"http://127.0.0.1:{mlflow}",
        "FRAUDLAKE__ENGINE__STATE_FOLDER": str(folder / "state"),
        "FRAUDLAKE__ENGINE__METRICS_PORT": str(metrics),
        "FRAUDLAKE__API__PORT": str(api),
        "FRAUDLAKE__SERVICES__KAFKA_PORT": str(broker),
        "FRAUDLAKE__SERVICES__KAFKA_CONTROLLER_PORT": str(controller),
        "FRAUDLAKE__SERVICES__MLFLOW_PORT": str(mlflow),
        "FRAUDLAKE__REDIS__PORT": str(redis),
        "FRAUDLAKE__REDIS__PASSWORD_FILE": str(folder / "keys" / "redis.key"),
        "FRAUDLAKE__SPOOL__FOLDER": str(folder / "spool"),
        "FRAUDLAKE__DECISION_STORE__FILE": str(folder / "decisions.sqlite"),
        "FRAUDLAKE__ALERTS__METRICS_PORT": str(alerts),
        "FRAUDLAKE__ALERTS__FILE": str(folder / "alerts.sqlite"),
        "FRAUDLAKE__POSTGRES__PORT": str(postgres),
        "FRAUDLAKE__POSTGRES__PASSWORD_FILE": str(folder / "keys" / "postgres.key"),
        "FRAUDLAKE__CASSANDRA__PORT": str(cassandra),
        "FRAUDLAKE__CASSANDRA__PASSWORD_FILE": str(folder / "keys" / "cassandra.key"),
        "FRAUDLAKE__SERVICES__CASSANDRA_STORAGE_PORT": str(storage),
        "FRAUDLAKE__KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{broker}",
    }
