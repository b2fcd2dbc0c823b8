"""Real parts for the tests of every room: one broker, one MLflow server, one Spark session, started when asked for.

Whatever is random in a run follows from one seed, which is printed when something fails and can be given again with
`--hypothesis-seed`.
"""

import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import hypothesis
import pytest
from pyspark.sql import SparkSession

from deploy.local import cassandra, kafka, mlflow, postgres, redis
from deploy.local import job as services
from deploy.local.apart import variables
from lakehouse import keys
from lakehouse import settings as conf
from lakehouse.jobs import Context, Interval
from lakehouse.settings import Settings

NewSettings = Callable[[Path], Settings]
NewContext = Callable[..., Context]

hypothesis.settings.register_profile("fraudlake", deadline=None, print_blob=True)
hypothesis.settings.load_profile("fraudlake")


def _seed(config: pytest.Config) -> int:
    given = config.getoption("--hypothesis-seed")
    if given is None or given == "random":
        given = config.option.hypothesis_seed = random.SystemRandom().randrange(2**32)
    return int(given)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every property test of a run draws from the run's seed."""
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item.obj, "hypothesis"):
            hypothesis.seed(_seed(config))(item.obj)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how to repeat a run that failed."""
    if terminalreporter.stats.get("failed"):
        terminalreporter.write_line(f"repeat these random values with --hypothesis-seed={_seed(config)}")


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The run's seed, for tests that draw random values without hypothesis."""
    return _seed(pytestconfig)


@pytest.fixture(scope="session", autouse=True)
def state_folder() -> Iterator[Path]:
    """The run's own state folder, keys and ports, in force through the environment alone.

    Gone at the end with the services that ran in it, also when the run is interrupted or asked to end.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="fraudlake-tests-"))
    # Two cores on every machine, so that a run costs and splits the same everywhere.
    values = {**variables(folder), "FRAUDLAKE__SPARK__MASTER": "local[2]"}
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FRAUDLAKE_")]:
            patch.delenv(name)
        for name, value in values.items():
            patch.setenv(name, value)
        keys.create(folder / "keys")
        try:
            yield folder
        finally:
            for name in (kafka.NAME, mlflow.NAME, *services.ADDED):
                services.service(name, folder / "services").stop()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def broker(state_folder: Path) -> str:
    """The address of a real broker that this run started."""
    settings = conf.load()
    services.up(settings, (kafka,))
    return settings.kafka.bootstrap_servers


@pytest.fixture(scope="session")
def mlflow_server(state_folder: Path) -> str:
    """The address of a real MLflow server that this run started."""
    settings = conf.load()
    services.up(settings, (mlflow,))
    return settings.models.registry_uri


@pytest.fixture(scope="session")
def redis_server(state_folder: Path) -> str:
    """The address of a real Redis that this run started; installed first where it is missing, as `make up` does."""
    settings = conf.load()
    services.up(settings, (redis,))
    return f"{settings.redis.host}:{settings.redis.port}"


@pytest.fixture(scope="session")
def postgres_server(state_folder: Path) -> str:
    """The address of a real PostgreSQL that this run started; installed first where it is missing."""
    settings = conf.load()
    services.up(settings, (postgres,))
    return f"{settings.postgres.host}:{settings.postgres.port}"


@pytest.fixture(scope="session")
def cassandra_server(state_folder: Path) -> str:
    """The address of a real Cassandra node that this run started; its jars are fetched first where they are missing."""
    settings = conf.load()
    services.up(settings, (cassandra,))
    return f"{settings.cassandra.hosts[0]}:{settings.cassandra.port}"


@pytest.fixture(scope="session")
def spark(state_folder: Path) -> Iterator[SparkSession]:
    """The one Spark session of a run; its settings are those of conf/test.yml and of lakehouse.session."""
    from lakehouse.session import build_session

    session = build_session(conf.load(), "tests")
    yield session
    session.stop()


_worlds = count(1)


@pytest.fixture(scope="session")
def new_settings(state_folder: Path) -> NewSettings:
    """Makes the settings of a fresh world whose files lie in a folder: own topics, lake, snapshots, models, state."""

    def made(folder: Path) -> Settings:
        base = conf.load()
        return base.model_copy(
            update={
                "kafka": base.kafka.model_copy(update={"topic_prefix": f"world{next(_worlds)}."}),
                "lake": base.lake.model_copy(update={"root": str(folder / "lake")}),
                "features": base.features.model_copy(update={"snapshot_folder": folder / "snapshots"}),
                "quality": base.quality.model_copy(update={"docs_folder": folder / "data_docs"}),
                "models": base.models.model_copy(update={"store": folder / "models"}),
                "engine": base.engine.model_copy(update={"state_folder": folder / "state"}),
                "decision_store": base.decision_store.model_copy(update={"file": folder / "decisions.sqlite"}),
            }
        )

    return made


@pytest.fixture
def settings(new_settings: NewSettings, tmp_path: Path) -> Settings:
    """The settings of a fresh world."""
    return new_settings(tmp_path)


@pytest.fixture(scope="session")
def context(spark: SparkSession) -> NewContext:
    """Makes what a job needs for one scheduled run over a world: everything that is there, or one interval again."""
    from lakehouse.storage import make_root

    def made(settings: Settings, interval: Interval | None = None) -> Context:
        context = Context(settings, spark, True, interval)
        make_root(context.root)
        return context

    return made
