import base64
import hashlib
import hmac
import os
from pathlib import Path

import cloudpickle
import orjson
import pytest

from lakehouse import keys, signing
from lakehouse import settings as conf
from lakehouse.errors import KeysMissing
from lakehouse.keys import Keyring, KeySource

FIRST, SECOND = bytes(range(32)), bytes(range(32, 64))


def hkdf(master: bytes, info: str) -> bytes:
    """RFC 5869 with SHA-256 for one block, by hand."""
    extracted = hmac.digest(b"fraudlake", master, hashlib.sha256)
    return hmac.digest(extracted, info.encode() + b"\x01", hashlib.sha256)


def _written(folder: Path, masters: object, mode: int = 0o600) -> Path:
    path = folder / "keyring.json"
    path.write_bytes(orjson.dumps(masters))
    path.chmod(mode)
    return path


def test_a_derived_key_is_hkdf_of_purpose_and_version() -> None:
    ring = Keyring({1: FIRST, 2: SECOND})
    assert ring.derive("token|card", 1) == hkdf(FIRST, "token|card|v1")
    assert ring.derive("token|card") == hkdf(SECOND, "token|card|v2")
    assert ring.derive("token|card", 1).hex() == "216e023095a26aecc3e0765ab956672a53468cdb05b52a7f8303c313b6ac07dd"


def test_no_two_purposes_or_versions_share_a_key() -> None:
    ring = Keyring({1: FIRST, 2: SECOND, 3: FIRST})
    purposes = ("token|card", "token|customer", "digest|payload", "seal|silver", "seal|bronze|2026-01-01")
    derived = [ring.derive(purpose, version) for purpose in purposes for version in (1, 2, 3)]
    assert len(set(derived)) == len(derived) == 15


def test_a_version_that_is_not_held_is_named() -> None:
    with pytest.raises(KeysMissing, match="Master key version 3 is not held"):
        Keyring({1: FIRST, 2: SECOND}).derive("token|card", 3)


def test_the_environment_holds_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUDLAKE_MASTER_KEY_V1", base64.b64encode(FIRST).decode())
    monkeypatch.setenv("FRAUDLAKE_MASTER_KEY_V10", base64.b64encode(SECOND).decode())
    ring = KeySource("environment", "").keyring()
    assert (ring.masters, ring.current) == ({1: FIRST, 10: SECOND}, 10)


def test_an_environment_without_keys_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(keys.VARIABLE)]:
        monkeypatch.delenv(name)
    with pytest.raises(KeysMissing, match="FRAUDLAKE_MASTER_KEY_V1 is not set"):
        keys.from_environment()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("not base64!", "is not base64"),
        ("ключ", "is not base64"),
        ("c2hvcnQ=", "has 5 bytes, expected 32"),
        (base64.b64encode(bytes(33)).decode(), "has 33 bytes, expected 32"),
        (base64.b64encode(bytes(32)).decode(), "is not random"),
        (base64.b64encode(b"0123456789abcdef" * 2).decode(), "is not random"),
        (base64.b64encode(b"changemechangemechangemechangeme").decode(), "is not random"),
    ],
)
def test_a_master_key_of_another_form_is_refused_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    monkeypatch.setenv("FRAUDLAKE_MASTER_KEY_V1", text)
    with pytest.raises(KeysMissing, match=f"FRAUDLAKE_MASTER_KEY_V1 {why}") as refused:
        keys.from_environment()
    assert text not in str(refused.value)


def test_a_file_holds_versions(tmp_path: Path) -> None:
    _written(tmp_path, {"masters": {"1": base64.b64encode(FIRST).decode(), "2": base64.b64encode(SECOND).decode()}})
    assert keys.from_file(tmp_path).masters == {1: FIRST, 2: SECOND}


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    _written(tmp_path, {"masters": {"1": base64.b64encode(FIRST).decode()}})
    assert keys.from_file(tmp_path).current == 1
    path = _written(tmp_path, {"masters": {"2": base64.b64encode(SECOND).decode()}})
    os.utime(path, ns=(1, 1))
    assert keys.from_file(tmp_path).current == 2


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeysMissing, match=r"There is no .*keyring\.json\. `make keys`"):
        keys.from_file(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601])
def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    _written(tmp_path, {"masters": {"1": base64.b64encode(FIRST).decode()}}, mode)
    with pytest.raises(KeysMissing, match=r"can be read by others\. chmod 600"):
        keys.from_file(tmp_path)


@pytest.mark.parametrize("content", [{}, [], {"masters": {}}, {"masters": None}])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: object) -> None:
    _written(tmp_path, content)
    with pytest.raises(KeysMissing, match="holds no master keys"):
        keys.from_file(tmp_path)


def test_nothing_that_is_printed_or_shipped_holds_a_key(tmp_path: Path) -> None:
    _written(tmp_path, {"masters": {"1": base64.b64encode(FIRST).decode()}})
    source = KeySource("file", str(tmp_path))
    ring = source.keyring()
    derived = ring.derive("token|card")
    shown = repr(ring) + repr(source)
    shipped = cloudpickle.dumps(source)
    for key in (FIRST, derived):
        for form in (
            key,
            key.hex().encode(),
            base64.b64encode(key),
            base64.urlsafe_b64encode(key),
            repr(key)[2:-1].encode(),
        ):
            assert form not in shown.encode()
            assert form not in shipped


def test_local_keys_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    made = keys.create(folder)
    assert sorted(made) == [
        *(
            "api-analyst.key",
            "api-local.key",
            "api-officer.key",
            "api-replay.key",
            "api_keys.json",
            "approver.pem",
            "author.pem",
            "keyring.json",
            "trail.pem",
            "trusted.json",
        )
    ]
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == dict.fromkeys(made, "0o600")
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert keys.create(folder) == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_is_missing_of_local_keys_is_made_and_the_rest_stays(tmp_path: Path) -> None:
    keys.create(tmp_path)
    ring = keys.from_file(tmp_path).masters
    old = signing.signer(tmp_path / "approver.pem").key_id
    (tmp_path / "approver.pem").unlink()
    assert keys.create(tmp_path) == ["approver.pem", "trusted.json"]
    trusted = signing.trust(tmp_path)
    assert {old, signing.signer(tmp_path / "approver.pem").key_id} < set(trusted.publics)
    assert keys.from_file(tmp_path).masters == ring


MADE = ("author.pem", "approver.pem", "trail.pem", "trusted.json", "api-local.key", "api-officer.key", "api_keys.json")


@pytest.mark.parametrize("name", MADE)
def test_what_ended_before_a_file_was_made_is_finished_by_the_next(tmp_path: Path, name: str) -> None:
    """Every signature is trusted, and every API key is listed as the file that holds it."""
    in_the_way = tmp_path / f"{name}.new"
    in_the_way.mkdir()
    with pytest.raises(IsADirectoryError):
        keys.create(tmp_path)
    in_the_way.rmdir()
    keys.create(tmp_path)
    trust = signing.trust(tmp_path)
    for role in ("author", "approver", "trail"):
        signer = signing.signer(tmp_path / f"{role}.pem")
        assert trust.verifies(signer.key_id, role, b"message", signer.sign(b"message"))
    listed = {entry["name"]: entry["sha256"] for entry in orjson.loads((tmp_path / "api_keys.json").read_bytes())}
    held = {name: (tmp_path / f"api-{name}.key").read_text() for name in keys.LOCAL_KEYS}
    assert listed == {name: keys.api_key_digest(key) for name, key in held.items()}


def test_api_keys_are_stored_as_digests(tmp_path: Path) -> None:
    keys.create(tmp_path)
    entries = orjson.loads((tmp_path / "api_keys.json").read_bytes())
    assert [(e["name"], e["roles"]) for e in entries] == [
        ("local", ["decide", "alerts"]),
        ("replay", ["decide", "replay"]),
        ("analyst", ["read", "label", "alerts"]),
        ("officer", ["read", "reveal"]),
    ]
    for entry in entries:
        key = (tmp_path / f"api-{entry['name']}.key").read_text()
        assert len(base64.urlsafe_b64decode(key + "=")) == 32
        assert entry["sha256"] == hashlib.sha256(key.encode()).hexdigest()


def test_an_api_key_is_made_by_name_with_roles_and_is_in_the_audit_trail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.create(tmp_path / "keys")
    monkeypatch.setenv("FRAUDLAKE__KEYS__FOLDER", str(tmp_path / "keys"))
    monkeypatch.setenv("FRAUDLAKE__TRAIL__FOLDER", str(tmp_path / "trail"))
    monkeypatch.setenv("FRAUDLAKE__TRAIL__HEADS_FOLDER", str(tmp_path / "heads"))
    keys.main(["api", "desk-2", "--roles", "read,label"])
    entry = orjson.loads((tmp_path / "keys" / "api_keys.json").read_bytes())[-1]
    assert (entry["name"], entry["roles"]) == ("desk-2", ["read", "label"])
    key = (tmp_path / "keys" / "api-desk-2.key").read_text()
    assert keys.api_key_digest(key) == entry["sha256"]
    told = (tmp_path / "trail" / "trail.jsonl").read_text()
    assert "api-desk-2.key" in told
    assert key not in told + capsys.readouterr().out
    with pytest.raises(KeysMissing, match="There is a key desk-2"):
        keys.main(["api", "desk-2", "--roles", "read"])
    for wrong in (["api", "desk-3"], ["api", "desk-3", "--roles", "root"], ["api", "Desk", "--roles", "read"]):
        with pytest.raises(SystemExit):
            keys.main(wrong)


def test_the_settings_say_where_the_keys_are() -> None:
    settings = conf.load()
    assert keys.source(settings) == KeySource("file", str(settings.keys.folder))
