"""Tokens against vectors made by hand from hmac and hashlib: they may never change without a new key version."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.crypto import (
    TOKEN_KINDS,
    Digests,
    Mac,
    Tokens,
    canonical,
    entity_key_of_token,
    entity_keys,
    up_to,
    version_of,
)
from lakehouse.errors import KeysMissing
from lakehouse.keys import Keyring
from tests.lakehouse.test_keys import FIRST, SECOND, hkdf

RING = Keyring({1: FIRST, 2: SECOND})


def _by_hand(master: bytes, version: int, kind: str, form: bytes) -> bytes:
    key = hkdf(master, f"token|{kind}|v{version}")
    return hmac.digest(key, len(form).to_bytes(4, "big") + form, hashlib.sha256)


FORMS = {
    "card": (b"4539 1488-0343 6467", b"4539148803436467"),
    "customer": (b" C-17 ", b"C-17"),
    "device": (b"Device-1\n", b"Device-1"),
    "ip": (b"2001:DB8:0:0:0:0:0:1", b"2001:db8::1"),
    "email": (" Jörg@Example.COM ".encode(), "jörg@example.com".encode()),
    "address": ("  12 Main\tSTRASSE  Straße ".encode(), b"12 main strasse strasse"),
}

GOLDEN = {
    "card": "v1:crPMPSlnM3_wZKBYpo4djvqi",
    "customer": "v1:x1mQLkLkvOIwZdVjjtayGCC_",
    "device": "v1:wucuhp8jv4Q2m37_WpAQGGnM",
    "ip": "v1:vic1re44euelkpfGydBixWCv",
    "email": "v1:xnwN8B8z6rIwTpN_BJF2JY4E",
    "address": "v1:WZXHruOx5bqSblDVEh1qxiAf",
}


@pytest.mark.parametrize("kind", TOKEN_KINDS)
def test_a_token_is_what_it_was_when_it_was_first_given(kind: str) -> None:
    tokens = Tokens(RING, 1)
    assert tokens.text(tokens.digests(kind, [FORMS[kind][0]])[0]) == GOLDEN[kind]


@pytest.mark.parametrize(("version", "master"), [(1, FIRST), (2, SECOND)])
@pytest.mark.parametrize("kind", TOKEN_KINDS)
def test_a_token_is_an_hmac_of_length_and_canonical_form(kind: str, version: int, master: bytes) -> None:
    written, form = FORMS[kind]
    digest = _by_hand(master, version, kind, form)
    tokens = Tokens(RING, version)
    assert tokens.digests(kind, [written, form]) == [digest, digest]
    assert tokens.text(digest) == f"v{version}:{base64.urlsafe_b64encode(digest[:18]).decode()}"


def test_a_new_master_key_changes_no_token_until_its_version_is_chosen() -> None:
    assert Tokens(RING).text(bytes(32)) == "v1:AAAAAAAAAAAAAAAAAAAAAAAA"
    chosen = Keyring({1: FIRST, 2: SECOND}, tokens=2)
    assert Tokens(chosen).text(bytes(32)) == "v2:AAAAAAAAAAAAAAAAAAAAAAAA"


def test_long_values_have_their_whole_length_in_front() -> None:
    for size in (1023, 1024, 70_000):
        assert Tokens(RING, 1).digests("customer", [b"x" * size]) == [_by_hand(FIRST, 1, "customer", b"x" * size)]


SAME = [
    ("card", "4539148803436467", "4539-1488 0343\t6467\r\n"),
    ("email", "a@b.example", "  A@B.EXAMPLE\n"),
    ("email", "strasse@b.example", "STRAẞE@b.example"),
    ("address", "1 rue de l'église 75001", "1  Rue de l'ÉGLISE\n75001 "),
    ("ip", "2001:db8::1", "2001:0DB8:0000:0000:0000:0000:0000:0001"),
    ("ip", "10.0.0.1", " 10.0.0.1"),
    ("customer", "C1", "C1 "),
    ("device", "d", "\td"),
]
DIFFERENT = [
    ("card", "4539148803436467", "4539148803436468"),
    ("customer", "C1", "c1"),
    ("device", "d1", "D1"),
    ("email", "ab@c.example", "a.b@c.example"),
    ("address", "12 a", "1 2a"),
    ("ip", "10.0.0.1", "10.0.0.10"),
    ("ip", "2001:db8::1", "2001:db8::1:0"),
    ("ip", "not:an:address", "NOT:an:address"),
]


@pytest.mark.parametrize(("kind", "one", "other"), SAME)
def test_what_means_the_same_has_one_form(kind: str, one: str, other: str) -> None:
    assert canonical(kind, one.encode()) == canonical(kind, other.encode())


@pytest.mark.parametrize(("kind", "one", "other"), DIFFERENT)
def test_what_differs_keeps_its_form(kind: str, one: str, other: str) -> None:
    assert canonical(kind, one.encode()) != canonical(kind, other.encode())


@given(kind=st.sampled_from(TOKEN_KINDS), text=st.text(max_size=60))
def test_a_canonical_form_is_its_own_canonical_form(kind: str, text: str) -> None:
    once = canonical(kind, text.encode())
    assert canonical(kind, once) == once


def test_the_same_value_has_another_token_in_every_kind() -> None:
    tokens = Tokens(RING, 1)
    assert len({tokens.digests(kind, [b"4539148803436467"])[0] for kind in TOKEN_KINDS}) == len(TOKEN_KINDS)


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=5))
def test_a_token_holds_its_entity_key(digests: list[bytes]) -> None:
    tokens = Tokens(RING, 1)
    by_hand = [int.from_bytes(digest[:8], "little", signed=True) for digest in digests]
    assert entity_keys(digests).tolist() == by_hand
    assert [entity_key_of_token(tokens.text(digest)) for digest in digests] == by_hand


def test_no_digests_have_no_entity_keys() -> None:
    assert entity_keys([]).tolist() == []


@given(key=st.binary(min_size=1, max_size=64), message=st.binary(max_size=800))
def test_a_mac_is_hmac_sha256(key: bytes, message: bytes) -> None:
    assert Mac(key).digest(message) == hmac.digest(key, message, hashlib.sha256)


def test_digests_are_hmacs_under_keys_of_version_1() -> None:
    digests = Digests(RING)

    def by_hand(purpose: str, message: bytes) -> bytes:
        return hmac.digest(hkdf(FIRST, f"digest|{purpose}|v1"), message, hashlib.sha256)[:16]

    assert digests.payload(memoryview(b"record")) == by_hand("payload", b"record")
    assert digests.identity("payment", b"t1") == by_hand("identity", b"payment\x00t1")
    assert digests.content("payment", b"before", memoryview(b"after")) == by_hand("content", b"payment\x00beforeafter")


def test_kinds_do_not_share_identities() -> None:
    digests = Digests(RING)
    assert digests.identity("label", b"x") != digests.identity("outcome", b"x")


def test_what_nobody_can_open_gets_a_keyed_digest_of_its_token_and_kind() -> None:
    old, key = GOLDEN["card"], hkdf(SECOND, "token|carried|v2")
    digest = hmac.digest(key, b"card\0" + old.encode(), hashlib.sha256)
    tokens = Tokens(RING, 2)
    assert tokens.carried("card", old) == f"v2:{base64.urlsafe_b64encode(digest[:18]).decode()}"
    assert tokens.carried("device", old) != tokens.carried("card", old)


def test_tokens_of_every_version_are_made_up_to_the_one_in_force_and_no_further() -> None:
    names = [tokens.texts("card", [FORMS["card"][0]])[0] for tokens in up_to(RING, 2)]
    assert names[0] == GOLDEN["card"]
    assert [version_of(name) for name in names] == [1, 2]
    with pytest.raises(KeysMissing, match=r"master key version 3 here, which this process does not hold.*keys rotate"):
        up_to(RING, 3)
