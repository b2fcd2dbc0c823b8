import base64
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from lakehouse import keys, signing
from lakehouse.errors import KeysMissing


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("keys")
    signing.create(made, ("author", "approver"), keys.write_private)
    return made


def test_a_signature_verifies_for_its_key_role_and_message_only(folder: Path) -> None:
    author, approver = (signing.signer(folder / f"{role}.pem") for role in ("author", "approver"))
    trust = signing.trust(folder)
    signature = author.sign(b"message")
    assert trust.verifies(author.key_id, "author", b"message", signature)
    assert not trust.verifies(author.key_id, "author", b"messagf", signature)
    assert not trust.verifies(author.key_id, "approver", b"message", signature)
    assert not trust.verifies(approver.key_id, "author", b"message", signature)
    assert not trust.verifies(approver.key_id, "approver", b"message", signature)
    assert not trust.verifies("author-000000000000", "author", b"message", signature)


@pytest.mark.parametrize("signature", [b"", b"\x00" * 63, b"\x00" * 64, b"\x00" * 65, b"\xff" * 64])
def test_what_is_no_signature_does_not_verify(folder: Path, signature: bytes) -> None:
    author = signing.signer(folder / "author.pem")
    assert not signing.trust(folder).verifies(author.key_id, "author", b"message", signature)


def test_a_key_id_is_its_role_and_the_start_of_its_fingerprint(folder: Path) -> None:
    entries = orjson.loads((folder / "trusted.json").read_bytes())
    author = signing.signer(folder / "author.pem")
    assert author.key_id.startswith("author-")
    assert entries[author.key_id]["roles"] == ["author"]
    assert len(base64.b64decode(entries[author.key_id]["public"])) == 32


def test_the_trusted_file_holds_no_private_key(folder: Path) -> None:
    pem = (folder / "author.pem").read_bytes()
    private = serialization.load_pem_private_key(pem, None)
    raw = private.private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )
    trusted = (folder / "trusted.json").read_bytes()
    assert base64.b64encode(raw) not in trusted
    assert raw.hex().encode() not in trusted
    assert raw.hex() not in repr(signing.signer(folder / "author.pem"))


def test_missing_and_foreign_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(KeysMissing, match=r"There is no .*nobody\.pem\. `make keys`"):
        signing.signer(tmp_path / "nobody.pem")
    with pytest.raises(KeysMissing, match=r"There is no .*trusted\.json"):
        signing.trust(tmp_path)
    pem = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    keys.write_private(tmp_path / "author.pem", pem)
    with pytest.raises(KeysMissing, match=r"author\.pem is not an Ed25519 key"):
        signing.signer(tmp_path / "author.pem")


def test_a_signing_key_that_others_can_read_signs_nothing(tmp_path: Path) -> None:
    signing.create(tmp_path, ("author",), keys.write_private)
    (tmp_path / "author.pem").chmod(0o640)
    with pytest.raises(KeysMissing, match=r"author\.pem can be read by others\. chmod 600 .*author\.pem"):
        signing.signer(tmp_path / "author.pem")
