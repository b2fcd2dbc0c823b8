"""Where webhooks may go; every way around that is known, refused."""

import socket
from ipaddress import ip_address, ip_network

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.alerts.addresses import Refused, pinned, public, target

PUBLIC = "93.184.215.14"
NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "metadata.google.internal": ["169.254.169.254"],
    "inside.example": ["10.1.2.3"],
    "half-inside.example": [PUBLIC, "10.1.2.3"],
    "half-inside-6.example": [PUBLIC, "::1"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "strange.example": ["not an address"],
    "scoped.example": ["fe80::1%eth0"],
    "nowhere.example": [],
}


def lenient(host, port):
    """A resolver that takes every form of a number that libc takes, and knows the names above; others are public."""
    if host in NAMES:
        return NAMES[host]
    if ":" in host:
        return [host]
    try:
        return [socket.inet_ntoa(socket.inet_aton(host))]
    except OSError:
        return [PUBLIC]


FORMS = """
https://127.0.0.1/ https://127.1/ https://127.0.1/ https://2130706433/ https://017700000001/ https://0x7f000001/
https://0x7F.0.0.1/ https://0177.0.0.1/ https://0177.0.0.01/ https://127.0.0.0x1/ https://0x7f.1/ https://127.000.000.001/
https://00000177.0.0.1/ https://127.0.0.1./ https://0/ https://0.0.0.0/ https://0x0/ https://00/ https://1/
https://4294967295/ https://9999999999/ https://127.0.0.256/ https://127.0.0.1.1/ https://0x/ https://localhost/
https://LOCALHOST/ https://localhost./ https://10.0.0.1/ https://0xa000001/ https://172.16.0.1/ https://172.31.255.255/
https://192.168.1.1/ https://3232235777/ https://169.254.169.254/ https://2852039166/ https://0xA9FEA9FE/
https://0251.0376.0251.0376/ https://169.254.43518/ https://100.64.0.1/ https://100.100.100.200/ https://168.63.129.16/
https://192.0.0.192/ https://192.0.2.1/ https://198.18.0.1/ https://203.0.113.9/ https://224.0.0.1/ https://255.255.255.255/
https://240.0.0.1/ https://[::1]/ https://[::]/ https://[0:0:0:0:0:0:0:1]/ https://[::ffff:127.0.0.1]/
https://[::ffff:7f00:1]/ https://[::ffff:a9fe:a9fe]/ https://[::127.0.0.1]/ https://[64:ff9b::7f00:1]/
https://[64:ff9b:1::1]/ https://[2002:7f00:1::]/ https://[2001:0:7f00:1::]/ https://[fe80::1]/ https://[fe80::1%25eth0]/
https://[fe80::1%eth0]/ https://[fc00::1]/ https://[fd00:ec2::254]/ https://[ff02::1]/ https://[2001:db8::1]/
https://[::ffff:0:127.0.0.1]/ https://[::1 https://[::1].example/ https://[127.0.0.1]/ https://[v1.x]/
https://user@example.com/ https://user:word@example.com/ https://example.com@127.0.0.1/ https://127.0.0.1#@example.com/
https://example.com#@127.0.0.1/ https://127.0.0.1\\@example.com/ https://example.com\\.inside.example/
https://%6c%6f%63%61lhost/ https://127%2e0%2e0%2e1/ https://example.com%00.inside.example/ https:///127.0.0.1/
https:// https:/127.0.0.1/ https:127.0.0.1 //127.0.0.1/ https://example.com:0/ https://example.com:/
https://example.com:99999/ https://example.com:8o/ https://example.com//127.0.0.1/ https://-x.example/
https://a..example/ https://metadata.google.internal/ https://inside.example/ https://half-inside.example/
https://half-inside-6.example/ https://127.0.0.1.nip.example/ https://strange.example/ https://scoped.example/
https://nowhere.example/ http://example.com/ http://127.0.0.1/ ftp://example.com/ file:///etc/passwd gopher://example.com/
javascript:1 data:,x
""".split()  # noqa: SIM905
ODD = [
    "https://\uff11\uff12\uff17.0.0.1/",  # full-width digits
    "https://\u24db\u24de\u24d2\u24d0lhost/",  # letters in circles
    "https://127\u30020\u30020\u30021/",  # ideographic full stops
    "https://loc\u00adalhost/",  # a soft hyphen
    "https://exa mple.com/",
    "https://example.com/\r\nX-Injected: 1",
    "https://example.com\t.inside.example/",
    " https://127.0.0.1/",
    "https://example.com/" + "x" * 2048,
    "https://" + "a" * 64 + ".example/",
    "https://" + ".".join(["a" * 60] * 5) + "/",
    "",
]


@pytest.mark.parametrize("url", FORMS + ODD)
def test_what_leads_inside_or_could_be_read_in_two_ways_is_refused(url):
    with pytest.raises(Refused) as refused:
        pinned(target(url), lenient, ())
    assert "127" not in str(refused.value)


def test_there_are_more_than_sixty_forms():
    assert len(set(FORMS + ODD)) > 100


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://example.com", PUBLIC),
        ("https://Example.COM:8443/a/b?c=d", PUBLIC),
        ("https://xn--bcher-kva.example/", PUBLIC),
        ("https://93.184.215.14/", PUBLIC),
        ("https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/x", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"),
    ],
)
def test_what_is_public_is_reached(url, address):
    assert pinned(target(url), lenient, ()) == address


def test_only_the_networks_that_are_named_are_reached_though_they_are_not_public():
    allowed = [ip_network("10.1.2.0/24")]
    assert pinned(target("https://inside.example/"), lenient, allowed) == "10.1.2.3"
    assert pinned(target("http://10.1.2.9:8080/"), lenient, allowed) == "10.1.2.9"
    assert public(ip_address("::ffff:10.1.2.3"), allowed)
    for url in ("https://10.1.3.1/", "https://localhost/", "http://example.com/"):
        with pytest.raises(Refused):
            pinned(target(url), lenient, allowed)


def test_a_name_is_resolved_once_so_that_it_cannot_change_its_address_after_the_check():
    answers = [[PUBLIC], ["127.0.0.1"]]
    assert pinned(target("https://rebinding.example/"), lambda host, port: answers.pop(0), ()) == PUBLIC
    assert answers == [["127.0.0.1"]]
    with pytest.raises(Refused):
        pinned(target("https://rebinding.example/"), lambda host, port: answers.pop(0), ())


@given(st.ip_addresses(v=4))
def test_a_public_address_is_public_to_python_too_and_stays_what_it_is_when_mapped(address):
    if public(address, ()):
        assert address.is_global
        assert not address.is_multicast
    assert public(ip_address(f"::ffff:{address}"), ()) == public(address, ())


@hypothesis.settings(max_examples=50)
@given(st.text(max_size=60))
def test_whatever_is_written_is_a_target_or_refused(text):
    try:
        where = target(f"https://{text}/")
    except Refused:
        return
    assert where.host in text.lower() or ":" in where.host
