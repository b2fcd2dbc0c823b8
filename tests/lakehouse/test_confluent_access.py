"""Who may ask a schema registry: credentials, certificates, and what of them is never said."""

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lakehouse.agreement import agreed
from lakehouse.confluent import PASSWORD, TOKEN, SchemaRegistry
from lakehouse.errors import SchemaRefused, SchemaRegistryUnavailable, SettingsError
from tests.lakehouse.confluent import ID, Configured, Server, schema, serving


def test_credentials_come_from_files_or_the_environment(
    server: Server, configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("open sesame\n")
    (tmp_path / "token").write_text("a-token\n")
    SchemaRegistry(configured(user="ali", password_file=tmp_path / "password").schemas).versions("thing")
    SchemaRegistry(configured(token_file=tmp_path / "token").schemas).versions("thing")
    monkeypatch.setenv(PASSWORD, "other")
    SchemaRegistry(configured(user="ali").schemas).versions("thing")
    monkeypatch.setenv(TOKEN, "b-token")
    SchemaRegistry(configured().schemas).versions("thing")
    assert server.authorizations == [
        "Basic YWxpOm9wZW4gc2VzYW1l",
        "Bearer a-token",
        "Basic YWxpOm90aGVy",
        "Bearer b-token",
    ]


def test_credentials_are_in_no_message_and_in_no_log(
    server: Server, configured: Configured, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(TOKEN, "canary-token-17")
    server.wanted = "Bearer another"
    with pytest.raises(SettingsError) as refused:
        agreed(configured())
    server.failures, server.for_ever = [500], True
    with pytest.raises(SchemaRegistryUnavailable) as away:
        agreed(configured())
    assert "canary" not in f"{refused.value!r} {away.value!r} {''.join(capsys.readouterr())}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "ftp://registry"}, r"schemas\.url is no http or https address"),
        ({"url": "https://ali:secret@registry:8081"}, r"schemas\.url holds credentials"),
        ({"user": "ali"}, r"schemas\.user has no password"),
        ({"token_file": Path("/nowhere/token")}, "/nowhere/token cannot be read"),
        ({"url": "https://registry", "ca_file": Path("/nowhere/ca")}, "/nowhere/ca cannot be read"),
    ],
)
def test_settings_that_cannot_work_are_refused_without_a_secret_in_the_words(
    configured: Configured, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words) as refused:
        SchemaRegistry(configured(**changes).schemas)
    assert "secret" not in str(refused.value)


def test_credentials_do_not_travel_unencrypted(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "a-token")
    with pytest.raises(SettingsError, match="Credentials would travel unencrypted"):
        SchemaRegistry(configured(url="http://registry:8081").schemas)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that signed itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "registry.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(private + made.public_bytes(pem))
    return path


def test_certificates_are_verified_unless_somebody_says_not_to(configured: Configured, certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with serving(tls) as server:
        server.put("thing", schema(ID))
        with pytest.raises(SchemaRefused, match=r"certificate that does not verify: .*schemas\.ca_file"):
            SchemaRegistry(configured(url=server.url).schemas).versions("thing")
        assert server.asked == []
        assert SchemaRegistry(configured(url=server.url, ca_file=certificate).schemas).versions("thing") == [1]
        assert SchemaRegistry(configured(url=server.url, verify_tls=False).schemas).versions("thing") == [1]
