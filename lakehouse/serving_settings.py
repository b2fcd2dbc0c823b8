"""The settings of the API and its stores; what they mean stands beside their defaults in conf/base.yml."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lakehouse.section import Count, Port, Seconds, Section


class Api(Section):
    host: str
    port: Port
    decision_timeout_ms: Count
    index_records: Count
    body_limit_bytes: Count


class Spool(Section):
    folder: Path
    size_mb: Count


class Limits(Section):
    store: Literal["in_process", "redis"]
    per_key_per_s: Seconds
    burst_s: Seconds
    keys: dict[str, Seconds]
    reveals_per_min: Count


class Feed(Section):
    max_clients: Count
    queue_records: Count


class Profiles(Section):
    store: Literal["in_process", "redis"]
    ttl_s: Count
    stale_after_s: Annotated[int, Field(ge=2)]
    max_entries: Count


class Redis(Section):
    host: str
    port: Port
    password_file: Path


class DecisionStore(Section):
    kind: Literal["sqlite", "postgres", "cassandra"]
    file: Path
    batch_records: Count
    read_timeout_ms: Count


class Postgres(Section):
    host: str
    port: Port
    database: str
    user: str
    password_file: Path


class Cassandra(Section):
    hosts: tuple[str, ...]
    port: Port
    datacenter: str
    replication_factor: Count
    user: str
    password_file: Path
