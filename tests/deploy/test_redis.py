"""`make up WITH=redis`: a server that only who knows the password may use, and only as a cache."""

import contextlib
import io
import shutil
from pathlib import Path

import pytest
import redis as client
import yaml

from deploy.local import job as services
from deploy.local import kafka, mlflow, redis
from lakehouse import cache
from lakehouse import settings as conf
from lakehouse.errors import FraudlakeError, PortBusy, SettingsError
from tests.serving.profiled import own_redis


@pytest.fixture
def running(settings, tmp_path):
    """(settings, server) of a Redis that runs."""
    with own_redis(settings, tmp_path) as (apart, server):
        server.start()
        yield apart, server


def connected(settings, password=None):
    return client.Redis(port=settings.redis.port, password=password, retry=None)


def test_who_does_not_know_the_password_is_refused(running):
    apart, _ = running
    for stranger in (connected(apart), connected(apart, "guessed")):
        with pytest.raises(client.AuthenticationError):
            stranger.get("fraudlake:x")
        stranger.close()


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL",
        "CONFIG GET requirepass",
        "CONFIG SET dir /tmp",
        "ACL LIST",
        "KEYS *",
        "SAVE",
        "SHUTDOWN NOSAVE",
        "DEBUG SLEEP 0",
        "MODULE LIST",
        "REPLICAOF 127.0.0.1 1",
        "GET somebody-elses",
        "PUBLISH fraudlake:x y",
    ],
)
def test_who_knows_the_password_may_not_do_more_than_a_cache_needs(running, command):
    apart, _ = running
    ours = cache.client(apart)
    with pytest.raises(client.ResponseError, match=r"no permissions|not allowed"):
        ours.execute_command(*command.split())
    ours.close()


def test_the_password_is_in_its_file_only(running):
    apart, server = running
    secret = apart.redis.password_file.read_text()
    assert len(secret) >= 43
    assert apart.redis.password_file.stat().st_mode & 0o777 == 0o600
    folder = services.services_folder(apart)
    assert (folder / "redis.conf").stat().st_mode & 0o777 == 0o600
    for path in (*folder.iterdir(), *(Path(f"/proc/{server.service.pid()}") / name for name in ("cmdline", "environ"))):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_it_listens_on_loopback_only(running):
    apart, _ = running
    port = f":{apart.redis.port:04X}"
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    listening = [row[1] for row in rows if row[1].endswith(port) and row[3] == "0A"]
    assert listening == [f"0100007F{port}"]


def test_it_keeps_nothing_on_disk(running):
    apart, server = running
    ours = cache.client(apart)
    ours.set("fraudlake:x", "y")
    ours.close()
    server.stop()
    assert sorted(path.name for path in services.services_folder(apart).iterdir()) == ["redis.conf", "redis.log"]


def test_a_second_up_leaves_it_alone_and_the_password_stays(running):
    apart, server = running
    before, secret = server.service.pid(), apart.redis.password_file.read_text()
    server.start()
    assert (server.service.pid(), apart.redis.password_file.read_text()) == (before, secret)


def test_with_another_password_file_it_is_started_anew(running):
    apart, server = running
    before = server.service.pid()
    apart.redis.password_file.unlink()
    server.start()
    assert server.service.pid() != before
    assert redis.answers(apart)


def test_a_port_of_somebody_else_is_named(running, settings, tmp_path_factory):
    apart, _ = running
    elsewhere = apart.model_copy(update={"state_dir": tmp_path_factory.mktemp("elsewhere")})
    with pytest.raises(PortBusy, match=r"redis\.port.*FRAUDLAKE__REDIS__PORT"):
        services.up(elsewhere, (redis,))


def test_a_redis_elsewhere_is_not_replaced_by_a_local_one_that_nobody_would_use(settings, tmp_path):
    there = settings.model_copy(update={"redis": settings.redis.model_copy(update={"host": "cache.internal"})})
    with pytest.raises(SettingsError, match=r"redis\.host is cache\.internal"):
        redis.start(there, tmp_path)


def test_where_it_cannot_be_installed_the_machine_is_told_what_it_lacks(tmp_path, monkeypatch, capfd):
    for program in ("bash", "id"):
        (tmp_path / program).symlink_to(shutil.which(program))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FraudlakeError, match=r"There is no redis-server\. Install it, or do without"):
        redis.installed()
    assert "apt-get install redis-server" in capfd.readouterr().err


def test_who_asked_for_it_uses_it_until_down(running):
    apart, _ = running
    assert yaml.safe_load(services.choice_file(apart).read_text()) == {
        "profiles": {"store": "redis"},
        "services": {"added": ["redis"]},
    }
    assert services.wanted(apart) == (mlflow, kafka, redis)
    assert "Redis" in services.addresses(apart)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        services.status(apart)
        services.down(apart, (redis.NAME,))
    assert "redis     up, pid" in said.getvalue()
    assert "redis: ended" in said.getvalue()
    assert services.wanted(apart) == (mlflow, kafka)
    assert services.wanted(apart, ["redis"]) == (mlflow, kafka, redis)
    assert "Redis" not in services.addresses(apart)


def test_the_choice_stands_under_the_world_and_the_environment(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    for name in ("base.yml", "local.yml", "prod.yml"):
        (tmp_path / "conf" / name).write_bytes((conf.home() / "conf" / name).read_bytes())
    monkeypatch.setenv("FRAUDLAKE_HOME", str(tmp_path))
    monkeypatch.setenv("FRAUDLAKE__STATE_DIR", "state")
    (tmp_path / "state").mkdir()
    (tmp_path / "state/services.yml").write_text("profiles: {store: redis}\n")
    assert (conf.load("local").profiles.store, conf.load("prod").profiles.store) == ("redis", "in_process")
    assert ("profiles.store", "redis", "state/services.yml") in conf.explain("local")
    monkeypatch.setenv("FRAUDLAKE__PROFILES__STORE", "in_process")
    assert conf.load("local").profiles.store == "in_process"
