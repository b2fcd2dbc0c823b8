"""A schema registry over HTTP: the same schemas by the same ids, and clear words when it is away or says no."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import silver.job
from lakehouse import jobs
from lakehouse import settings as conf
from lakehouse.agreement import agreed, released
from lakehouse.confluent import Entry, SchemaRegistry
from lakehouse.errors import SchemaRefused, SchemaRegistryUnavailable, SettingsError
from lakehouse.registry import FOLDER, Registry, fingerprint, main, register, registry
from tests.lakehouse.confluent import ID, MORE, Configured, Failure, Server, schema


def test_a_schema_is_found_by_its_id_and_asked_for_once(server: Server, client: SchemaRegistry) -> None:
    assert server.put("thing", schema(ID), id_=7) == 7
    assert client.schema(7) == client.schema(7) == schema(ID)
    assert server.asked == ["GET /schemas/ids/7"]


def test_an_unknown_id_is_none_and_is_asked_for_again(server: Server, client: SchemaRegistry) -> None:
    assert client.schema(99) is None
    server.put("thing", schema(ID), id_=99)
    assert client.schema(99) == schema(ID)


def test_versions_and_ids_are_found_by_subject(server: Server, client: SchemaRegistry) -> None:
    server.put("a/thing", schema(ID), id_=7)
    server.put("a/thing", schema(ID, MORE), id_=9)
    assert client.versions("a/thing") == [1, 2]
    assert client.entries("a/thing") == [
        Entry("a/thing", 1, 7, schema(ID)),
        Entry("a/thing", 2, 9, schema(ID, MORE)),
    ]
    assert client.lookup("a/thing", schema(ID, MORE)) == Entry("a/thing", 2, 9, schema(ID, MORE))
    assert client.lookup("a/thing", schema(MORE)) is None
    assert (client.versions("nobody"), client.entry("a/thing", 3), client.lookup("nobody", schema(ID))) == (
        [],
        None,
        None,
    )


def test_a_compatible_version_is_registered_and_the_same_one_again_is_the_same(
    server: Server, client: SchemaRegistry
) -> None:
    assert client.register("thing", schema(ID)) == 1
    assert client.register("thing", schema(ID, MORE)) == 2
    assert client.register("thing", schema(ID, MORE)) == 2
    assert server.subjects == {"thing": {1: 1, 2: 2}}


def test_an_incompatible_version_is_refused_before_it_is_sent(server: Server, client: SchemaRegistry) -> None:
    client.register("thing", schema(ID))
    server.asked.clear()
    with pytest.raises(SchemaRefused, match=r"refuses the next version of thing: thing_id changed from"):
        client.register("thing", schema({"name": "thing_id", "type": "int"}))
    assert server.asked == ["POST /compatibility/subjects/thing/versions/latest"]


def test_forbidden_card_data_is_refused_before_anybody_is_asked(server: Server, client: SchemaRegistry) -> None:
    with pytest.raises(SchemaRefused, match="thing: cvv may never be stored"):
        client.register("thing", schema(ID, {"name": "cvv", "type": "string"}))
    assert server.asked == []


@pytest.mark.parametrize(
    ("failure", "error", "words"),
    [
        (409, SchemaRefused, r"refuses the schema \(409\): told to fail"),
        (422, SchemaRefused, r"refuses the schema \(422\): told to fail"),
        (401, SettingsError, r"refuses us \(401\)\. See schemas\.user"),
        (403, SettingsError, r"refuses us \(403\)"),
        (404, SettingsError, r"answers 404: is it one\? Look at schemas\.url"),
        (302, SettingsError, "answers 302: is it one"),
        (500, SchemaRegistryUnavailable, r"does not answer \(it answers 500\)\. Look at schemas\.url"),
        (503, SchemaRegistryUnavailable, "it answers 503"),
        (429, SchemaRegistryUnavailable, "it answers 429"),
        ("garbage", SchemaRegistryUnavailable, "does not answer"),
        ("half_open", SchemaRegistryUnavailable, r"does not answer \(TimeoutError\)"),
        ("drip", SchemaRegistryUnavailable, r"does not answer \(TimeoutError\)"),
    ],
)
def test_a_failure_names_the_registry_and_the_setting(
    server: Server, client: SchemaRegistry, failure: Failure, error: type[Exception], words: str
) -> None:
    server.failures, server.for_ever = [failure], True
    with pytest.raises(error, match=words) as raised:
        client.lookup("thing", schema(ID))
    assert server.url in str(raised.value)
    assert len(server.asked) == (2 if error is SchemaRegistryUnavailable else 1)


def test_what_passes_by_itself_is_tried_again(server: Server, client: SchemaRegistry) -> None:
    server.put("thing", schema(ID))
    server.failures = [500]
    assert client.versions("thing") == [1]
    assert len(server.asked) == 2


def test_something_that_is_no_avro_record_is_refused(server: Server, client: SchemaRegistry) -> None:
    server.schemas[7] = "string"  # type: ignore[assignment]
    with pytest.raises(SchemaRefused, match="no Avro record"):
        client.schema(7)


def test_ids_are_carried_over_and_subjects_take_new_versions_again_afterwards(
    server: Server, configured: Configured
) -> None:
    settings = configured(subject_prefix="bank.").schemas
    client = SchemaRegistry(settings)
    server.put("somebody else's", schema(ID), id_=4_000)
    entries = released(settings)
    assert client.import_ids(entries) == sorted(entries, key=lambda e: (e.subject, e.version))
    assert client.import_ids(entries) == []
    assert {s.id: fingerprint(server.schemas[s.id]) for s in registry().schemas} == {
        s.id: s.fingerprint for s in registry().schemas
    }
    assert server.subjects["bank.payment"] == {1: 9}
    assert set(server.modes.values()) == {"READWRITE"}


def test_an_id_that_another_schema_has_is_not_taken_from_it_and_the_mode_is_put_back(
    server: Server, configured: Configured
) -> None:
    settings = configured().schemas
    server.put("somebody else's", schema(ID), id_=9)
    with pytest.raises(SchemaRefused, match=r"\(422\): Overwrite new schema with id 9 is not permitted"):
        SchemaRegistry(settings).import_ids(released(settings))
    assert server.modes["payment"] == "READWRITE"
    assert server.schemas[9] == schema(ID)


def test_a_registry_that_agrees_has_the_form_of_the_released_one(server: Server, configured: Configured) -> None:
    settings = configured()
    SchemaRegistry(settings.schemas).import_ids(released(settings.schemas))
    found = agreed(settings)
    assert isinstance(found, Registry)
    for kind in ("payment", "label", "decision"):
        assert found.latest(kind) == registry().latest(kind)
    assert set(found.by_id()) == set(registry().by_id())


def test_by_default_nobody_is_asked(server: Server, configured: Configured) -> None:
    assert agreed(configured(registry="files")) is registry()
    assert server.asked == []
    assert conf.load().schemas.registry == "files"


def test_a_version_that_only_the_registry_knows_is_said(
    server: Server, configured: Configured, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = configured()
    SchemaRegistry(settings.schemas).import_ids(released(settings.schemas))
    newer = json.loads(json.dumps(registry().latest("outcome").parsed))
    newer["fields"].append(MORE)
    server.put("outcome", newer, id_=77)
    found = agreed(settings)
    assert (found.latest("outcome").id, found.latest("outcome").version) == (77, 2)
    said = "".join(capsys.readouterr())
    assert "its records go to quarantine" in said
    assert "id=77" in said


def test_a_registry_that_lacks_a_schema_or_has_it_by_another_id_is_refused(
    server: Server, configured: Configured
) -> None:
    settings = configured()
    with pytest.raises(SchemaRefused, match=r"lacks .* version 1 .*python -m lakehouse\.registry --import-ids"):
        agreed(settings)
    for one in registry().schemas:
        server.put(one.kind, dict(one.parsed), id_=one.id + 100)
    with pytest.raises(SchemaRefused, match=r"id 101, ours is 1\. Records would be read with the wrong schema"):
        agreed(settings)


def test_while_it_is_away_a_job_stops_and_an_engine_goes_on_with_what_is_cached(
    server: Server, configured: Configured
) -> None:
    settings = configured()
    SchemaRegistry(settings.schemas).import_ids(released(settings.schemas))
    server.for_ever, before = True, list(server.failures)
    server.failures = [503]
    with pytest.raises(SchemaRegistryUnavailable):
        agreed(settings, or_cached=True)
    server.failures = before
    answered = agreed(settings)
    server.failures = [503]
    assert agreed(settings, or_cached=True) == answered
    with pytest.raises(SchemaRegistryUnavailable, match=r"schemas\.url"):
        agreed(settings)


def test_a_torn_cache_is_no_cache(server: Server, configured: Configured) -> None:
    settings = configured()
    SchemaRegistry(settings.schemas).import_ids(released(settings.schemas))
    agreed(settings)
    (kept,) = settings.schemas.cache_folder.iterdir()
    kept.write_text(kept.read_text()[:-9])
    server.failures, server.for_ever = [503], True
    with pytest.raises(SchemaRegistryUnavailable):
        agreed(settings, or_cached=True)


@pytest.fixture
def in_environment(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The registry in force for processes of this environment."""
    monkeypatch.setenv("FRAUDLAKE__SCHEMAS__REGISTRY", "http")
    monkeypatch.setenv("FRAUDLAKE__SCHEMAS__URL", server.url)
    monkeypatch.setenv("FRAUDLAKE__SCHEMAS__ATTEMPTS", "1")
    monkeypatch.setenv("FRAUDLAKE__SCHEMAS__CACHE_FOLDER", str(tmp_path / "cache"))
    monkeypatch.setenv("FRAUDLAKE__KAFKA__REQUEST_TIMEOUT_S", "1")
    monkeypatch.setenv("FRAUDLAKE__KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9")


@pytest.mark.usefixtures("in_environment")
def test_a_job_ends_with_one_sentence_and_an_engine_starts_from_its_cache(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--import-ids"]) == 0
    assert "ours by the same ids" in capsys.readouterr().out
    server.failures, server.for_ever = [503], True
    assert jobs.main("silver", silver.job.run, None, ["--available-now"]) == 1
    said = capsys.readouterr().err
    assert f"SchemaRegistryUnavailable: The schema registry at {server.url} does not answer" in said
    assert "schemas.url" in said
    # The engine comes as far as the broker, which is not there either.
    engine = [sys.executable, "-m", "decisions.job"]
    done = subprocess.run(engine, cwd=conf.home(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cached schemas are in force" in done.stderr
    assert "BrokerUnavailable" in done.stderr


@pytest.mark.usefixtures("in_environment")
def test_the_command_checks_imports_and_says_what_lacks(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    assert "--import-ids" in capsys.readouterr().err
    assert main(["--import-ids"]) == 0
    assert "payment 1 as 9" in capsys.readouterr().out
    assert main(["--import-ids"]) == 0
    assert "imported: nothing new" in capsys.readouterr().out


def test_there_is_nothing_to_import_into_without_a_registry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--import-ids"]) == 1
    assert "Set schemas.registry to http" in capsys.readouterr().err


def test_a_new_file_gets_the_id_that_the_registry_gives(server: Server, client: SchemaRegistry, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "schemas"))
    server.put("somebody else's", schema(MORE), id_=40)
    (folder / "thing.v1.avsc").write_text(json.dumps(schema(ID)))
    assert register(folder, client.register) == ["thing.v1.avsc"]
    assert json.loads((folder / "registry.json").read_text())[-1]["id"] == 41
    # Without a registry the ids are counted on from there.
    (folder / "thing.v2.avsc").write_text(json.dumps(schema(ID, MORE)))
    register(folder)
    assert json.loads((folder / "registry.json").read_text())[-1]["id"] == 42
