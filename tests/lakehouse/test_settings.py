"""Settings from literal files in a folder of the test's own, through FRAUDLAKE_HOME."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from lakehouse import settings as conf
from lakehouse.errors import SettingsError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with today's base.yml, an empty local.yml and nothing in the environment."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/base.yml").write_bytes((conf.home() / "conf/base.yml").read_bytes())
    (tmp_path / "conf/local.yml").write_text("# nothing\n")
    (tmp_path / "conf/night.yml").write_text("kafka: {partitions: 2, topic_prefix: night.}\n")
    for name in [name for name in os.environ if name.startswith("FRAUDLAKE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FRAUDLAKE_HOME", str(tmp_path))
    return tmp_path


def test_the_environment_stands_over_the_world_over_the_chosen_file_over_base(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "conf/local.yml").write_text("kafka: {partitions: 2, topic_prefix: a., request_timeout_s: 2}\n")
    (home / ".fraudlake").mkdir()
    (home / ".fraudlake/world.yml").write_text("kafka: {topic_prefix: b., request_timeout_s: 3}\n")
    monkeypatch.setenv("FRAUDLAKE__KAFKA__REQUEST_TIMEOUT_S", "4")
    kafka = conf.load().kafka
    assert (kafka.replication_factor, kafka.partitions, kafka.topic_prefix, kafka.request_timeout_s) == (1, 2, "b.", 4)


def test_only_the_local_environment_has_a_current_world(home: Path) -> None:
    (home / ".fraudlake").mkdir()
    (home / ".fraudlake/world.yml").write_text("kafka: {topic_prefix: b.}\n")
    assert conf.load("night").kafka.topic_prefix == "night."


def test_the_environment_is_chosen_by_flag_then_by_variable_then_local(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert conf.load().env == "local"
    monkeypatch.setenv("FRAUDLAKE_ENV", "night")
    assert (conf.load().env, conf.load().kafka.partitions) == ("night", 2)
    assert (conf.load("local").env, conf.load("local").kafka.partitions) == ("local", 1)


def test_an_unknown_environment_names_the_known_ones(home: Path) -> None:
    with pytest.raises(SettingsError, match=r"no environment 'day' \(known: local, night\)"):
        conf.load("day")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("kafka: {partition: 2}", r"kafka\.partition: Extra inputs"),
        ("kafkaa: {partitions: 2}", r"kafkaa: Extra inputs"),
        ("kafka: {partitions: two}", r"kafka\.partitions: Input should be a valid integer"),
        ("kafka: {partitions: 0}", r"kafka\.partitions: .* greater than or equal to 1"),
        ("kafka: {events_retention_h: 169}", r"kafka\.events_retention_h: .* less than or equal to 168"),
        ("kafka: {topic_prefix: 'a b'}", r"kafka\.topic_prefix: .* match pattern"),
        ("kafka: 9", r"kafka: Input should be a valid dictionary"),
        ("kafka:", r"kafka: Input should be a valid dictionary"),
        ("log: {level: loud}", r"log\.level: .*'debug', 'info', 'warning' or 'error'"),
        ("services: {kafka_port: 65536}", r"services\.kafka_port: .* less than or equal to 65535"),
        ("[1, 2]", r"local\.yml must hold sections, found list"),
    ],
)
def test_a_wrong_file_is_refused_by_the_name_of_the_key(home: Path, text: str, named: str) -> None:
    (home / "conf/local.yml").write_text(text)
    with pytest.raises(SettingsError, match=named):
        conf.load()


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("FRAUDLAKE__KAFKA__PARTITION", "2", r"kafka\.partition: Extra inputs"),
        ("FRAUDLAKE__KAFKAA__PARTITIONS", "2", r"Unknown settings in the environment: FRAUDLAKE__KAFKAA__PARTITIONS"),
        ("FRAUDLAKE__KAFKA__PARTITIONS", "two", r"kafka\.partitions: Input should be a valid integer"),
        ("FRAUDLAKE__KAFKA", "two", r'environment was refused: .* "kafka"'),
        ("FRAUDLAKE__ENV", "night", r"FRAUDLAKE_ENV"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=named):
        conf.load()


def test_a_refusal_does_not_repeat_the_value(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUDLAKE__KAFKA__PARTITIONS", "something-secret")
    with pytest.raises(SettingsError) as refused:
        conf.load()
    assert "something-secret" not in str(refused.value)


def test_explain_says_where_every_value_comes_from(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "conf/local.yml").write_text("kafka: {partitions: 2}\n")
    (home / "elsewhere").mkdir()
    (home / "elsewhere/world.yml").write_text("kafka: {topic_prefix: b.}\n")
    monkeypatch.setenv("FRAUDLAKE__STATE_DIR", "elsewhere")
    monkeypatch.setenv("FRAUDLAKE__KAFKA__REQUEST_TIMEOUT_S", "4")
    told = {name: (value, place) for name, value, place in conf.explain()}
    assert told["env"] == ("local", "--env or FRAUDLAKE_ENV")
    assert told["log.level"] == ("info", "conf/base.yml")
    assert told["kafka.partitions"] == (2, "conf/local.yml")
    assert told["kafka.topic_prefix"] == ("b.", "elsewhere/world.yml")
    assert told["kafka.request_timeout_s"] == (4, "FRAUDLAKE__KAFKA__REQUEST_TIMEOUT_S")
    assert told["state_dir"] == ("elsewhere", "FRAUDLAKE__STATE_DIR")


def test_settings_are_frozen(home: Path) -> None:
    settings = conf.load()
    with pytest.raises(ValidationError, match="frozen"):
        settings.kafka.partitions = 2  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        settings.kafka = settings.kafka  # type: ignore[misc]


def test_relative_paths_are_meant_from_home(home: Path) -> None:
    assert conf.resolve(".fraudlake/keys") == home / ".fraudlake/keys"
    assert conf.resolve("/elsewhere") == Path("/elsewhere")


@pytest.mark.parametrize("env", ["local", "test", "prod"])
def test_every_committed_environment_loads(env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FRAUDLAKE_")]:
        monkeypatch.delenv(name)
    assert conf.load(env).env == env
