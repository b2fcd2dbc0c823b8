"""The one Cassandra of the settings: its connections, and what to say when it does not answer."""

import logging

from cassandra import AuthenticationFailed, ConsistencyLevel, DriverException
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.policies import ConstantReconnectionPolicy, DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.query import tuple_factory

from lakehouse.errors import StoreUnavailable
from lakehouse.passwords import password
from lakehouse.settings import Settings

PROTOCOL = 5
TIMEOUT_S = 2.0
"""For a connection and for an answer."""
ERRORS = (NoHostAvailable, DriverException, ConnectionException)
"""What the driver raises when it could not do something, or does not know whether it did."""


def secret(settings: Settings) -> str:
    """The password; KeysMissing when there is none or others can read it."""
    return password(settings.cassandra.password_file, "cassandra")


def cluster(settings: Settings, user: str, secret: str) -> Cluster:
    """A cluster's connections, made when it is asked for a session; a node that comes back is found by itself."""
    # What it would say of nodes that come and go, we say once.
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(settings.cassandra.datacenter)),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=TIMEOUT_S,
        row_factory=tuple_factory,
    )
    return Cluster(
        list(settings.cassandra.hosts),
        port=settings.cassandra.port,
        auth_provider=PlainTextAuthProvider(user, secret),
        protocol_version=PROTOCOL,
        connect_timeout=TIMEOUT_S,
        control_connection_timeout=TIMEOUT_S,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(1.0, None),
    )


def unavailable(settings: Settings, error: Exception) -> StoreUnavailable:
    """The error of a Cassandra that does not answer, or does not let us in."""
    address = f"Cassandra at {', '.join(settings.cassandra.hosts)}, port {settings.cassandra.port},"
    why = next(iter(error.errors.values()), error) if isinstance(error, NoHostAvailable) else error
    if isinstance(why, AuthenticationFailed):
        return StoreUnavailable(f"{address} refuses the password.", "Give it the one of cassandra.password_file.")
    return StoreUnavailable(
        f"{address} does not answer ({type(why).__name__}).",
        "`make up WITH=cassandra` starts the local one, `make status` shows it.",
    )
