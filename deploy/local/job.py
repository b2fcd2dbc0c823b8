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

from deploy.local import cassandra, kafka, mlflow, postgres, redis
from deploy.local.process import Service
from lakehouse import settings as conf
from lakehouse.errors import FraudlakeError
from lakehouse.settings import Settings

OWN_PROCESSES = ("alerts", "receiver", "api", "engine")
"""Started by the demo; they stop before what they stand on."""

ALWAYS = (mlflow, kafka)
ADDED: Mapping[str, tuple[ModuleType, dict[str, Any]]] = {
    redis.NAME: (redis, {"profiles": {"store": "redis"}}),
    postgres.NAME: (postgres, {"decision_store": {"kind": "postgres"}}),
    cassandra.NAME: (cassandra, {"decision_store": {"kind": "cassandra"}}),
}
"""Services that are there when somebody asks for them (WITH=...), and the settings by which the product uses them."""


def services_folder(settings: Settings) -> Path:
    """Where pid files, logs and data of the services lie."""
    return conf.resolve(settings.state_dir) / "services"


def choice_file(settings: Settings) -> Path:
    """The settings file by which the added services are used; there while they are."""
    return conf.resolve(settings.state_dir) / "services.yml"


def names(text: str) -> list[str]:
    """The services of a list with commas; ArgumentTypeError for one that there is not."""
    found = [name for name in text.split(",") if name]
    if unknown := [name for name in found if name not in ADDED]:
        raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join(ADDED)}")
    return found


def service(name: str, folder: Path) -> Service:
    """The process of a service or of the product."""
    return postgres.service(folder) if name == postgres.NAME else Service(name, folder)


def wanted(settings: Settings, asked: Sequence[str] = ()) -> tuple[ModuleType, ...]:
    """The services that are always there, those of settings and of the last `make up`, then those asked for now.

    Of two stores for the same thing the last one is used.
    """
    file = choice_file(settings)
    before = yaml.safe_load(file.read_text())["services"]["added"] if file.exists() else []
    added = [*settings.services.added, *before, *asked]
    return (*ALWAYS, *(ADDED[name][0] for at, name in enumerate(added) if name not in added[at + 1 :]))


def up(settings: Settings, services: Sequence[ModuleType] = ALWAYS) -> None:
    """Start what does not run, all at once, and wait until it answers; added ones are used from now on."""
    folder = services_folder(settings)
    started = {module: module.start(settings, folder) for module in services}
    for module, fresh in started.items():
        if fresh:
            ready = partial(getattr(module, "ready", module.answers), settings)
            service(module.NAME, folder).wait_ready(ready, settings.services.start_timeout_s)
        print(f"{module.NAME}: {'started' if fresh else 'was already up'}")
    added = [module.NAME for module in services if module.NAME in ADDED]
    choice: dict[str, Any] = {}
    for name in added:
        choice.update(ADDED[name][1])
    if choice:
        head = "# Written by `make up WITH=...`; `make down` removes it.\n"
        choice_file(settings).write_text(head + yaml.safe_dump({**choice, "services": {"added": added}}))


def addresses(settings: Settings) -> dict[str, str]:
    """Where the services answer."""
    services = settings.services
    found = {"Kafka": f"127.0.0.1:{services.kafka_port}", "MLflow": f"http://127.0.0.1:{services.mlflow_port}"}
    there = wanted(settings)
    for name, module, at, port in (
        ("Redis", redis, settings.redis, settings.redis.port),
        ("PostgreSQL", postgres, settings.postgres, settings.postgres.port),
        ("Cassandra", cassandra, settings.cassandra, settings.cassandra.port),
    ):
        if module in there:
            found[name] = f"127.0.0.1:{port}, password in {at.password_file}"
    return found


def down(settings: Settings, ending: Sequence[str] = (*OWN_PROCESSES, *ADDED, mlflow.NAME, kafka.NAME)) -> None:
    """End what we started, in the order of dependence; added services are not used any more."""
    folder = services_folder(settings)
    for name in ending:
        print(f"{name}: {'ended' if service(name, folder).stop() else 'was not running'}")
    if set(ending) & set(ADDED):
        choice_file(settings).unlink(missing_ok=True)


def status(settings: Settings) -> bool:
    """Print what runs; whether the services do."""
    folder = services_folder(settings)
    healthy = {module.NAME: bool(module.answers(settings)) for module in wanted(settings)}
    for name in (*healthy, *OWN_PROCESSES):
        pid = Service(name, folder).pid()
        health = "" if name not in healthy else ", answers" if healthy[name] else ", does not answer"
        print(f"{name:9} {'down' if pid is None else f'up, pid {pid}'}{health}")
    return all(healthy.values())


def wipe(settings: Settings, sure: bool) -> None:
    """Delete every world, log, spool and database under the state folder; keys, jars and caches stay."""
    state = conf.resolve(settings.state_dir)
    # What a spool holds would be drained into the log of the next world.
    names = ("services", "worlds", "spark", "spool", "world.yml")
    doomed = [state / name for name in names if (state / name).exists()]
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
    parser.add_argument("--with", dest="added", type=names, default=[], help=f"up: services to add: {','.join(ADDED)}")
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
