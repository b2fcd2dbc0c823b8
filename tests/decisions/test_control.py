"""The control tool on a real log: what it activates admission accepts, and what admission would refuse it refuses."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from decisions.control import activate, encoded, in_force, main, prepared
from expectations.control import Version, payload_digest
from lakehouse import broker as log
from lakehouse import keys, signing, topics, trail
from lakehouse.crypto import Digests
from lakehouse.errors import BrokerUnavailable, ControlRefused, KeysMissing, TrailBroken
from lakehouse.settings import Settings
from tests.expectations.intake import Verdict, admitted
from tests.expectations.worlds import fresh
from tests.lakehouse.records import DAY, REFERENCE, T0, raw, raw_control, signed

PAYLOAD = orjson.dumps(REFERENCE, option=orjson.OPT_SORT_KEYS).decode()
CHANGED = orjson.dumps({**REFERENCE, "country_risk": {}}, option=orjson.OPT_SORT_KEYS).decode()
MODEL = '{"digest":"' + "ab" * 32 + '"}'


@pytest.fixture
def world(broker: str, settings: Settings) -> Settings:
    topics.ensure(settings)
    return settings


def _activate(settings: Settings, scope: str = "reference", payload: str = PAYLOAD, **changes: Any) -> int:
    folder = settings.keys.folder
    author, approver = (folder / changes.get(role, f"{role}.pem") for role in ("author", "approver"))
    return activate(settings, scope, payload, author, approver)[1]


def _versions(settings: Settings) -> dict[str, Version]:
    return in_force(settings, signing.trust(settings.keys.folder))


def _verdicts(settings: Settings) -> list[Verdict]:
    name = topics.topic_name(settings, topics.EVENTS)
    messages = log.read_range(settings, name, 0, 0, log.watermarks(settings, name, 0)[1])
    return admitted(
        fresh(signing.trust(settings.keys.folder)),
        [message.value() or b"" for message in messages],
        [message.timestamp()[1] for message in messages],
        Digests(keys.source(settings).keyring()),
    )


def _write(settings: Settings, *records: bytes) -> None:
    writer = log.producer(settings)
    for record in records:
        writer.produce(topics.topic_name(settings, topics.EVENTS), record, partition=0)
    assert writer.flush(10) == 0


def test_what_is_activated_is_accepted_and_the_next_version_follows_it(world: Settings) -> None:
    assert _versions(world) == {}
    assert [_activate(world), _activate(world, payload=CHANGED)] == [0, 1]
    assert _activate(world, "staging", MODEL) == 2
    with pytest.raises(ControlRefused, match="model abababababab is not staged"):
        _activate(world, "model", MODEL)
    _write(world, raw("staged", staged_id="s0", refused="It was altered."), raw("staged"))
    assert _activate(world, "model", MODEL) == 5
    assert _versions(world) == {
        "reference": Version(2, payload_digest(CHANGED), CHANGED),
        "staging": Version(1, payload_digest(MODEL), MODEL),
        "model": Version(1, payload_digest(MODEL), MODEL),
    }
    _write(world, raw("payment"))
    assert _verdicts(world) == [Verdict("accepted")] * 7


def test_a_change_is_in_the_trail_before_and_after_it_is_on_the_log(world: Settings) -> None:
    def told() -> list[tuple[str, str, dict[str, Any]]]:
        return [(e.action, e.subject, dict(e.details)) for e in trail.entries(trail.place_of(world))]

    before = len(told())
    _activate(world)
    with pytest.raises(ControlRefused):
        _activate(world, payload=CHANGED, approver="author.pem")
    names = {role: signing.signer(world.keys.folder / f"{role}.pem").key_id for role in ("author", "approver")}
    (signed_, activated) = told()[before:]
    assert (signed_[:2], activated[:2]) == (
        ("control.signed", "reference version 1"),
        ("control.activated", "reference version 1"),
    )
    assert signed_[2] == {**names, "digest": payload_digest(PAYLOAD), "control_id": signed_[2]["control_id"]}
    assert activated[2] == {**signed_[2], "offset": 0}


def test_without_the_trail_nothing_is_put_into_force(world: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    blocked = world.model_copy(update={"trail": world.trail.model_copy(update={"folder": tmp_path / "file"})})
    with pytest.raises(TrailBroken):
        _activate(blocked)
    assert _versions(world) == {}


def test_what_the_log_refuses_does_not_count_as_in_force(world: Settings) -> None:
    folder = world.keys.folder
    digest = payload_digest(PAYLOAD)
    _write(
        world,
        raw_control(signed(folder, author_signature=b"", control_id="c0")),
        raw("payment"),
        b"no record",
        raw_control(signed(folder)),
        raw_control(signed(folder, version=2, previous_digest="00" * 32, control_id="c2")),
        raw_control(signed(folder, version=2, previous_digest=digest, control_id="c3"))[:-1],
        raw_control(signed(folder, version=2, previous_digest=digest, control_id="c" * 65)),
        raw_control(signed(folder, version=2, previous_digest=digest, control_id="c4"), received_at=T0 + 36_500 * DAY),
    )
    assert _versions(world) == {"reference": Version(1, digest, PAYLOAD)}
    assert _activate(world, payload=CHANGED) == 8
    assert _verdicts(world)[-1] == Verdict("accepted")


def test_nobody_approves_their_own_change(world: Settings) -> None:
    with pytest.raises(ControlRefused, match="The author approved their own change"):
        _activate(world, approver="author.pem")
    with pytest.raises(ControlRefused, match="The author's signature by approver-"):
        _activate(world, author="approver.pem", approver="author.pem")
    assert _verdicts(world) == []


def test_somebody_who_is_not_trusted_cannot_sign(world: Settings, tmp_path: Path) -> None:
    keys.create(tmp_path / "strangers")
    with pytest.raises(ControlRefused, match=r"The author's signature by author-.* does not verify"):
        activate(world, "reference", PAYLOAD, tmp_path / "strangers/author.pem", world.keys.folder / "approver.pem")
    with pytest.raises(KeysMissing, match=r"There is no .*\.pem"):
        activate(world, "reference", PAYLOAD, tmp_path / "nobody.pem", world.keys.folder / "approver.pem")
    assert _verdicts(world) == []


def test_a_payload_that_is_wrong_is_not_written(world: Settings) -> None:
    with pytest.raises(ControlRefused, match="must have exactly the keys"):
        _activate(world, payload="{}")
    with pytest.raises(ControlRefused, match="must name the bundle"):
        _activate(world, "model", '{"digest":"abc"}')
    assert _verdicts(world) == []


def test_a_change_that_was_prepared_on_older_versions_is_refused(world: Settings) -> None:
    author, approver = (signing.signer(world.keys.folder / f"{role}.pem") for role in ("author", "approver"))
    stale = prepared("reference", CHANGED, {}, author, approver)
    _activate(world)
    _write(world, encoded(stale, T0))
    assert [verdict.status for verdict in _verdicts(world)] == ["accepted", "quarantined"]
    assert _verdicts(world)[1].reasons == ("control_refused: reference version 1 does not follow version 1.",)
    assert _versions(world)["reference"].digest == payload_digest(PAYLOAD)


def test_an_event_for_imported_history_is_received_in_its_time(
    world: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = world.keys.folder
    event, offset = activate(world, "reference", PAYLOAD, folder / "author.pem", folder / "approver.pem", T0)
    name = topics.topic_name(world, topics.EVENTS)
    (message,) = log.read_range(world, name, 0, offset, offset + 1)
    assert message.value() == raw_control(event, received_at=T0)
    assert [verdict.status for verdict in _verdicts(world)] == ["accepted"]
    in_an_hour = int(time.time() * 1000) + 3_600_000
    with pytest.raises(ControlRefused, match="in the future"):
        activate(world, "reference", CHANGED, folder / "author.pem", folder / "approver.pem", in_an_hour)
    for text in ("2026-01-05", "2026-01-05T12:00:00", "yesterday"):
        with pytest.raises(SystemExit):
            main(["activate", "--scope", "reference", "--file", "x.json", "--received-at", text])
        assert f"{text} is no time with its time zone" in capsys.readouterr().err


def test_an_event_is_written_as_every_writer_writes_it(world: Settings) -> None:
    event = signed(world.keys.folder)
    assert encoded(event, T0) == raw_control(event, received_at=T0)


def test_without_a_broker_nothing_is_claimed(settings: Settings) -> None:
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:9", "request_timeout_s": 1})
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9 does not answer"):
        _activate(settings.model_copy(update={"kafka": kafka}))


def _run(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    env = {**os.environ, "FRAUDLAKE__KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix}
    env["FRAUDLAKE__LAKE__ROOT"] = settings.lake.root
    command = [sys.executable, "-m", "decisions.control", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_the_command_activates_and_shows(world: Settings, tmp_path: Path) -> None:
    (tmp_path / "reference.json").write_text(orjson.dumps(REFERENCE, option=orjson.OPT_INDENT_2).decode())
    digest = payload_digest(PAYLOAD)
    assert _run(world, "activate", "--scope", "reference", "--file", str(tmp_path / "reference.json")) == (
        *(0, f"reference version 1 (payload {digest[:12]}) is on the log at offset 0\n", ""),
    )
    status, shown, _ = _run(world, "show")
    assert (status, shown) == (0, f"reference  version 1  digest {digest}  {PAYLOAD[:80]}\n")
    status, _, why = _run(world, "activate", "--scope", "model", "--digest", "abc")
    assert (status, why.splitlines()[-1]) == (
        *(1, "ControlRefused: The staging payload must name the bundle: {'digest': SHA-256 in hex}."),
    )


def test_a_scope_needs_its_payload(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--scope", "model"], ["--scope", "reference", "--digest", "ab" * 32]):
        with pytest.raises(SystemExit):
            main(["activate", *arguments])
        assert "--scope model, shadow and staging need --digest, the others --file" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "{not json"])
def test_a_file_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "reference.json").write_text(content)
    assert main(["activate", "--scope", "reference", "--file", str(tmp_path / "reference.json")]) == 1
    assert "reference.json" in capsys.readouterr().err
