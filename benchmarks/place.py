"""A place of a benchmark's own: keys and a lake, a broker and topics, gone when it ends."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local import job as services
from deploy.local import kafka
from deploy.local.apart import variables
from deploy.local.process import Service
from lakehouse import high_water, keys, topics
from lakehouse import settings as conf
from lakehouse.settings import Settings
from lakehouse.tables import Table


@contextmanager
def apart(folder: Path) -> Iterator[Settings]:
    """Settings of a fresh world in a folder, with keys; also in force for processes started from here."""
    values = {**variables(folder), "FRAUDLAKE__SPARK__DRIVER_MEMORY": "4g"}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        settings = conf.load()
        keys.create(conf.resolve(settings.keys.folder))
        yield settings
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def removed(root: str, *tables: Table) -> None:
    """Remove tables with their high-water records, so that a run begins where no table was."""
    for table in tables:
        shutil.rmtree(table.path(root), ignore_errors=True)
        (Path(root) / high_water.FOLDER / f"{table.name}.json").unlink(missing_ok=True)


@contextmanager
def place() -> Iterator[Settings]:
    """The same with a running broker and topics."""
    folder = Path(tempfile.mkdtemp(prefix="fraudlake-benchmark-"))
    try:
        with apart(folder) as settings:
            services.up(settings, (kafka,))
            topics.ensure(settings)
            yield settings
    finally:
        Service(kafka.NAME, folder / "services").stop()
        shutil.rmtree(folder, ignore_errors=True)
