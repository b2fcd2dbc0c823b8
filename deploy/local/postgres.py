"""Debian's PostgreSQL as a store of decisions: on loopback, behind a password, for one role and one database."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psycopg

from deploy.local.process import Service, require_free
from deploy.local.programs import on_path, program
from lakehouse import pg
from lakehouse import settings as conf
from lakehouse.errors import FraudlakeError, SettingsError
from lakehouse.passwords import make_password
from lakehouse.settings import Settings

NAME = "postgres"
PACKAGE = "postgresql"
HOST = "127.0.0.1"
ENDS_BY = signal.SIGINT
"""Clients are cut off and the data is written; SIGTERM would wait until the last client has gone by itself."""
USER = "postgres"
"""As whom it runs when we are root, which it refuses to be; Debian's package makes that user."""
MAKE_TIMEOUT_S, ANSWER_TIMEOUT_MS = 10, 1000


def answers(settings: Settings) -> bool:
    """Whether the server that the settings name lets us in and answers."""
    try:
        with pg.connected(settings, pg.secret(settings), ANSWER_TIMEOUT_MS) as connection:
            return bool(connection.execute("SELECT 1").fetchone() == (1,))
    except (psycopg.Error, FraudlakeError):
        return False


def service(folder: Path) -> Service:
    """The process."""
    return Service(NAME, folder, ENDS_BY)


def _newest(name: str) -> Path | None:
    """Debian keeps the programs of each version in a folder that is on nobody's path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return found[-1] if found else on_path(name)


def installed() -> Path:
    """The folder of the programs, if need be after an installation."""
    return program("initdb", PACKAGE, "decision_store.kind `sqlite` needs none", _newest).resolve().parent


def _as_user() -> list[str]:
    """What to put before a command so that it does not run as root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]


def _own(settings: Settings, folder: Path, data: Path) -> None:
    """Make the data folder, for the user of the server alone."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.geteuid() != 0:
        return
    shutil.chown(data, USER, USER)
    for ours in (conf.resolve(settings.state_dir), folder):
        # Others may pass through, not look in: what is secret there has a mode of its own.
        ours.chmod(ours.stat().st_mode | 0o011)
    if subprocess.run([*_as_user(), "test", "-w", str(data)], check=False).returncode:
        raise SettingsError(
            f"PostgreSQL does not run as root, and the user {USER} cannot reach {data}.",
            "Let others pass through the folders above (chmod o+x), or set FRAUDLAKE__STATE_DIR to a folder elsewhere.",
        )


def _run(command: list[str], said: str | None = None) -> str:
    """Run a program of the server's as its user; its complaint, empty when there is none."""
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
    done = subprocess.run(
        [*_as_user(), *command], input=said, capture_output=True, text=True, check=False, env=environment, cwd="/"
    )
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""


def _make(settings: Settings, programs: Path, data: Path) -> None:
    """A cluster in which nobody but our role can log in, and only from loopback; its superuser has no password."""
    if not (data / "PG_VERSION").exists():
        options = [
            "--auth-local=peer",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--data-checksums",
        ]
        if wrong := _run([str(programs / "initdb"), "-D", str(data), "-U", "nobody", *options]):
            raise FraudlakeError(f"The data folder {data} of PostgreSQL could not be made:\n{wrong}")
    at = settings.postgres
    hba = data / "pg_hba.conf"
    hba.write_text(f'host "{at.database}" "{at.user}" {HOST}/32 scram-sha-256\n')
    secret = pg.secret(settings)
    # Alone with its data and without a client, the server takes orders from its input; what is there already, it says.
    orders = (
        f'CREATE ROLE "{at.user}" LOGIN;\nALTER ROLE "{at.user}" PASSWORD \'{secret}\';\n'
        f'CREATE DATABASE "{at.database}" OWNER "{at.user}";\n'
    )
    alone = [
        str(programs / "postgres"),
        "--single",
        "-D",
        str(data),
        "-c",
        "log_min_error_statement=panic",
        "template1",
    ]
    deadline = time.monotonic() + MAKE_TIMEOUT_S
    # What a killed server left behind may still be ending.
    while wrong := _run(alone, orders):
        if time.monotonic() > deadline:
            raise FraudlakeError(f"PostgreSQL could not open {data}:\n{wrong}")
        time.sleep(0.2)


def start(settings: Settings, folder: Path) -> bool:
    """Start the server unless it runs, without waiting for it; whether it was started."""
    if settings.postgres.host != HOST:
        raise SettingsError(
            f"postgres.host is {settings.postgres.host}: a PostgreSQL of this machine would not be used.",
            f"Set it to {HOST} (`make config` says where it is set), or do without WITH=postgres.",
        )
    process = service(folder)
    if process.pid() is not None and answers(settings):
        return False
    process.stop()
    programs = installed()
    require_free(settings.postgres.port, "postgres.port")
    make_password(settings.postgres.password_file)
    data = folder / NAME
    _own(settings, folder, data)
    _make(settings, programs, data)
    values = {
        "listen_addresses": HOST,
        "port": settings.postgres.port,
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
    }
    options = [text for name, value in values.items() for text in ("-c", f"{name}={value}")]
    process.start([*_as_user(), str(programs / "postgres"), "-D", str(data), *options], {}, folder)
    return True
