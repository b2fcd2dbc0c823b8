"""The Databricks bundle: typed resources, every job with its own flags, settings that exist."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from databricks.bundles.jobs import ClusterSpec, Job

from lakehouse import jobs
from lakehouse import settings as conf
from lakehouse.session import SECURITY

ROOT = conf.home()
FOLDER = ROOT / "deploy" / "databricks"
BUNDLE: dict[str, Any] = yaml.safe_load((FOLDER / "databricks.yml").read_text())
JOBS: dict[str, Any] = {
    name: job
    for pattern in BUNDLE["include"]
    for path in sorted(FOLDER.glob(pattern))
    for name, job in yaml.safe_load(path.read_text())["resources"]["jobs"].items()
}
CLUSTER: dict[str, Any] = BUNDLE["variables"]["cluster"]["default"]
ROOMS = {path.parent.name for path in ROOT.glob("*/job.py") if "jobs.main(" in path.read_text()}
"""Rooms whose job has the flags that are the same everywhere."""


def commands() -> Iterator[tuple[str, list[str]]]:
    """(job, module and flags) of every task, parameters of the job filled in."""
    given = {"from_position": "3", "to_position": "9"}
    for name, job in JOBS.items():
        parameters = {p["name"]: given.get(p["name"], p["default"]) for p in job.get("parameters", [])}
        values = {f"{{{{job.parameters.{key}}}}}": value for key, value in parameters.items()}
        for task in job["tasks"]:
            yield name, [values.get(text, text) for text in task["python_wheel_task"]["parameters"]]


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_one_by_its_type(name: str) -> None:
    assert Job.from_dict(JOBS[name]).as_dict() == JOBS[name]


def test_the_cluster_is_one_by_its_type() -> None:
    assert ClusterSpec.from_dict(CLUSTER).as_dict() == CLUSTER


def test_a_job_with_a_field_that_does_not_exist_is_no_job() -> None:
    with pytest.raises(ValueError, match="Unexpected field 'task'"):
        Job.from_dict({**JOBS["lake"], "task": []})  # type: ignore[typeddict-unknown-key]


def test_every_room_is_run_on_its_own_in_a_pass_and_as_a_stream() -> None:
    found = list(commands())
    order = ["bronze.job", "silver.job", "features.job", "gold.job"]
    assert {f"{room}.job" for room in ROOMS} == set(order)
    assert [command for name, command in found if name == "lake"] == [[job, "--available-now"] for job in order]
    assert [command for name, command in found if name == "stream"] == [[job] for job in order]
    for room in ROOMS:
        assert [command for name, command in found if name == room] == [[f"{room}.job", "--available-now"]]
    lake = JOBS["lake"]["tasks"]
    assert [[after["task_key"] for after in task.get("depends_on", [])] for task in lake] == [
        [],
        ["bronze"],
        ["silver"],
        ["features"],
    ]


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda value: str(value))
def test_every_task_gives_flags_that_its_job_takes(name: str, command: list[str]) -> None:
    module, *flags = command
    if module.removesuffix(".job") in ROOMS:
        parsed = jobs.parser(module, None).parse_args(flags)
        assert jobs.interval_of(parsed) == (jobs.Interval(3, 9) if name == "repair" else None)
        return
    done = subprocess.run([sys.executable, "-m", module, *flags, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for flag in flags:
        assert not flag.startswith("-") or flag in done.stdout


def test_every_task_is_the_wheels_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for job in JOBS.values():
        for task in job["tasks"]:
            wheel = task["python_wheel_task"]
            assert wheel["package_name"] == project["name"]
            assert wheel["entry_point"] in project["scripts"]
            assert {"whl": "../../../dist/*.whl"} in task["libraries"]


def test_libraries_have_the_versions_of_the_product() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (training,) = JOBS["training"]["tasks"]
    assert [library["pypi"]["package"] for library in training["libraries"] if "pypi" in library] == extras["ml"]


def test_a_cluster_has_what_a_given_session_needs() -> None:
    assert SECURITY.items() <= CLUSTER["spark_conf"].items()
    assert CLUSTER["spark_env_vars"]["FRAUDLAKE__SPARK__MASTER"] == "given"


def test_what_driver_and_workers_share_lies_in_a_folder_that_all_nodes_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CLUSTER["spark_env_vars"].items():
        monkeypatch.setenv(name, value)
    settings = conf.load()
    for folder in (settings.silver.working_folder, settings.features.snapshot_folder, settings.models.store):
        assert folder.parts[0] == "${var.state_folder}"


def test_every_setting_of_a_cluster_exists_and_every_variable_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CLUSTER["spark_env_vars"].items():
        monkeypatch.setenv(name, value)
    settings = conf.load()
    assert (settings.env, settings.keys.provider, settings.spark.master) == ("prod", "environment", "given")
    text = "".join(path.read_text() for path in FOLDER.rglob("*.yml"))
    assert set(re.findall(r"\$\{var\.(\w+)\}", text)) == set(BUNDLE["variables"])
