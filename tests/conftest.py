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
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from pyspark.sql import SparkSession
from xdist.scheduler import LoadScopeScheduling

from deploy.local import cassandra, kafka, mlflow, postgres, redis
from deploy.local import job as services
from deploy.local.apart import variables
from lakehouse import keys
from lakehouse import settings as conf
from lakehouse.jobs import Context, Interval
from lakehouse.settings import Settings

pytest_plugins = ["tests.crash.table"]
ONE_WORLD = ("integration", "crash")
"""Folders whose tests share a world: each runs in one process, and they are the longest, so first."""

FOLDER = "FRAUDLAKE_TESTS_FOLDER"
"""Variable that names the run's folder to all of its processes."""

NewSettings = Callable[[Path], Settings]
NewContext = Callable[..., Context]

hypothesis.settings.register_profile("fraudlake", deadline=None, print_blob=True)
hypothesis.settings.load_profile("fraudlake")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What a long run asks for more of."""
    parser.addoption("--api-cases", type=int, default=360, help="requests that are made of the API's document")


def _seed(config: pytest.Config) -> int:
    given = config.getoption("--hypothesis-seed")
    if given is None or given == "random":
        given = config.option.hypothesis_seed = random.SystemRandom().randrange(2**32)
    return int(given)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the run's seed and make its folder before there are several processes."""
    _seed(config)
    if not hasattr(config, "workerinput"):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="fraudlake-tests-")
        Path(os.environ[FOLDER]).chmod(0o711)  # PostgreSQL, which is nobody's root, passes through to its own


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what still runs of the run, also when it was interrupted: it carries the run's folder in its environment."""
    folder = None if hasattr(config, "workerinput") else os.environ.pop(FOLDER, None)
    if folder is None:
        return
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(process.name) != os.getpid() and folder.encode() in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


class _Shared(LoadScopeScheduling):
    """Shares tests out among processes by file, or by the world that the files of a folder share."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        folder = Path(file).parent.name
        return folder if folder in ONE_WORLD else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """How `pytest -n 2` shares tests out."""
    return _Shared(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What shares a world comes first; every property test of a run draws from the run's seed."""

    def turn(item: pytest.Item) -> int:
        folder = item.path.parent.name
        return ONE_WORLD.index(folder) if folder in ONE_WORLD else len(ONE_WORLD)

    items.sort(key=turn)
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


@pytest.fixture(scope="session")
def api_cases(pytestconfig: pytest.Config) -> int:
    """How many requests to make of the API's document."""
    return int(pytestconfig.getoption("--api-cases"))


@pytest.fixture(scope="session", autouse=True)
def state_folder() -> Iterator[Path]:
    """The run's own state folder, keys and ports, in force through the environment alone.

    A process of several has its own.
    """
    folder = Path(os.environ[FOLDER], os.environ.get("PYTEST_XDIST_WORKER", "one"))
    # Two cores on every machine, so that a run costs and splits the same everywhere; JVMs that live for minutes on
    # tiny tables are not worth an optimising compiler beside them.
    spark = {"FRAUDLAKE__SPARK__MASTER": "local[2]", "FRAUDLAKE__SPARK__JAVA_OPTIONS": "-XX:TieredStopAtLevel=1"}
    values = {**variables(folder), **spark}
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FRAUDLAKE_")]:
            patch.delenv(name)
        for name, value in values.items():
            patch.setenv(name, value)
        keys.create(folder / "keys")
        yield folder
        for name in (kafka.NAME, mlflow.NAME, *services.ADDED):
            services.service(name, folder / "services").stop()


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
                "alerts": base.alerts.model_copy(update={"file": folder / "alerts.sqlite"}),
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
