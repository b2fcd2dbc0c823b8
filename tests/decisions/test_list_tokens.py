"""Entries of lists after the token key was changed: nobody is left on a list, or off it, by an older name."""

from argparse import Namespace

import orjson

from decisions.list_control import list_payload, suppression_payload
from lakehouse.crypto import Tokens, up_to
from lakehouse.keys import Keyring

RING = Keyring({1: b"1" * 32, 2: b"2" * 32})
CARD, CUSTOMER = "4539148803436467", "C-17"


def token(version, kind, value):
    return Tokens(RING, version).texts(kind, [value.encode()])[0]


def payload(make, tmp_path, value, version, **given):
    file = tmp_path / "values.txt"
    file.write_text(value + "\n")
    return orjson.loads(make(Namespace(file=str(file), **given), up_to(RING, version)))


def test_taking_a_card_off_a_list_takes_it_off_under_every_name(tmp_path):
    found = payload(list_payload, tmp_path, CARD, 2, what="remove", list="block", kind="card")
    assert [one["token"] for one in found["remove"]] == [token(2, "card", CARD), token(1, "card", CARD)]
    assert found["add"] == []


def test_putting_a_card_on_a_list_again_replaces_the_entry_under_its_older_name(tmp_path):
    given = {"what": "add", "list": "block", "kind": "card", "reason": "stolen", "expires": None}
    found = payload(list_payload, tmp_path, CARD, 2, **given)
    assert [one["token"] for one in found["add"]] == [token(2, "card", CARD)]
    assert found["remove"] == [{"list": "block", "kind": "card", "token": token(1, "card", CARD)}]
    assert payload(list_payload, tmp_path, CARD, 1, **given)["remove"] == []


def test_a_suppression_follows_the_same_way(tmp_path):
    found = payload(suppression_payload, tmp_path, CUSTOMER, 2, what="remove", rule="burst")
    assert [one["customer"] for one in found["remove"]] == [
        token(2, "customer", CUSTOMER),
        token(1, "customer", CUSTOMER),
    ]


def test_a_merchant_has_one_name(tmp_path):
    found = payload(list_payload, tmp_path, "M-1", 2, what="remove", list="block", kind="merchant")
    assert [one["token"] for one in found["remove"]] == ["M-1"]
