"""`make up WITH=postgres,cassandra`: servers on loopback that let in nobody but us, and not as their masters."""

import argparse
import os
import time
from pathlib import Path

import psycopg
import pytest
import yaml
from cassandra import AuthenticationFailed, Unauthorized
from cassandra.cluster import NoHostAvailable

from deploy.local import cassandra, kafka, mlflow, postgres, redis
from deploy.local import job as services
from lakehouse import cql, pg
from lakehouse import settings as conf
from lakehouse.errors import PortBusy, SettingsError
from tests.serving.decided import Server


@pytest.fixture(scope="module")
def on_postgres(postgres_server):
    return Server("postgres")


@pytest.fixture(scope="module")
def on_cassandra(cassandra_server):
    return Server("cassandra")


def listening(port):
    """The addresses at which somebody listens on a port, as the kernel writes them."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return [row[1] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"]


def holding(secret, server):
    """What holds a secret of those who can be looked at: command line, environment, files of the server."""
    folder = services.services_folder(server.settings)
    process = Path(f"/proc/{server.service.pid()}")
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in (*files, process / "cmdline", process / "environ") if secret.encode() in path.read_bytes()]


# --- PostgreSQL --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": "guessed"}, "password authentication failed"),
        ({"user": "nobody", "dbname": "template1"}, "no pg_hba.conf entry"),
        ({"user": "postgres"}, "no pg_hba.conf entry"),
        ({"dbname": "template1"}, "no pg_hba.conf entry"),
    ],
)
def test_postgres_lets_in_one_role_to_one_database_with_its_password(on_postgres, changes, said):
    settings = on_postgres.settings
    right = {"host": "127.0.0.1", "port": settings.postgres.port, "user": "fraudlake", "dbname": "fraudlake"}
    with psycopg.connect(**right, password=pg.secret(settings)) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("fraudlake",)
    with pytest.raises(psycopg.OperationalError, match=said):
        psycopg.connect(**{**right, "password": pg.secret(settings), **changes})


@pytest.mark.parametrize(
    "order",
    ["CREATE ROLE other", "CREATE DATABASE other", "COPY (SELECT 1) TO '/tmp/x'", "SELECT pg_read_file('/etc/passwd')"],
)
def test_our_role_in_postgres_is_not_its_master(on_postgres, order):
    settings = on_postgres.settings
    with (
        pg.connected(settings, pg.secret(settings), 1000) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(order)


def test_postgres_is_on_loopback_only_and_not_root(on_postgres):
    assert listening(on_postgres.settings.postgres.port) == [f"0100007F:{on_postgres.settings.postgres.port:04X}"]
    assert Path(f"/proc/{on_postgres.service.pid()}").stat().st_uid != 0
    assert not list(Path("/tmp").glob(f".s.PGSQL.{on_postgres.settings.postgres.port}*"))


def test_the_password_of_postgres_is_in_its_file_only(on_postgres):
    settings = on_postgres.settings
    assert settings.postgres.password_file.stat().st_mode & 0o777 == 0o600
    assert holding(pg.secret(settings), on_postgres) == []
    data = services.services_folder(settings) / "postgres"
    assert data.stat().st_mode & 0o077 == 0


def test_postgres_ends_at_once_though_a_client_is_there_and_takes_another_password(on_postgres):
    settings = on_postgres.settings
    client = pg.connected(settings, pg.secret(settings), 1000)
    pid = on_postgres.service.pid()
    on_postgres.start()
    assert on_postgres.service.pid() == pid
    settings.postgres.password_file.unlink()
    began = time.monotonic()
    on_postgres.start()
    assert time.monotonic() - began < 15
    assert on_postgres.service.pid() != pid
    assert postgres.answers(settings)
    client.close()


def test_where_the_user_of_postgres_cannot_go_the_machine_is_told(on_postgres, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("who is not root starts PostgreSQL as himself")
    (tmp_path / "closed").mkdir(mode=0o700)
    apart = on_postgres.settings.model_copy(update={"state_dir": tmp_path / "closed" / "state"})
    with pytest.raises(SettingsError, match=r"the user postgres cannot reach .*FRAUDLAKE__STATE_DIR"):
        postgres._own(apart, tmp_path, services.services_folder(apart) / "postgres")


# --- Cassandra ---------------------------------------------------------------------------------------------------


def order(settings, user, secret, *orders):
    cluster = cql.cluster(settings, user, secret)
    try:
        session = cluster.connect()
        return [list(session.execute(text)) for text in orders]
    finally:
        cluster.shutdown()


@pytest.mark.parametrize(("user", "secret"), [("cassandra", "cassandra"), ("fraudlake", "guessed"), ("", "")])
def test_cassandra_lets_in_neither_its_default_user_nor_strangers(on_cassandra, user, secret):
    with pytest.raises(NoHostAvailable) as refused:
        order(on_cassandra.settings, user, secret)
    assert [type(error) for error in refused.value.errors.values()] == [AuthenticationFailed]


@pytest.mark.parametrize(
    "text",
    ["CREATE ROLE other", "SELECT * FROM system_auth.roles", "ALTER ROLE fraudlake_admin WITH PASSWORD = 'x'"],
)
def test_our_role_in_cassandra_is_not_its_master(on_cassandra, text):
    settings = on_cassandra.settings
    with pytest.raises(Unauthorized):
        order(settings, "fraudlake", cql.secret(settings), text)


def test_cassandra_has_no_roles_but_ours(on_cassandra):
    admin = cassandra.admin_password_file(on_cassandra.settings).read_text()
    (roles,) = order(
        on_cassandra.settings, "fraudlake_admin", admin, "SELECT role, is_superuser FROM system_auth.roles"
    )
    assert sorted(roles) == [("fraudlake", False), ("fraudlake_admin", True)]


def test_cassandra_is_on_loopback_only(on_cassandra):
    settings = on_cassandra.settings
    ports = (settings.cassandra.port, settings.services.cassandra_storage_port)
    addresses = [address for port in ports for address in listening(port)]
    assert [address.split(":")[0][-8:] for address in addresses] == ["0100007F"] * 2


def test_passwords_of_cassandra_are_in_their_files_only(on_cassandra):
    for file in (on_cassandra.settings.cassandra.password_file, cassandra.admin_password_file(on_cassandra.settings)):
        assert file.stat().st_mode & 0o777 == 0o600
        assert holding(file.read_text(), on_cassandra) == []


# --- both --------------------------------------------------------------------------------------------------------


def test_a_port_of_somebody_else_is_named(on_postgres, on_cassandra, tmp_path_factory):
    elsewhere = {"state_dir": tmp_path_factory.mktemp("elsewhere")}
    with pytest.raises(PortBusy, match=r"postgres\.port.*FRAUDLAKE__POSTGRES__PORT"):
        services.up(on_postgres.settings.model_copy(update=elsewhere), (postgres,))
    with pytest.raises(PortBusy, match=r"cassandra\.port.*FRAUDLAKE__CASSANDRA__PORT"):
        services.up(on_cassandra.settings.model_copy(update=elsewhere), (cassandra,))


@pytest.mark.parametrize(
    ("section", "value"), [("postgres", {"host": "db.internal"}), ("cassandra", {"hosts": ("a",)})]
)
def test_a_server_elsewhere_is_not_replaced_by_a_local_one_that_nobody_would_use(settings, tmp_path, section, value):
    there = settings.model_copy(update={section: getattr(settings, section).model_copy(update=value)})
    with pytest.raises(SettingsError, match=rf"{section}\.hosts? is "):
        services.ADDED[section][0].start(there, tmp_path)


def test_of_two_stores_the_one_named_last_is_used_and_both_run_until_down(settings, tmp_path):
    apart = settings.model_copy(update={"state_dir": tmp_path})
    asked = services.names("redis,cassandra,postgres")
    assert services.wanted(apart, asked) == (mlflow, kafka, redis, cassandra, postgres)
    services.choice_file(apart).write_text(yaml.safe_dump({"services": {"added": ["postgres", "redis"]}}))
    assert services.wanted(apart) == (mlflow, kafka, postgres, redis)
    assert services.wanted(apart, ["cassandra", "postgres"]) == (mlflow, kafka, redis, cassandra, postgres)
    with pytest.raises(argparse.ArgumentTypeError, match="there is no mysql; there are redis, postgres, cassandra"):
        services.names("redis,mysql")


def test_what_runs_is_written_down_for_who_comes_later(on_postgres, capsys):
    services.up(on_postgres.settings, (postgres,))
    chosen = yaml.safe_load(services.choice_file(on_postgres.settings).read_text())
    assert chosen == {"decision_store": {"kind": "postgres"}, "services": {"added": ["postgres"]}}
    assert "PostgreSQL" in services.addresses(on_postgres.settings)
    assert "postgres: was already up" in capsys.readouterr().out
    assert conf.load().decision_store.kind == "sqlite"
