"""The settings: frozen, typed, from conf/ and the environment, through one function.

Precedence, lowest first: conf/base.yml, conf/<env>.yml, <state_dir>/services.yml (what `make up WITH=...` chose) and
<state_dir>/world.yml (the demo's world), both for the env `local` only, FRAUDLAKE__SECTION__NAME. The env is
FRAUDLAKE_ENV (default `local`) unless a job is given --env. An unknown key is an error wherever it stands.
`python -m lakehouse.settings` prints each value and where it came from.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnreadableVariable

from lakehouse.alert_settings import Alerts
from lakehouse.drift_settings import Drift
from lakehouse.errors import SettingsError
from lakehouse.experiment_settings import Experiment, Guard
from lakehouse.label_settings import Labels
from lakehouse.section import Count, Port, Seconds, Section
from lakehouse.serving_settings import Api, Cassandra, DecisionStore, Feed, Limits, Postgres, Profiles, Redis, Spool

Minor = Annotated[int, Field(ge=0)]
PREFIX = "FRAUDLAKE__"


class Log(Section):
    level: Literal["debug", "info", "warning", "error"]
    format: Literal["text", "json"]


class Kafka(Section):
    bootstrap_servers: str
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")]
    partitions: Count
    replication_factor: Count
    min_insync_replicas: Count
    events_retention_h: Annotated[int, Field(ge=1, le=168)]
    decisions_retention_h: Count
    request_timeout_s: Count


class Schemas(Section):
    registry: Literal["files", "http"]
    url: str
    subject_prefix: str
    user: str | None
    password_file: Path | None
    token_file: Path | None
    ca_file: Path | None
    verify_tls: bool
    timeout_s: Count
    attempts: Count
    cache_folder: Path


class Keys(Section):
    provider: Literal["file", "environment"]
    folder: Path
    max_age_days: Count


class Lake(Section):
    root: str


class Trail(Section):
    folder: Path
    heads_folder: Path


class Spark(Section):
    master: str
    driver_memory: str
    java_options: str
    shuffle_partitions: Count
    jars_folder: Path
    scratch_folder: Path


class Bronze(Section):
    trigger_s: Count
    batch_records: Count
    retention_d: Count


class Silver(Section):
    trigger_s: Count
    batch_records: Count
    task_rows: Count
    working_folder: Path


class Admission(Section):
    duplicate_horizon_h: Count
    label_horizon_d: Count
    max_ahead_s: Count


class Quality(Section):
    window_rows: Count
    window_h: Count
    alert_below: Annotated[float, Field(ge=0, le=1)]
    hold_below: Annotated[float, Field(ge=0, le=1)]
    late_after_s: Count
    expected_columns: tuple[str, ...]
    docs_folder: Path


class Features(Section):
    batch_records: Count
    shards: Annotated[int, Field(ge=1, le=1024)]
    label_delay_d: Annotated[int, Field(ge=0, le=60)]
    record_retention_d: Count
    snapshot_folder: Path
    snapshots_kept: Count


class Gold(Section):
    trigger_s: Count
    training_set_interval_h: Annotated[int, Field(ge=0)]


class Maintenance(Section):
    small_file_mb: Count
    join_files: Annotated[int, Field(ge=2)]
    vacuum_after_h: Annotated[int, Field(ge=24)]
    training_sets_kept_d: Count
    log_kept_d: Count


class Models(Section):
    store: Path
    registry_uri: str
    name: str


class Training(Section):
    validation_d: Count
    test_d: Count
    label_gap_d: Annotated[int, Field(ge=0)]
    search_trials: Count
    ensemble: Literal["fixed", "ranking", "money"]
    needed_features: list[str]
    alert_budget_per_1000: Annotated[float, Field(gt=0, le=1000)]
    cuts: Literal["budget", "money"]
    reviews_per_1000: Annotated[float, Field(ge=0, le=1000)]
    seed: Annotated[int, Field(ge=0)]


class Engine(Section):
    state_folder: Path
    batch_records: Count
    snapshot_interval_s: Count
    snapshot_longest_s: Count
    snapshots_kept: Count
    max_keys_per_entity: Count
    metrics_port: Port
    takeover_after_s: Seconds
    reasons_waiting: Count
    delivery: Literal["idempotent", "transactional"]


class ByAmount(Section):
    approve_up_to_minor: Minor
    challenge_up_to_minor: Minor


class Ladder(Section):
    approve_up_to_minor: Minor
    without_model: Literal["stop", "rules"]
    retry_s: Seconds
    static_policy: dict[Literal["pos", "ecom", "moto", "atm", "wallet"], ByAmount]


class Services(Section):
    kafka_port: Port
    kafka_controller_port: Port
    kafka_heap_mb: Count
    mlflow_port: Port
    redis_memory_mb: Count
    cassandra_heap_mb: Count
    cassandra_storage_port: Port
    added: tuple[Literal["redis", "postgres", "cassandra"], ...]
    jars_folder: Path
    cassandra_jars_folder: Path
    start_timeout_s: Count


class Settings(BaseSettings):
    """Everything that can be set; what each value means is written beside its default in conf/base.yml."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__")

    env: str
    state_dir: Path
    log: Log
    kafka: Kafka
    schemas: Schemas
    keys: Keys
    lake: Lake
    trail: Trail
    spark: Spark
    bronze: Bronze
    silver: Silver
    admission: Admission
    quality: Quality
    features: Features
    labels: Labels
    gold: Gold
    maintenance: Maintenance
    models: Models
    training: Training
    experiment: Experiment
    guard: Guard
    drift: Drift
    engine: Engine
    ladder: Ladder
    api: Api
    spool: Spool
    limits: Limits
    feed: Feed
    profiles: Profiles
    redis: Redis
    decision_store: DecisionStore
    postgres: Postgres
    cassandra: Cassandra
    alerts: Alerts
    services: Services

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over the files; the files arrive merged, as the initial values."""
        return (env_settings, init_settings)


def home() -> Path:
    """The folder that holds conf/: FRAUDLAKE_HOME, else where this package lies."""
    return Path(os.environ.get("FRAUDLAKE_HOME", Path(__file__).resolve().parent.parent))


def _read(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text()) or {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path} must hold sections, found {type(content).__name__}.")
    return content


def _merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    out = dict(low)
    for key, value in high.items():
        out[key] = _merge(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def _layers(env: str) -> list[tuple[str, dict[str, Any]]]:
    """(place, values) of every file layer, lowest first."""
    conf = home() / "conf"
    chosen = conf / f"{env}.yml"
    if not chosen.exists():
        known = ", ".join(sorted(p.stem for p in conf.glob("*.yml") if p.stem != "base"))
        raise SettingsError(f"There is no environment '{env}' (known: {known}).", "Set --env or FRAUDLAKE_ENV.")
    layers = [("conf/base.yml", _read(conf / "base.yml")), (f"conf/{env}.yml", _read(chosen))]
    state_dir = os.environ.get(f"{PREFIX}STATE_DIR") or _merge(layers[0][1], layers[1][1])["state_dir"]
    for name in ("services.yml", "world.yml") if env == "local" else ():
        path = home() / state_dir / name
        if path.exists():
            layers.append((f"{state_dir}/{name}", _read(path)))
    return layers


def load(env: str | None = None) -> Settings:
    """The settings in force; SettingsError names the key, the place and what is allowed."""
    env = env or os.environ.get("FRAUDLAKE_ENV", "local")
    merged: dict[str, Any] = {}
    for _, values in _layers(env):
        merged = _merge(merged, values)
    unknown = [
        name
        for name in os.environ
        if name.startswith(PREFIX) and name.split("__")[1].lower() not in Settings.model_fields
    ]
    if f"{PREFIX}ENV" in os.environ:
        raise SettingsError(f"{PREFIX}ENV would name an environment without loading it.", "Set --env or FRAUDLAKE_ENV.")
    if unknown:
        raise SettingsError(
            f"Unknown settings in the environment: {', '.join(sorted(unknown))}.", "`make config` lists all."
        )
    try:
        settings = Settings(**{**merged, "env": env})
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors(include_input=False)]
        raise SettingsError("Settings refused: " + "; ".join(lines) + ".", "`make config` lists all.") from None
    except UnreadableVariable as error:
        raise SettingsError(f"The environment was refused: {error}.", "A whole section must be JSON.") from None
    return settings


def resolve(path: Path | str) -> Path:
    """An absolute path; a relative one is meant from the repository's root."""
    return home() / path


def lake_root(settings: Settings) -> str:
    """The lake's root: a URL as it is, else an absolute path."""
    root = settings.lake.root
    return root if "://" in root else str(resolve(root))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        out.update(_flat(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return out


def explain(env: str | None = None) -> list[tuple[str, Any, str]]:
    """(name, value, place) of every setting in force."""
    settings = load(env)
    origin: dict[str, str] = {}
    for place, values in _layers(settings.env):
        origin.update(dict.fromkeys(_flat(values), place))
    for name in _flat(EnvSettingsSource(Settings)()):
        origin[name] = f"{PREFIX}{name.upper().replace('.', '__')}"
    flat = _flat(settings.model_dump(mode="json"))
    return [(name, value, origin.get(name, "--env or FRAUDLAKE_ENV")) for name, value in flat.items()]


def main(argv: list[str]) -> None:
    """Print the settings in force and their places, which the module names lowest first."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse.settings", description=main.__doc__)
    parser.add_argument("--env")
    for name, value, place in explain(parser.parse_args(argv).env):
        print(f"{name:38} {value!s:40} {place}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SettingsError as error:
        sys.exit(str(error))
