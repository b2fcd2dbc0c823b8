"""The wheel: whole, the same bytes every time, and every job runs from it with the same flags and exit codes."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from deploy import wheel
from lakehouse import delta, topics
from lakehouse import settings as conf
from lakehouse.contracts import bronze, silver
from lakehouse.settings import Settings
from tests.conftest import NewSettings
from tests.lakehouse.records import raw, raw_control, signed
from tests.silver.conftest import Sent, produce

NOT_IN_IT = {"tests", "notebooks", "deploy/jars"}
MASTER = "local[2]"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.build(conf.home(), tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as an installer would leave it."""
    folder: Path = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(built).extractall(folder)
    return folder


def _run(installed: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that finds the product only where it is installed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=installed.parent,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(installed), **environment},
        capture_output=True,
        text=True,
    )


def _fraudlake(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(installed, sys.executable, "-c", "from deploy.submit import main; main()", *arguments)


def test_the_wheel_holds_what_the_repository_holds_of_the_product(built: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=conf.home(), capture_output=True, text=True, check=True
    ).stdout.split()
    wanted = {
        name
        for name in listed
        if "/" in name
        and Path(name).suffix in wheel.SUFFIXES
        and not any(name.startswith(f"{folder}/") for folder in NOT_IN_IT)
    }
    names = set(zipfile.ZipFile(built).namelist())
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert {"conf/base.yml", "lakehouse/schemas/registry.json", "lakehouse/jobs.py"} <= wanted


def test_the_same_files_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    again = wheel.build(conf.home(), tmp_path)
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(built.read_bytes()).digest()


def test_an_installer_takes_it_with_its_command(built: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", tmp_path, built],
        check=True,
    )
    assert (tmp_path / "bin" / "fraudlake").exists()
    done = _run(tmp_path, sys.executable, str(tmp_path / "bin" / "fraudlake"))
    assert (done.returncode, done.stderr) == (1, "Which job? For example: features.job --available-now\n")


def test_flags_and_exit_codes_are_those_of_the_module(installed: Path) -> None:
    for arguments in (
        ["silver.job", "--help"],
        ["silver.job", "--unknown"],
        ["silver.job", "--from-position", "3"],
        ["lakehouse.jobs", "nothing.job", "--available-now"],
        ["gold.as_of", "--as-of", "yesterday"],
        ["lakehouse.trail", "verify", "--folder", "/nowhere", "--heads-folder", "/nowhere/else"],
    ):
        mine = _fraudlake(installed, *arguments)
        module = subprocess.run([sys.executable, "-m", *arguments], cwd=conf.home(), capture_output=True, text=True)
        assert (mine.returncode, mine.stdout, mine.stderr) == (module.returncode, module.stdout, module.stderr)
    assert _fraudlake(installed, "silver.job", "--from-position", "3").returncode == 1


def _submitted(installed: Path, *options: str, jobs: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Jobs from the wheel in a session that somebody else has started, as on a platform."""
    jars = sorted(str(path) for path in conf.resolve(conf.load().spark.jars_folder).glob("*.jar"))
    delta_lake = {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
    }
    return _run(
        installed,
        *("spark-submit", "--master", MASTER, "--driver-memory", "1g", "--driver-class-path", ":".join(jars)),
        *(part for key, value in delta_lake.items() for part in ("--conf", f"{key}={value}")),
        *options,
        *(str(installed / "deploy" / "submit.py"), *jobs),
        FRAUDLAKE__SPARK__MASTER="given",
        PYSPARK_PYTHON=sys.executable,
        SPARK_LOCAL_IP="127.0.0.1",
    )


@pytest.fixture
def world(broker: str, new_settings: NewSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A world with three payments, which processes see through the environment."""
    made = new_settings(tmp_path)
    monkeypatch.setenv("FRAUDLAKE__KAFKA__TOPIC_PREFIX", made.kafka.topic_prefix)
    monkeypatch.setenv("FRAUDLAKE__LAKE__ROOT", made.lake.root)
    topics.ensure(made)
    payments = [raw("payment", transaction_id=f"t{number}") for number in range(3)]
    produce(made, topics.EVENTS, [Sent(value) for value in (raw_control(signed(made.keys.folder)), *payments)])
    return made


def test_jobs_run_from_the_wheel_in_a_session_that_was_given(installed: Path, world: Settings) -> None:
    jobs = ("lakehouse.jobs", "bronze.job", "silver.job", "--available-now")
    done = _submitted(installed, "--conf", "spark.io.encryption.enabled=true", jobs=jobs)
    assert done.returncode == 0, done.stderr[-4000:]
    root = conf.lake_root(world)
    assert (delta.count(root, bronze.EVENTS), delta.count(root, silver.PAYMENTS)) == (4, 3)


def test_a_session_that_would_spill_in_the_clear_is_refused(installed: Path, world: Settings) -> None:
    done = _submitted(installed, jobs=("bronze.job", "--available-now"))
    assert done.returncode == 1
    assert "SettingsError: This Spark session was started without spark.io.encryption.enabled=true." in done.stdout
