"""`make up`, `make down`, `make status`, `make wipe`: the local services and the product's own processes."""

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from deploy.local import kafka, mlflow, redis
from deploy.local.process import Service
from lakehouse import settings as conf
from lakehouse.errors import FraudlakeError
from lakehouse.settings import Settings

OWN_PROCESSES = ("api", "engine")
"""Started by hand or by the demo; they stop before what they stand on."""

ALWAYS = (mlflow, kafka)
ADDED: Mapping[str, tuple[ModuleType, dict[str, Any]]] = {redis.NAME: (redis, {"profiles": {"store": "redis"}})}
"""Services that are there when somebody asks for them (WITH=...), and the settings by which the product uses them."""


def services_folder(settings: Settings) -> Path:
    """Where pid files, logs and data of the services lie."""
    return conf.resolve(settings.state_dir) / "services"


def choice_file(settings: Settings) -> Path:
    """The settings file by which the added services are used; there while they are."""
    return conf.resolve(settings.state_dir) / "services.yml"


def wanted(settings: Settings, asked: Sequence[str] = ()) -> tuple[ModuleType, ...]:
    """The services that are always there, those asked for now, and those asked for since the last `make down`."""
    file = choice_file(settings)
    before = yaml.safe_load(file.read_text()) if file.exists() else {}
    return (*ALWAYS, *(m for name, (m, values) in ADDED.items() if name in asked or values.items() <= before.items()))


def up(settings: Settings, services: Sequence[ModuleType] = ALWAYS) -> None:
    """Start what does not run, all at once, and wait until it answers; added ones are used from now on."""
    folder = services_folder(settings)
    started = {module: module.start(settings, folder) for module in services}
    for module, fresh in started.items():
        if fresh:
            service = Service(module.NAME, folder)
            service.wait_ready(partial(module.answers, settings), settings.services.start_timeout_s)
        print(f"{module.NAME}: {'started' if fresh else 'was already up'}")
    choice: dict[str, Any] = {}
    for module, values in ADDED.values():
        choice.update(values if module in services else {})
    if choice:
        head = "# Written by `make up WITH=...`; `make down` removes it.\n"
        choice_file(settings).write_text(head + yaml.safe_dump(choice))


def addresses(settings: Settings) -> dict[str, str]:
    """Where the services answer."""
    services = settings.services
    found = {"Kafka": f"127.0.0.1:{services.kafka_port}", "MLflow": f"http://127.0.0.1:{services.mlflow_port}"}
    if redis in wanted(settings):
        found["Redis"] = f"127.0.0.1:{settings.redis.port}, password in {settings.redis.password_file}"
    return found


def down(settings: Settings, names: Sequence[str] = (*OWN_PROCESSES, *ADDED, mlflow.NAME, kafka.NAME)) -> None:
    """End what we started, in the order of dependence; added services are not used any more."""
    folder = services_folder(settings)
    for name in names:
        print(f"{name}: {'ended' if Service(name, folder).stop() else 'was not running'}")
    if set(names) & set(ADDED):
        choice_file(settings).unlink(missing_ok=True)


def status(settings: Settings) -> bool:
    """Print what runs; whether the services do."""
    folder = services_folder(settings)
    healthy = {module.NAME: bool(module.answers(settings)) for module in wanted(settings)}
    for name in (*healthy, *OWN_PROCESSES):
        pid = Service(name, folder).pid()
        health = "" if name not in healthy else ", answers" if healthy[name] else ", does not answer"
        print(f"{name:8} {'down' if pid is None else f'up, pid {pid}'}{health}")
    return all(healthy.values())


def wipe(settings: Settings, sure: bool) -> None:
    """Delete every world, log and database under the state folder; keys, jars and caches stay."""
    state = conf.resolve(settings.state_dir)
    doomed = [
        path for path in (state / "services", state / "worlds", state / "spark", state / "world.yml") if path.exists()
    ]
    if not doomed:
        print("nothing to wipe")
        return
    print("this deletes for good:", *(f"  {path}" for path in doomed), sep="\n")
    if not sure and input("type 'wipe' to go on: ").strip() != "wipe":
        print("nothing was deleted")
        return
    down(settings)
    for path in doomed:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    print("wiped")


def main(argv: Sequence[str]) -> int:
    """Run one of: up, down, status, wipe."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.job", description=__doc__)
    parser.add_argument("action", choices=("up", "down", "status", "wipe"))
    parser.add_argument("--env")
    parser.add_argument("--with", dest="added", nargs="+", default=[], choices=ADDED, help="up: services to add")
    parser.add_argument("--yes", action="store_true", help="wipe without asking")
    arguments = parser.parse_args(argv)
    settings = conf.load(arguments.env)
    if arguments.action == "status":
        return 0 if status(settings) else 1
    if arguments.action == "wipe":
        wipe(settings, arguments.yes)
    elif arguments.action == "up":
        up(settings, wanted(settings, arguments.added))
        print(*(f"{name} at {address}" for name, address in addresses(settings).items()), sep="\n")
    else:
        down(settings)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FraudlakeError as error:
        sys.exit(str(error))
