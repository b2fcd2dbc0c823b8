"""One Cassandra node from jars as a store of decisions: on loopback, behind passwords, without its default user."""

import subprocess
from pathlib import Path

import yaml
from cassandra.cluster import Session

from deploy.local.process import Service, port_answers, require_free
from lakehouse import cql
from lakehouse import settings as conf
from lakehouse.errors import FraudlakeError, SettingsError
from lakehouse.passwords import make_password, password
from lakehouse.settings import Settings

NAME = "cassandra"
HOST = "127.0.0.1"
DEFAULT = "cassandra"
"""The superuser that a new node makes for itself, and that user's password."""
ADMIN = "fraudlake_admin"
"""The superuser that takes its place; it makes our role, and nothing else uses it."""
MAIN = "org.apache.cassandra.service.CassandraDaemon"
MAKE_TIMEOUT_S = 20.0
# What Cassandra reaches into on Java 17.
_JAVA_17 = (
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
)
_LOGBACK = """<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d %level %logger{1} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="out"/></root>
</configuration>
"""


def _configuration(settings: Settings) -> str:
    """The node's settings; folders follow from its storage folder."""
    storage = settings.services.cassandra_storage_port
    seeds = {"class_name": "org.apache.cassandra.locator.SimpleSeedProvider", "parameters": [{"seeds": HOST}]}
    values = {
        "cluster_name": "fraudlake",
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "endpoint_snitch": "SimpleSnitch",
        "seed_provider": [seeds],
        "num_tokens": 1,
        "listen_address": HOST,
        "rpc_address": HOST,
        "storage_port": storage,
        "native_transport_port": settings.cassandra.port,
        "authenticator": "PasswordAuthenticator",
        "authorizer": "CassandraAuthorizer",
        "role_manager": "CassandraRoleManager",
        # Whoever was dropped cannot log in for a moment longer.
        "credentials_validity": "0ms",
        # An acknowledged write is on disk; `periodic`, which is usual, loses the last ones when the process is killed.
        "commitlog_sync": "batch",
        # So many writes share one sync; of the usual 32, a slow disk makes a slow node.
        "concurrent_writes": 256,
        "auto_snapshot": False,
    }
    return yaml.safe_dump(values)


def admin_password_file(settings: Settings) -> Path:
    """Where the superuser's password is: beside ours."""
    return conf.resolve(settings.cassandra.password_file).with_name("cassandra-admin.key")


def answers(settings: Settings) -> bool:
    """Whether the node that the settings name lets us in and answers."""
    try:
        return _session_does(settings, settings.cassandra.user, cql.secret(settings), [])
    except FraudlakeError:
        return False


def ready(settings: Settings) -> bool:
    """Whether it answers; a node that answers nobody but its superuser is given our role first."""
    if not port_answers(settings.cassandra.port):
        return False
    return answers(settings) or (_taken_over(settings) and answers(settings))


def _taken_over(settings: Settings) -> bool:
    """Replace the default superuser by ours, and make our role last: once that can log in, the default cannot.

    FraudlakeError when somebody else has made a role meanwhile.
    """
    admin, user = password(admin_password_file(settings), NAME), settings.cassandra.user
    _session_does(
        settings,
        DEFAULT,
        DEFAULT,
        [f"CREATE ROLE {ADMIN} WITH SUPERUSER = true AND LOGIN = true AND PASSWORD = '{admin}'"],
    )
    secret = cql.secret(settings)
    return _session_does(
        settings,
        ADMIN,
        admin,
        [
            f"DROP ROLE IF EXISTS {DEFAULT}",
            f'CREATE ROLE IF NOT EXISTS "{user}"',
            f"ALTER ROLE \"{user}\" WITH SUPERUSER = false AND LOGIN = true AND PASSWORD = '{secret}'",
            f'GRANT CREATE ON ALL KEYSPACES TO "{user}"',
        ],
        {ADMIN, user, DEFAULT},
    )


def _session_does(settings: Settings, user: str, secret: str, orders: list[str], roles: set[str] | None = None) -> bool:
    """Whether somebody can log in and everything was done; where `roles` are given, there may be no others."""
    cluster = cql.cluster(settings, user, secret)
    try:
        session = cluster.connect()
        _only(session, roles)
        for order in orders:
            session.execute(order, timeout=MAKE_TIMEOUT_S)
    except cql.ERRORS:
        return False
    finally:
        cluster.shutdown()
    return True


def _only(session: Session, roles: set[str] | None) -> None:
    if roles is None:
        return
    others = {name for (name,) in session.execute("SELECT role FROM system_auth.roles")} - roles
    if others:
        raise FraudlakeError(
            f"This Cassandra has roles that we did not make: {', '.join(sorted(others))}.",
            "If nobody of yours did, `make wipe` deletes its data; else drop them.",
        )


def installed(settings: Settings) -> Path:
    """The folder of the jars, if need be after fetching them."""
    jars = conf.resolve(settings.services.cassandra_jars_folder)
    if not list(jars.glob("cassandra-all-*.jar")):
        subprocess.run([conf.home() / "deploy" / "jars.sh", NAME], check=False)
    if not list(jars.glob("cassandra-all-*.jar")):
        raise FraudlakeError(
            f"There are no jars of Cassandra in {jars}.",
            "Put them there, or do without: decision_store.kind `sqlite` needs none.",
        )
    return jars


def start(settings: Settings, folder: Path) -> bool:
    """Start the node unless it runs, without waiting for it; whether it was started."""
    if list(settings.cassandra.hosts) != [HOST]:
        raise SettingsError(
            f"cassandra.hosts is {', '.join(settings.cassandra.hosts)}: a node of this machine would not be used.",
            f"Set it to [{HOST}] (`make config` says where it is set), or do without WITH=cassandra.",
        )
    service = Service(NAME, folder)
    if service.pid() is not None and answers(settings):
        return False
    service.stop()
    jars = installed(settings)
    require_free(settings.cassandra.port, "cassandra.port")
    require_free(settings.services.cassandra_storage_port, "services.cassandra_storage_port")
    make_password(settings.cassandra.password_file)
    make_password(admin_password_file(settings))
    data = folder / NAME
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    config, logback = folder / "cassandra.yaml", folder / "cassandra-logback.xml"
    config.write_text(_configuration(settings))
    logback.write_text(_LOGBACK)
    heap = settings.services.cassandra_heap_mb
    (jamm,) = jars.glob("jamm-*.jar")
    values = {
        "cassandra.config": config.as_uri(),
        "cassandra.storagedir": data,
        "cassandra-foreground": "yes",
        "cassandra.superuser_setup_delay_ms": 0,
        # There is nobody else to gossip with.
        "cassandra.skip_wait_for_gossip_to_settle": 0,
        "logback.configurationFile": logback,
    }
    options = [f"-Xms{heap}m", f"-Xmx{heap}m", "-XX:+UseSerialGC", f"-javaagent:{jamm}", *_JAVA_17]
    options += [f"-D{name}={value}" for name, value in values.items()]
    service.start(["java", *options, "-cp", f"{jars}/*", MAIN], {}, folder)
    return True
