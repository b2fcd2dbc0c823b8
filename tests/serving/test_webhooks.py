"""Webhooks to a real receiver on loopback."""

import hashlib
import hmac
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from serving.alerts.webhooks import ID, SIGNATURE, TIMESTAMP, NotDelivered, Webhook, resolved
from tests.serving.alerting import SECRET, receiving

LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture(scope="module")
def receiver():
    odd = {"hang": "hang", "drip": "drip", "headers": "headers", "endless": "endless"}
    with receiving(moved=302, forever=308, broken=500, missing=404, gone=410, **odd) as server:
        yield server


def webhook(url, allowed=LOOPBACK, resolver=resolved, timeout_s=0.4):
    return Webhook(url, SECRET, allowed, timeout_s, resolver)


def test_what_is_sent_is_signed_with_its_time_and_carries_its_id(receiver):
    webhook(f"{receiver.url}/in?x=1").post("m1", 1_700_000_000, b'{"a":1}')
    got = receiver.got.pop()
    expected = hmac.new(SECRET.encode(), b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    assert (got.path, got.body) == ("/in?x=1", b'{"a":1}')
    assert (got.headers[ID], got.headers[TIMESTAMP], got.headers[SIGNATURE]) == ("m1", "1700000000", f"v1={expected}")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("moved", "answered 302: redirects are not followed"),
        ("forever", "answered 308: redirects are not followed"),
        ("broken", "answered 500"),
        ("missing", "answered 404"),
        ("gone", "answered 410"),
        ("hang", r"no answer within 0\.4 s|TimeoutError"),
        ("drip", r"no answer within 0\.4 s"),
        ("headers", "HTTPException"),
    ],
)
def test_a_receiver_that_does_not_take_it_is_told_apart_and_over_in_time(receiver, path, why):
    before = len(receiver.got)
    with pytest.raises(NotDelivered, match=why) as failed:
        webhook(f"{receiver.url}/{path}").post("m1", 1, b"{}")
    assert [one.path for one in receiver.got[before:]] == [f"/{path}"]
    assert receiver.url not in str(failed.value)


def test_an_answer_without_end_is_not_read(receiver):
    # It comes back at all.
    webhook(f"{receiver.url}/endless").post("m1", 1, b"{}")


def test_the_connection_goes_to_the_address_that_was_checked(receiver):
    port = receiver.server_port
    webhook(f"http://no-such-host.example:{port}/", resolver=lambda host, at: ["127.0.0.1"]).post("m1", 1, b"{}")
    assert receiver.got.pop().headers["Host"] == f"no-such-host.example:{port}"


def test_nobody_is_connected_to_where_nothing_may_be_sent(receiver):
    before = len(receiver.got)
    with pytest.raises(NotDelivered, match="refused: the host is on a network that is not public"):
        webhook(f"{receiver.url}/", allowed=()).post("m1", 1, b"{}")
    assert len(receiver.got) == before


def test_a_receiver_that_cannot_speak_tls_gets_nothing(receiver):
    before = len(receiver.got)
    with pytest.raises(NotDelivered, match=r"SSLError|SSLEOFError|no answer"):
        webhook(receiver.url.replace("http:", "https:")).post("m1", 1, b"{}")
    assert len(receiver.got) == before


@pytest.fixture
def over_tls(tmp_path, monkeypatch):
    """A receiver with a certificate for hooks.example, which this process trusts."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), critical=False)
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    held = key.private_bytes(pem, private, serialization.NoEncryption())
    path = tmp_path / "hooks.pem"
    path.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem) + held)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with receiving() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield server


def test_tls_is_spoken_to_the_pinned_address_and_the_certificate_is_of_the_name(over_tls):
    port = over_tls.server_port

    def deliver(host):
        webhook(f"https://{host}:{port}/", resolver=lambda *_: ["127.0.0.1"], timeout_s=2).post("m1", 1, b"{}")

    deliver("hooks.example")
    assert over_tls.got.pop().headers["Host"] == f"hooks.example:{port}"
    with pytest.raises(NotDelivered, match="SSLCertVerificationError"):
        deliver("other.example")
    assert over_tls.got == []


def test_neither_url_nor_secret_are_in_what_a_webhook_shows_of_itself(receiver):
    shown = repr(webhook("https://hooks.example/services/T0/secret-path"))
    assert "secret-path" not in shown
    assert SECRET not in shown
