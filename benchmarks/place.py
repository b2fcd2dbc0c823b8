"""A place of a benchmark's own: a broker, topics, a lake and keys that are gone when it ends."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local import job as services
from deploy.local import kafka
from deploy.local.process import Service
from lakehouse import keys, topics
from lakehouse import settings as conf
from lakehouse.settings import Settings


def _free_ports(n: int) -> list[int]:
    held = [socket.socket() for _ in range(n)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


@contextmanager
def place() -> Iterator[Settings]:
    """Settings of a fresh world with a running broker; also in force for processes started from here."""
    folder = Path(tempfile.mkdtemp(prefix="fraudlake-benchmark-"))
    broker, controller, metrics, api = _free_ports(4)
    values = {
        "FRAUDLAKE_ENV": "test",
        "FRAUDLAKE__STATE_DIR": str(folder),
        "FRAUDLAKE__KEYS__FOLDER": str(folder / "keys"),
        "FRAUDLAKE__LAKE__ROOT": str(folder / "lake"),
        "FRAUDLAKE__SPARK__SCRATCH_FOLDER": str(folder / "spark"),
        "FRAUDLAKE__SPARK__DRIVER_MEMORY": "4g",
        "FRAUDLAKE__FEATURES__SNAPSHOT_FOLDER": str(folder / "snapshots"),
        "FRAUDLAKE__MODELS__STORE": str(folder / "models"),
        "FRAUDLAKE__ENGINE__STATE_FOLDER": str(folder / "state"),
        "FRAUDLAKE__ENGINE__METRICS_PORT": str(metrics),
        "FRAUDLAKE__API__PORT": str(api),
        "FRAUDLAKE__SERVICES__KAFKA_PORT": str(broker),
        "FRAUDLAKE__SERVICES__KAFKA_CONTROLLER_PORT": str(controller),
        "FRAUDLAKE__KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{broker}",
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        settings = conf.load()
        keys.create(conf.resolve(settings.keys.folder))
        services.up(settings, (kafka,))
        topics.ensure(settings)
        yield settings
    finally:
        Service(kafka.NAME, folder / "services").stop()
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
